// SPDX-License-Identifier: Apache-2.0
// The history of a database's backups: size and stored size as bars of time, duration as a line.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Backup } from "../api/client";
import { bytes, duration } from "./format";
import { Empty } from "./parts";

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const POWERS_OF_TWO = Array.from({ length: 50 }, (_, power) => 2 ** power);
const HEIGHT = 250;
const DAY_SECONDS = 86400;

function moment(at: number, step: number): string {
  const date = new Date(at * 1000);
  if (step >= DAY_SECONDS) return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return date.toLocaleTimeString(undefined, { timeStyle: step < 60 ? "medium" : "short" });
}

function options(width: number, height: number): uPlot.Options {
  const axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line") },
  };
  return {
    width,
    height,
    cursor: { points: { size: 7 } },
    legend: { live: true },
    scales: {
      x: { time: true },
      bytes: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] },
      time: { range: (_, __, max) => [0, max > 0 ? max * 1.2 : 1] },
    },
    axes: [
      { ...axis, values: (_, splits, __, ___, step) => splits.map((value) => moment(value, step)) },
      {
        ...axis,
        scale: "bytes",
        size: 76,
        incrs: POWERS_OF_TWO,
        values: (_, splits) => splits.map((value) => bytes(value)),
      },
      {
        ...axis,
        scale: "time",
        side: 1,
        size: 64,
        grid: { show: false },
        values: (_, splits) => splits.map((value) => duration(value)),
      },
    ],
    series: [
      { label: "Backup", value: (_, value) => (value ? new Date(value * 1000).toLocaleString() : "–") },
      {
        label: "Size",
        scale: "bytes",
        stroke: colour("--accent"),
        width: 2,
        value: (_, value) => bytes(value ?? undefined),
      },
      {
        label: "Stored",
        scale: "bytes",
        stroke: colour("--busy"),
        width: 2,
        fill: colour("--busy-soft"),
        value: (_, value) => bytes(value ?? undefined),
      },
      {
        label: "Duration",
        scale: "time",
        stroke: colour("--warn"),
        width: 2,
        dash: [4, 4],
        value: (_, value) => duration(value ?? undefined),
      },
    ],
  };
}

export function HistoryChart(props: { backups: Backup[] }) {
  const element = useRef<HTMLDivElement>(null);
  const backups = props.backups
    .filter((backup) => backup.state === "succeeded" && backup.finished_at && backup.started_at)
    .sort((a, b) => a.created_at!.localeCompare(b.created_at!));
  const key = backups.map((backup) => backup.id).join();

  useEffect(() => {
    const host = element.current;
    if (!host || backups.length < 2) return;
    const time = (text: string | undefined): number => new Date(text ?? 0).getTime() / 1000;
    const data: uPlot.AlignedData = [
      backups.map((backup) => time(backup.checkpoint_at ?? backup.finished_at)),
      backups.map((backup) => backup.size_bytes),
      backups.map((backup) => backup.stored_bytes),
      backups.map((backup) => time(backup.finished_at) - time(backup.started_at)),
    ];
    // The legend tells the newest until the pointer asks for another.
    const hooks = { ready: [(plot: uPlot) => plot.setLegend({ idx: backups.length - 1 })] };
    const draw = (): uPlot => new uPlot({ ...options(host.clientWidth, HEIGHT), hooks }, data, host);
    let plot = draw();
    const observer = new ResizeObserver(() => plot.setSize({ width: host.clientWidth, height: HEIGHT }));
    observer.observe(host);
    const redraw = new MutationObserver(() => {
      plot.destroy();
      plot = draw();
    });
    redraw.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      observer.disconnect();
      redraw.disconnect();
      plot.destroy();
    };
  }, [key]);

  if (backups.length < 2) return <Empty title="No history yet">The chart begins with the second backup.</Empty>;
  return (
    <div
      ref={element}
      class="chart"
      role="img"
      aria-label={`Size, stored size and duration of ${backups.length} backups`}
    />
  );
}
