// SPDX-License-Identifier: Apache-2.0
// The phases of a backup's shards on one time line.
import type { Attempt, ShardBackup } from "../api/client";
import { clock, duration, words } from "./format";
import { useNow } from "./hooks";

const PHASES = [
  "launch",
  "seed",
  "restore",
  "start",
  "replay",
  "ready",
  "checkpoint",
  "stop",
  "publish",
  "commit",
  "destroy",
];

interface Bar {
  phase: string;
  from: number;
  to: number;
  isOpen: boolean;
}

function bars(attempt: Attempt, now: number): Bar[] {
  return attempt.phases
    .filter((record) => record.started_at)
    .map((record) => ({
      phase: record.phase ?? "",
      from: new Date(record.started_at!).getTime(),
      to: record.ended_at
        ? new Date(record.ended_at).getTime()
        : attempt.finished_at
          ? new Date(attempt.finished_at).getTime()
          : now,
      isOpen: !record.ended_at && !attempt.finished_at,
    }));
}

function describe(bar: Bar): string {
  return `${bar.phase}: ${duration((bar.to - bar.from) / 1000)}, from ${clock(new Date(bar.from).toISOString())}`;
}

export function Waterfall(props: { shards: ShardBackup[]; isRunning: boolean }) {
  const now = useNow(props.isRunning ? 500 : 60000);
  const rows = props.shards.flatMap((shard) =>
    shard.attempts.map((attempt, index) => ({ shard, attempt, index, bars: bars(attempt, now) })),
  );
  const all = rows.flatMap((row) => row.bars);
  if (all.length === 0) return <p class="muted pad">Nothing has started yet.</p>;
  const start = Math.min(...all.map((bar) => bar.from));
  const end = Math.max(...all.map((bar) => bar.to), start + 1000);
  const place = (time: number): string => `${((time - start) / (end - start)) * 100}%`;
  const used = PHASES.filter((phase) => all.some((bar) => bar.phase === phase));
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => start + part * (end - start));

  return (
    <div class="waterfall">
      <ul class="legend" aria-label="Phases">
        {used.map((phase) => (
          <li key={phase}>
            <span class={`swatch phase-${phase}`} />
            {phase}
          </li>
        ))}
      </ul>
      <div class="rows" tabIndex={rows.length > 20 ? 0 : undefined} role="group" aria-label="Time line">
        {rows.map(({ shard, attempt, index, bars: own }) => (
          <div class="row" key={attempt.id}>
            <div class="name" title={attempt.message || undefined}>
              {shard.shard}
              {shard.attempts.length > 1 && <span class="muted"> try {index + 1}</span>}
              {attempt.state !== "running" && attempt.state !== "committed" && (
                <span class="bad"> {words(attempt.state)}</span>
              )}
            </div>
            <div class="track">
              {own.map((bar) => (
                <div
                  key={bar.phase}
                  class={`bar phase-${bar.phase} ${bar.isOpen ? "open" : ""}`}
                  style={{ left: place(bar.from), width: `max(2px, ${((bar.to - bar.from) / (end - start)) * 100}%)` }}
                  title={describe(bar)}
                />
              ))}
            </div>
          </div>
        ))}
        <div class="row axis" aria-hidden="true">
          <div class="name" />
          <div class="track">
            {ticks.map((tick, index) => (
              <span key={index} style={{ left: place(tick) }}>
                {duration((tick - start) / 1000)}
              </span>
            ))}
          </div>
        </div>
      </div>
      <table class="visually-hidden">
        <caption>Phases of each shard</caption>
        <tbody>
          {rows.flatMap(({ shard, attempt, bars: own }) =>
            own.map((bar) => (
              <tr key={attempt.id + bar.phase}>
                <td>{shard.shard}</td>
                <td>{bar.phase}</td>
                <td>{duration((bar.to - bar.from) / 1000)}</td>
              </tr>
            )),
          )}
        </tbody>
      </table>
    </div>
  );
}
