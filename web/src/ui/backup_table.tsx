// SPDX-License-Identifier: Apache-2.0
// Backups as a table.
import type { Backup } from "../api/client";
import { bytes, duration } from "./format";
import { Badge, Kept, Link, Progress, Time } from "./parts";

function took(backup: Backup): string {
  if (!backup.started_at || !backup.finished_at) return "–";
  return duration((new Date(backup.finished_at).getTime() - new Date(backup.started_at).getTime()) / 1000);
}

export function BackupTable(props: { backups: Backup[]; withDatabase?: boolean }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>Started</th>
            {props.withDatabase && <th>Database</th>}
            <th>State</th>
            <th>By</th>
            <th class="number">Generation</th>
            <th class="number">Shards</th>
            <th class="number">Size</th>
            <th class="number">New</th>
            <th class="number">Stored</th>
            <th class="number">Skew</th>
            <th class="number">Took</th>
          </tr>
        </thead>
        <tbody>
          {props.backups.map((backup) => (
            <tr key={backup.id}>
              <td>
                <Link to={`backups/${backup.id}`}>
                  <Time at={backup.created_at} />
                </Link>
              </td>
              {props.withDatabase && (
                <td>
                  <Link to={`databases/${encodeURIComponent(backup.database)}`}>{backup.database}</Link>
                </td>
              )}
              <td>
                <Badge state={backup.state} title={backup.message} /> <Kept backup={backup} />
                {backup.state === "running" && <Progress value={backup.progress} label="Progress" tone="busy" />}
              </td>
              <td>{backup.policy || backup.trigger}</td>
              <td class="number">
                {backup.state === "succeeded" ? (backup.generation === 0 ? "seed" : backup.generation) : "–"}
              </td>
              <td class="number">
                {backup.committed_count}/{backup.shard_count}
              </td>
              <td class="number">{bytes(backup.size_bytes)}</td>
              <td class="number">{bytes(backup.new_bytes)}</td>
              <td class="number">{bytes(backup.stored_bytes)}</td>
              <td class="number">{backup.checkpoint_skew ? duration(backup.checkpoint_skew) : "–"}</td>
              <td class="number">{took(backup)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
