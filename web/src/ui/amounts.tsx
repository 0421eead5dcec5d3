// SPDX-License-Identifier: Apache-2.0
// How much a backup is, took and left: of one shard or all, as bars of one scale.
import type { ShardBackup } from "../api/client";
import { bytes, percent } from "./format";

type Amount = "size_bytes" | "received_bytes" | "read_bytes" | "new_bytes" | "stored_bytes";

const ROWS: [Amount, string, string][] = [
  ["size_bytes", "Size", "What a restore writes"],
  ["received_bytes", "Sent by the source", "The seed, or the log since the parent"],
  ["read_bytes", "Read to publish", "Of the data directory"],
  ["new_bytes", "New", "What the parent does not have"],
  ["stored_bytes", "Stored", "New, deduplicated and compressed"],
];

// Why so much was read.
function reading(shards: ShardBackup[]): string {
  const seeds = shards.filter((shard) => shard.generation === 0).length;
  const full = shards.filter((shard) => shard.reads_everything).length;
  if (seeds === shards.length) return "A seed: there was no parent, so everything but holes was read.";
  if (full === 0) return "Read: only what the recorder of writes had noted since the parent was restored.";
  const which = full === shards.length ? "A full read" : `A full read of ${full} of ${shards.length} shards`;
  return `${which}: everything but holes was read, which checks the recorder of writes.`;
}

export function Amounts(props: { shards: ShardBackup[] }) {
  const shards = props.shards.filter((shard) => shard.state === "committed");
  if (shards.length === 0) return <p class="muted pad">Told when a shard is committed.</p>;
  const sum = (amount: Amount): number => shards.reduce((total, shard) => total + shard[amount], 0);
  const size = sum("size_bytes");
  const most = Math.max(1, ...ROWS.map(([amount]) => sum(amount)));
  const missed = shards.reduce((total, shard) => total + shard.unrecorded_bytes, 0);
  return (
    <>
      <dl class="amounts">
        {ROWS.map(([amount, label, hint]) => (
          <div key={amount} title={hint}>
            <dt>{label}</dt>
            <dd class="bar-place" aria-hidden="true">
              <div class={`amount ${amount}`} style={{ width: `${(sum(amount) / most) * 100}%` }} />
            </dd>
            <dd>
              {bytes(sum(amount))}
              <span class="muted"> {amount !== "size_bytes" && size > 0 && percent(sum(amount) / size)}</span>
            </dd>
          </div>
        ))}
      </dl>
      <p class="muted">{reading(shards)}</p>
      {missed > 0 && (
        <p class="bad">
          The recorder had missed {bytes(missed)}, which this full read found. The backup has it, and the database is
          read in full until the recorder is trusted again.
        </p>
      )}
    </>
  );
}
