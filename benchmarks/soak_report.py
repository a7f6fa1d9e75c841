"""The table of a soak: levels, slopes and verdicts, from its samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

WARM_UP_SHARE, LEAST_WARM_UP_S = 0.1, 60.0
"""Left out at the start: programs load what they need, buffers fill."""
BLOCKS = 60
"""Slopes are taken over the medians of so many blocks of time, as neighbouring samples are not independent."""
MIB = 2**20


@dataclass(frozen=True)
class Limit:
    """How much a series may rise in an hour: ``share`` of its level or ``least``, whichever is more."""

    share: float
    least: float


LIMITS = {
    "memory": Limit(0.02, 5 * MIB),
    "open files": Limit(0.0, 1.0),
    "threads": Limit(0.0, 1.0),
    "processes": Limit(0.0, 1.0),
    "Ray's files": Limit(0.0, 50 * MIB),
}
UNITS = {"memory": MIB, "Ray's files": MIB, "sweep's files": MIB}
"""Shown in MiB; ``sweep's files`` are results, which grow with every trial, and have no limit."""


@dataclass(frozen=True)
class Trend:
    """One line of the table; levels and slopes in the unit of the series."""

    sweep: str
    role: str
    quantity: str
    first: float
    last: float
    slope: float
    low: float
    high: float
    limit: float | None

    @property
    def within(self) -> bool:
        """Whether the slope is within the limit, or cannot be told from such a slope."""
        return self.limit is None or self.low <= self.limit


def trend(sweep: str, role: str, quantity: str, hours: np.ndarray, values: np.ndarray) -> Trend | None:
    """Levels and slope of a series; None with too few values.

    Args:
        sweep: Which sweep.
        role: Which of its processes.
        quantity: A key of ``LIMITS``, or another.
        hours: (T,) when each value was taken.
        values: (T,) NaN where there was none.
    """
    unit = UNITS.get(quantity, 1)
    there = np.isfinite(values)
    hours, values = hours[there], values[there] / unit
    if len(values) < 8:
        return None
    edges = np.linspace(hours[0], hours[-1], min(BLOCKS, len(values) // 2) + 1)
    block = np.clip(np.searchsorted(edges, hours, side="right") - 1, 0, len(edges) - 2)
    present = np.unique(block)
    middles = np.array([np.median(hours[block == index]) for index in present])
    medians = np.array([np.median(values[block == index]) for index in present])
    slope, _, low, high = stats.theilslopes(medians, middles, 0.95)
    tenth = max(1, len(values) // 10)
    first, last = float(np.median(values[:tenth])), float(np.median(values[-tenth:]))
    limit = LIMITS.get(quantity)
    allowed = None if limit is None else max(limit.share * first, limit.least / unit)
    return Trend(sweep, role, quantity, first, last, float(slope), float(low), float(high), allowed)


def trends(samples: Sequence[Mapping[str, Any]]) -> list[Trend]:
    """All series of a soak."""
    warm_up = max(LEAST_WARM_UP_S, WARM_UP_SHARE * samples[-1]["seconds"])
    kept = [sample for sample in samples if sample["seconds"] >= warm_up] or list(samples)
    hours = np.array([sample["seconds"] / 3600 for sample in kept])
    found = []
    for sweep in [key for key in samples[0] if key != "seconds"]:
        states = [sample[sweep] for sample in kept]
        for role in sorted({role for state in states for role in state["roles"]}):
            usages = [state["roles"].get(role) for state in states]
            if sum(usage is not None for usage in usages) < len(usages) / 4:
                continue  # seen now and then, between two states
            for key, quantity in (("rss", "memory"), ("files", "open files"), ("threads", "threads")):
                largest = [np.nan if usage is None else usage[key] for usage in usages]
                found.append(trend(sweep, role, quantity, hours, np.array(largest, dtype=float)))
        total = [sum(usage["processes"] for usage in state["roles"].values()) for state in states]
        found.append(trend(sweep, "all", "processes", hours, np.array(total, dtype=float)))
        for key, quantity in (("ray_folder", "Ray's files"), ("sweep_folder", "sweep's files")):
            sizes = np.array([state[key]["bytes"] for state in states], dtype=float)
            found.append(trend(sweep, "all", quantity, hours, sizes))
    return [row for row in found if row is not None]


def render(rows: Sequence[Trend], samples: Sequence[Mapping[str, Any]], ends: Mapping[str, Mapping[str, Any]]) -> str:
    """The report as Markdown."""
    last = samples[-1]
    lines = [f"Soak of {last['seconds'] / 3600:.2f} h, {len(samples)} samples.", ""]
    for name, end in ends.items():
        state = last[name]
        orphans = "; ".join(end["orphans"]) or "none"
        early = ", before the time was over" if end["ended_early"] else ""
        lines.append(
            f"- {name}: {state['trials_done']} trials and {state['epochs_done']} epochs done, "
            f"{state['trials_failed']} trials failed at some time; exit status {end['status']}{early}; "
            f"processes left behind: {orphans}; Ray left {end['ray_folder_left']['bytes'] / MIB:.1f} MiB "
            f"in {end['ray_folder_left']['files']} files."
        )
    head = ["sweep", "process", "quantity", "first", "last", "per hour", "95 % interval", "limit", "verdict"]
    lines += ["", "| " + " | ".join(head) + " |", "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        unit = " (MiB)" if row.quantity in UNITS else ""
        limit = "-" if row.limit is None else f"{row.limit:.1f}"
        verdict = "-" if row.limit is None else "flat" if row.within else "RISES"
        cells = [row.sweep, row.role, row.quantity + unit, f"{row.first:.1f}", f"{row.last:.1f}", f"{row.slope:+.2f}"]
        cells += [f"[{row.low:+.2f}, {row.high:+.2f}]", limit, verdict]
        lines.append("| " + " | ".join(cells) + " |")
    started = next((sample for sample in samples if sample["many"]["trials_done"]), last)
    trials = last["many"]["trials_done"] - started["many"]["trials_done"]
    rate = trials / max(1e-9, (last["seconds"] - started["seconds"]) / 3600)
    lines += ["", f"many ended {rate:.0f} trials per hour: a slope divided by that is what one trial adds."]
    lines += ["", "Memory, open files and threads are those of the largest process of that kind."]
    return "\n".join(lines) + "\n"


def write_report(folder: Path) -> int:
    """Print and write the report of a soak; returns 0 if everything was within its limits and nothing was left."""
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    ends = json.loads((folder / "ends.json").read_text())
    rows = trends(samples)
    text = render(rows, samples, ends)
    (folder / "report.md").write_text(text)
    content = {"hours": samples[-1]["seconds"] / 3600, "ends": ends, "trends": [asdict(row) for row in rows]}
    (folder / "report.json").write_text(json.dumps(content, indent=2) + "\n")
    print(text, end="")
    sound = all(row.within for row in rows) and all(
        not end["orphans"] and not end["ended_early"] and end["status"] == 130 for end in ends.values()
    )
    print(f"\n{'PASSED' if sound else 'NOT PASSED'}; samples and this report are in {folder}.")
    return 0 if sound else 1
