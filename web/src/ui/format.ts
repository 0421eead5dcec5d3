// SPDX-License-Identifier: Apache-2.0
// Numbers and times as people read them.

export function bytes(value: number | undefined): string {
  if (value === undefined || value < 0) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let index = 0;
  let number = value;
  while (number >= 1024 && index < units.length - 1) {
    number /= 1024;
    index += 1;
  }
  return `${number >= 100 || index === 0 ? Math.round(number) : number.toFixed(1)} ${units[index]}`;
}

// A protobuf duration ("90s", "0.25s") in seconds.
export function seconds(duration: string | undefined): number | undefined {
  return duration ? Number.parseFloat(duration) : undefined;
}

function twoUnits(value: number, base: number, large: string, small: string): string {
  const rest = value % base;
  return `${Math.floor(value / base)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

export function duration(value: number | string | undefined): string {
  const number = typeof value === "string" ? seconds(value) : value;
  if (number === undefined || Number.isNaN(number)) return "–";
  if (number < 1) return `${Math.round(number * 1000)} ms`;
  if (number < 60) return `${number < 10 ? number.toFixed(1) : Math.round(number)} s`;
  if (number < 3600) return twoUnits(Math.round(number), 60, "min", "s");
  if (number < 86400) return twoUnits(Math.round(number / 60), 60, "h", "min");
  return twoUnits(Math.round(number / 3600), 24, "d", "h");
}

export function relative(time: string | undefined, now: number): string {
  if (!time) return "never";
  const difference = (new Date(time).getTime() - now) / 1000;
  const size = Math.abs(difference);
  const text =
    size < 5
      ? "now"
      : size < 60
        ? `${Math.round(size)} s`
        : size < 3600
          ? `${Math.round(size / 60)} min`
          : size < 86400
            ? `${Math.round(size / 3600)} h`
            : `${Math.round(size / 86400)} d`;
  if (text === "now") return text;
  return difference < 0 ? `${text} ago` : `in ${text}`;
}

export function absolute(time: string | undefined): string {
  if (!time) return "";
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

export function clock(time: string | undefined): string {
  if (!time) return "";
  return new Date(time).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

// A sentence of the server with its moments in the reader's time.
export function sentence(text: string | undefined): string {
  return (text ?? "").replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, (moment) => {
    const date = new Date(moment);
    const isNear = Math.abs(date.getTime() - Date.now()) < 12 * 3600 * 1000;
    return date.toLocaleString(
      undefined,
      isNear ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" },
    );
  });
}

export function percent(value: number): string {
  return `${Math.round(value * 100)} %`;
}

export function words(slug: string | undefined): string {
  return (slug ?? "").replace(/_/g, " ");
}
