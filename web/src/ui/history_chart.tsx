// SPDX-License-Identifier: Apache-2.0
// What backups took and made, over time: of a database, and of a repository.
import type { Backup } from "../api/client";
import { Chart } from "./chart";
import { Empty } from "./parts";

const secondsOf = (time: string | undefined): number => new Date(time ?? 0).getTime() / 1000;

function TooFew() {
  return <Empty title="No history yet">The chart begins with the second backup.</Empty>;
}

// The backups of one database: size and stored size, and how long they took.
export function HistoryChart(props: { backups: Backup[] }) {
  const backups = props.backups
    .filter((backup) => backup.state === "succeeded" && backup.finished_at && backup.started_at)
    .sort((a, b) => a.created_at!.localeCompare(b.created_at!));
  if (backups.length < 2) return <TooFew />;
  return (
    <Chart
      label={`Size, stored size and duration of ${backups.length} backups`}
      version={backups.map((backup) => backup.id).join()}
      times={backups.map((backup) => secondsOf(backup.checkpoint_at ?? backup.finished_at))}
      lines={[
        { label: "Size", unit: "bytes", colour: "accent", values: backups.map((backup) => backup.size_bytes) },
        {
          label: "Stored",
          unit: "bytes",
          colour: "busy",
          isFilled: true,
          values: backups.map((backup) => backup.stored_bytes),
        },
        {
          label: "Duration",
          unit: "time",
          colour: "warn",
          isDashed: true,
          values: backups.map((backup) => secondsOf(backup.finished_at) - secondsOf(backup.started_at)),
        },
      ]}
    />
  );
}

// How what a repository stores now came together: what each backup that is there added, counted back from now.
export function GrowthChart(props: { backups: Backup[]; storedBytes: number }) {
  const backups = props.backups
    .filter((backup) => backup.state !== "deleted" && backup.stored_bytes > 0 && backup.finished_at)
    .sort((a, b) => a.finished_at!.localeCompare(b.finished_at!));
  if (backups.length < 2) return <TooFew />;
  const totals: number[] = [];
  let total = props.storedBytes;
  for (const backup of [...backups].reverse()) {
    totals.unshift(Math.max(0, total));
    total -= backup.stored_bytes;
  }
  return (
    <Chart
      label={`What ${backups.length} backups added to what is stored`}
      version={`${props.storedBytes} ${backups.map((backup) => backup.id).join()}`}
      times={backups.map((backup) => secondsOf(backup.finished_at))}
      lines={[
        { label: "Stored", unit: "bytes", colour: "busy", isFilled: true, shape: "steps", values: totals },
        {
          label: "Added by the backup",
          unit: "bytes",
          colour: "accent",
          shape: "bars",
          values: backups.map((backup) => backup.stored_bytes),
        },
      ]}
    />
  );
}
