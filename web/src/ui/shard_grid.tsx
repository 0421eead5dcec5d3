// SPDX-License-Identifier: Apache-2.0
// A running backup at a glance: one tile a shard, filled by its progress.
import type { ShardBackup } from "../api/client";
import { bytes, duration, words } from "./format";
import { Link } from "./parts";

function tone(shard: ShardBackup): string {
  if (shard.state === "committed") return "good";
  if (shard.state === "failed") return "bad";
  if (shard.state === "running") return "busy";
  return "muted";
}

function stateText(shard: ShardBackup): string {
  if (shard.state === "running") {
    const rate = shard.rate_bytes_per_second > 0 ? ` · ${bytes(shard.rate_bytes_per_second)}/s` : "";
    const eta = shard.eta ? ` · ${duration(shard.eta)} left` : "";
    return `${words(shard.phase) || "starting"}${rate}${eta}`;
  }
  if (shard.state === "committed") {
    return `${shard.generation === 0 ? "seed" : `generation ${shard.generation}`} · ${bytes(shard.stored_bytes)} new`;
  }
  return words(shard.reason) || words(shard.state);
}

function spoken(shard: ShardBackup): string {
  const progress =
    shard.state === "running" ? ` ${words(shard.phase)}, ${Math.round(shard.progress * 100)} percent` : "";
  return `Shard ${shard.shard}: ${words(shard.state)}${progress}`;
}

const ROOMY_MAX = 48; // more shards get small tiles

export function ShardGrid(props: { backup: string; shards: ShardBackup[]; chosen?: string }) {
  return (
    <div class={`shard-grid ${props.shards.length > ROOMY_MAX ? "dense" : ""}`}>
      {props.shards.map((shard) => (
        <Link
          key={shard.id}
          to={`backups/${props.backup}/${encodeURIComponent(shard.shard)}`}
          class={`tile ${tone(shard)} ${props.chosen === shard.shard ? "chosen" : ""}`}
          label={spoken(shard)}
        >
          <div class="fill" style={{ width: `${(shard.state === "committed" ? 1 : shard.progress) * 100}%` }} />
          <div class="text">
            <strong>{shard.shard}</strong>
            <span>{stateText(shard)}</span>
          </div>
        </Link>
      ))}
    </div>
  );
}
