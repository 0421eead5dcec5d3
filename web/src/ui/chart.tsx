// SPDX-License-Identifier: Apache-2.0
// A chart over time that has the width of its place and the colours of the theme.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { bytes, duration } from "./format";

const POWERS_OF_TWO = Array.from({ length: 50 }, (_, power) => 2 ** power);
const HEIGHT = 250;
const DAY_SECONDS = 86400;

// A line of the chart; `colour` names a colour of the theme.
export interface Line {
  label: string;
  values: number[];
  unit: "bytes" | "time";
  colour: string;
  isFilled?: boolean;
  isDashed?: boolean;
  shape?: "steps" | "bars"; // left out: from value to value
}

// A canvas needs the colour itself, which the theme in use decides.
function colourOf(name: string): string {
  const probe = document.body.appendChild(document.createElement("span"));
  probe.style.color = `var(--${name})`;
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function moment(at: number, step: number): string {
  const date = new Date(at * 1000);
  if (step >= DAY_SECONDS) return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return date.toLocaleTimeString(undefined, { timeStyle: step < 60 ? "medium" : "short" });
}

function seriesOf(line: Line): uPlot.Series {
  const write = line.unit === "bytes" ? bytes : duration;
  const paths =
    line.shape === "steps"
      ? uPlot.paths.stepped?.({ align: 1 })
      : line.shape === "bars"
        ? uPlot.paths.bars?.({ size: [0.5, 12] })
        : undefined;
  return {
    label: line.label,
    scale: line.unit,
    stroke: colourOf(line.colour),
    width: 2,
    ...(line.isFilled && { fill: colourOf(`${line.colour}-soft`) }),
    ...(line.isDashed && { dash: [4, 4] }),
    ...(paths && { paths }),
    ...(line.shape === "bars" && { fill: colourOf(line.colour), points: { show: false } }),
    value: (_, value) => write(value ?? undefined),
  };
}

function options(width: number, lines: Line[]): uPlot.Options {
  const axis = {
    stroke: colourOf("muted"),
    grid: { stroke: colourOf("line"), width: 1 },
    ticks: { stroke: colourOf("line") },
  };
  const axes: uPlot.Axis[] = [
    { ...axis, values: (_, splits, __, ___, step) => splits.map((value) => moment(value, step)) },
    {
      ...axis,
      scale: "bytes",
      size: 76,
      incrs: POWERS_OF_TWO,
      values: (_, splits) => splits.map((value) => bytes(value)),
    },
  ];
  if (lines.some((line) => line.unit === "time")) {
    axes.push({
      ...axis,
      scale: "time",
      side: 1,
      size: 64,
      grid: { show: false },
      values: (_, splits) => splits.map((value) => duration(value)),
    });
  }
  return {
    width,
    height: HEIGHT,
    cursor: { points: { size: 7 } },
    legend: { live: true },
    scales: {
      x: { time: true },
      bytes: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] },
      time: { range: (_, __, max) => [0, max > 0 ? max * 1.2 : 1] },
    },
    axes,
    series: [
      { label: "Backup", value: (_, value) => (value ? new Date(value * 1000).toLocaleString() : "–") },
      ...lines.map(seriesOf),
    ],
  };
}

// `times`: seconds since 1970, ascending, one for each value of every line. Drawn anew when `version` changes.
export function Chart(props: { label: string; version: string; times: number[]; lines: Line[] }) {
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const host = element.current;
    if (!host) return;
    const data: uPlot.AlignedData = [props.times, ...props.lines.map((line) => line.values)];
    // The legend tells the newest until the pointer asks for another.
    const hooks = { ready: [(plot: uPlot) => plot.setLegend({ idx: props.times.length - 1 })] };
    const draw = (): uPlot => new uPlot({ ...options(host.clientWidth, props.lines), hooks }, data, host);
    let plot = draw();
    const observer = new ResizeObserver(() => plot.setSize({ width: host.clientWidth, height: HEIGHT }));
    observer.observe(host);
    const redraw = () => {
      plot.destroy();
      plot = draw();
    };
    const chosen = new MutationObserver(redraw);
    chosen.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const preferred = window.matchMedia("(prefers-color-scheme: dark)");
    preferred.addEventListener("change", redraw);
    return () => {
      observer.disconnect();
      chosen.disconnect();
      preferred.removeEventListener("change", redraw);
      plot.destroy();
    };
  }, [props.version]);
  return <div ref={element} class="chart" role="img" aria-label={props.label} />;
}
