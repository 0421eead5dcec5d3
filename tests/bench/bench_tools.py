# SPDX-License-Identifier: Apache-2.0
"""What every benchmark needs: places, measuring a command, samples that become rows, a table, JSON and a chart."""

import json
import os
import resource
import statistics
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RESULTS = os.path.join(ROOT, "bench-results")
STATE = os.path.join(os.environ.get("HOLDFAST_DEV_STATE") or os.path.join(ROOT, ".dev"), "bench")


def say(text):
    print(text, flush=True)


def measured(command, environment=None, directory=None):
    """Runs a program to its end: its output, the seconds it took, and the processor seconds of it and its children."""
    start, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        command,
        check=False,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    seconds, now = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)[:400]} failed:\n{result.stderr.decode(errors='replace')[-2000:]}")
    return result.stdout, seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def pipeline(command):
    return ["bash", "-euo", "pipefail", "-c", command]


def drop_caches():
    """Cold caches for everyone, where we may."""
    os.sync()
    if os.geteuid() == 0:
        try:
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                file.write("3\n")
        except OSError:
            pass  # in a container


def tree_bytes(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(directory, name)) for directory, _, names in os.walk(path) for name in names
    )


class Samples:
    """Measurements by what was measured and by whom."""

    def __init__(self):
        self.values = {}
        self.units = {}

    def note(self, name, who, value, unit="s"):
        self.values.setdefault(name, {}).setdefault(who, []).append(value)
        self.units[name] = unit

    def median(self, name, who):
        return statistics.median(self.values[name][who])

    def spread(self, name, who):
        values = self.values[name][who]
        return (max(values) - min(values)) / statistics.median(values) if statistics.median(values) else 0.0

    def peers(self, name):
        return [who for who in self.values.get(name, {}) if who != "ours"]


def compared(name, unit, ours, peer, peer_name, ratio, bar, spread):
    """One line of the results. A ratio above 1: ours is better; `bar` is what it must reach, None: only shown."""
    return {
        "name": name,
        "unit": unit,
        "ours": round(ours, 4),
        "peer": round(peer, 4),
        "peer_name": peer_name,
        "ratio": round(ratio, 3),
        "bar": bar,
        "holds": None if bar is None else ratio >= bar,
        "spread": round(spread, 3),
    }


def row(samples, name, peer, bar):
    """Ours against one peer; less is better."""
    ours, theirs = samples.median(name, "ours"), samples.median(name, peer)
    ratio = theirs / ours if ours and theirs else 0.0
    spread = max(samples.spread(name, "ours"), samples.spread(name, peer))
    return compared(name, samples.units[name], ours, theirs, peer, ratio, bar, spread)


def show(rows):
    print(f"\n{'':58} {'ours':>10} {'peer':>10} {'':5} {'ratio':>6} {'bar':>5} {'':5} {'spread':>6}  peer")
    for one in rows:
        bar = "" if one["bar"] is None else f"{one['bar']:.2f}"
        holds = {None: "", True: "holds", False: "FAILS"}[one["holds"]]
        peer, ratio = (f"{one['peer']:.2f}", f"{one['ratio']:.2f}") if one["peer_name"] else ("", "")
        print(
            f"{one['name']:58} {one['ours']:10.2f} {peer:>10} {one['unit']:5} {ratio:>6} {bar:>5} "
            f"{holds:5} {one['spread']:6.0%}  {one['peer_name']}"
        )


def write_results(name, rows):
    os.makedirs(RESULTS, exist_ok=True)
    with open(os.path.join(RESULTS, f"{name}.json"), "w", encoding="ascii") as file:
        json.dump(rows, file, indent=1)
    with open(os.path.join(RESULTS, f"{name}.svg"), "w", encoding="ascii") as file:
        file.write(chart(name, rows))


def chart(title, rows):
    """Bars of ratios, with a mark where the bar to reach is."""
    height, left, width, step = 60 + 22 * len(rows), 520, 360, 22
    most = max([one["ratio"] for one in rows] + [one["bar"] or 0 for one in rows] + [2])
    scale = width / most
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="12" y="24" font-size="16">{title}: how many times better than the peer</text>',
        f'<line x1="{left + scale:.1f}" y1="36" x2="{left + scale:.1f}" y2="{height - 12}" stroke="#999"/>',
    ]
    for number, one in enumerate(rows):
        y = 44 + step * number
        color = "#b3261e" if one["holds"] is False else "#1d6f5c"
        label = " / ".join(text for text in (one["name"], one["peer_name"]) if text)
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{label}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{one["ratio"] * scale:.1f}" height="15" fill="{color}"/>')
        parts.append(f'<text x="{left + one["ratio"] * scale + 6:.1f}" y="{y + 12}">{one["ratio"]:.2f}</text>')
        if one["bar"] is not None:
            x = left + one["bar"] * scale
            parts.append(
                f'<line x1="{x:.1f}" y1="{y - 2}" x2="{x:.1f}" y2="{y + 17}" stroke="#000" stroke-width="2"/>'
            )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
