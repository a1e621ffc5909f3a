"""What a benchmark tells: rows with their targets, printed as they come, and kept for the table of all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from _measuring import RATES, Spread, Way, peak_memory, side_by_side

ABOVE_FLOOR = 1.3  # times; whoever takes longer says why
NO_FASTER = 1.1  # times as fast as the work grows: a tenth for noise
ROWS_FILE = "MASKWRIGHT_BENCH_ROWS"  # set by suite.py: the file that rows are appended to, a JSON object a line


@dataclass(frozen=True)
class Timing:
    """How long this pack takes for something, and what it is compared with.

    Attributes:
        what: The work, with its sizes.
        now: What this pack takes.
        device: Where it runs.
        earlier: What the earlier way takes for the same in the same run.
        floor: The seconds that the hardware needs at least, from `_measuring.floor` or measured.
        peak, earlier_peak: Bytes, from `_measuring.peak_memory`.
        at_least: How many times as fast as the earlier way this pack is meant to be; whoever is slower than it says
            why in any case.
        note: Why the target is missed or the floor is far, with the measurement that shows it.
        headline: Whether the chart shows it.
    """

    what: str
    now: Spread
    device: str = "cpu"
    earlier: Spread | None = None
    floor: float | None = None
    peak: float | None = None
    earlier_peak: float | None = None
    at_least: float | None = None
    note: str = ""
    headline: bool = False

    @property
    def ratio(self) -> float | None:
        return self.earlier.median / self.now.median if self.earlier else None

    @property
    def above_floor(self) -> float | None:
        return self.now.median / self.floor if self.floor else None

    @property
    def missed(self) -> bool:
        too_slow = self.ratio is not None and self.ratio < (self.at_least or 1)
        return too_slow or (self.above_floor is not None and self.above_floor > ABOVE_FLOOR)

    def __str__(self) -> str:
        parts = [f"{self.what:<65} {self.device:<5}{shown_seconds(self.now.median):>9}"]
        spread = f"±{(self.now.high - self.now.low) / 2 / self.now.median:.0%}"
        parts.append(f"{spread:>5}")
        parts.append(f"{shown_seconds(self.earlier.median) if self.earlier else '-':>10}")
        target = f" of {self.at_least:g}" if self.at_least is not None else ""
        parts.append(f"{f'{self.ratio:.2f}x{target}' if self.ratio else '-':>14}")
        parts.append(f"{f'{self.above_floor:.2f}' if self.above_floor else '-':>9}")
        parts.append(f"{shown_bytes(self.peak):>10}{shown_bytes(self.earlier_peak):>10}")
        return "".join(parts)


@dataclass(frozen=True)
class Figure:
    """A number that is no time: a share, a growth, a difference.

    Attributes:
        what: What was measured.
        value: The number, in ``unit``.
        at_most: What it is meant to stay under or at.
        note: Why it does not, with the measurement that shows it.
    """

    what: str
    value: float
    unit: str = ""
    device: str = "cpu"
    at_most: float | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        return self.at_most is not None and not self.value <= self.at_most

    @property
    def shown(self) -> str:
        is_count = not self.unit and float(self.value).is_integer()
        return (f"{self.value:g}" if is_count else shown_number(self.value)) + self.unit

    def __str__(self) -> str:
        target = f"  (at most {self.at_most:g}{self.unit})" if self.at_most is not None else ""
        return f"{self.what:<65} {self.device:<5}{self.shown:>9}{target}"


Row = Timing | Figure

HEAD = f"{'':66}{'on':<5}{'now':>9}{'':>5}{'earlier':>10}{'as fast':>14}{'/ floor':>9}{'memory':>10}{'earlier':>10}"


class Report:
    """Rows of one benchmark; each is printed when it comes.

    Args:
        title: What the benchmark is about, in the docs the heading of its table.
        about: What the earlier way is, and how the floor is counted.
    """

    def __init__(self, title: str, about: str) -> None:
        self.title, self.about = title, " ".join(about.split())
        self.rows: list[Row] = []
        print(f"\n{title}\n{HEAD}", flush=True)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"{row}{'' if not row.missed else '  (why: below)' if row.note else '  MISSED, and no reason is given'}")
        if row.missed and row.note:
            print(f"    {row.note}", flush=True)
        file = os.environ.get(ROWS_FILE)
        if file:
            line = {"title": self.title, "about": self.about, "rates": RATES, "kind": type(row).__name__, **asdict(row)}
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")


def from_json(line: dict) -> Row:
    """A row as `Report` wrote it."""
    data = {key: value for key, value in line.items() if key not in ("title", "about", "rates", "kind")}
    if line["kind"] == "Figure":
        return Figure(**data)
    for name in ("now", "earlier"):
        data[name] = Spread(**data[name]) if data[name] else None
    return Timing(**data)


def shown_seconds(value: float) -> str:
    """With three digits: 12.3 ms, 4.56 s, 123 s."""
    return f"{shown_number(value * 1e3)} ms" if value < 1 else f"{shown_number(value)} s"


def shown_bytes(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def shown_number(value: float) -> str:
    """With three digits that count, as people write it."""
    if value == 0 or not abs(value) < float("inf"):
        return f"{value:g}"
    digits = max(0, 2 - _exponent(value))
    return f"{value:.{digits}f}" if digits <= 5 else f"{value:.1e}"


def _exponent(value: float) -> int:
    return int(f"{value:e}".split("e")[1])


def add_growth(
    report: Report,
    what: str,
    small: Way,
    large: Way,
    device: str = "cpu",
    note: str = "",
    rounds: int = 5,
    peak: Callable[[Way, str], float | None] = peak_memory,
) -> None:
    """Compare work with ten times as much of it: neither time nor memory may grow faster than the work does.

    Args:
        what: What there is ten times as much of, with the numbers: ``pictures, 4 and 40``.
        small, large: The work, and exactly ten times as much of it.
        note: Why the time does, with the measurement that shows it.
        peak: As `peak_memory`.
    """
    taken = side_by_side({"small": small, "large": large}, rounds, device)
    growth = taken["large"].median / taken["small"].median / 10
    report.add(Figure(f"growth of time to growth of {what}", growth, "x", device, NO_FASTER, note))
    peaks = [peak(way, device) for way in (small, large)]
    if None not in peaks and min(peaks) > 0:
        report.add(Figure(f"growth of memory to growth of {what}", peaks[1] / peaks[0] / 10, "x", device, NO_FASTER))
