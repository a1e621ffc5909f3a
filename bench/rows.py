"""The rows of a benchmark: printed as they are measured, and stored for docs/performance.md."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from _measuring import RATES, Call, Spread, compare, floor, peak_memory

MAX_TIMES_FLOOR = 1.3  # a row further above its floor needs a note
MAX_GROWTH = 1.1  # time and memory may grow at most this many times as fast as the work: a tenth for noise
ROWS_FILE = "MASKWRIGHT_BENCH_ROWS"  # set by suite.py: the file that rows are appended to, a JSON object per line


@dataclass(frozen=True)
class Timing:
    """This pack's time for some work, and what it is compared with.

    Attributes:
        what: The work, with its sizes.
        earlier: The earlier implementation's time for the same work in the same run.
        floor: The minimum time that the hardware needs, in seconds (`_measuring.floor`, or measured).
        peak, earlier_peak: Bytes (`_measuring.peak_memory`).
        at_least: The target: how many times as fast as the earlier implementation.
        note: Why the target is missed, or the time is far above the floor. The same text in all rows with that reason.
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
        """How many times as fast as the earlier implementation."""
        return self.earlier.median / self.now.median if self.earlier else None

    @property
    def times_floor(self) -> float | None:
        return self.now.median / self.floor if self.floor else None

    @property
    def missed(self) -> bool:
        """Whether the row needs a note."""
        too_slow = self.ratio is not None and self.ratio < (self.at_least or 1)
        return too_slow or (self.times_floor is not None and self.times_floor > MAX_TIMES_FLOOR)

    def cells(self) -> list[str]:
        """The cells of its table row, after the first."""
        target = f" (of {self.at_least:g})" if self.at_least is not None else ""
        return [
            f"{format_seconds(self.now.median)} \u00b1 {(self.now.high - self.now.low) / 2 / self.now.median:.0%}",
            format_seconds(self.earlier.median) if self.earlier else "",
            f"{self.ratio:.2f}{target}" if self.ratio else "",
            f"{self.times_floor:.2f}" if self.times_floor else "",
            format_bytes(self.peak),
            format_bytes(self.earlier_peak),
        ]


@dataclass(frozen=True)
class Figure:
    """A measured number other than a time, such as a difference or a growth, and its limit."""

    what: str
    value: float
    unit: str = ""
    device: str = "cpu"
    at_most: float | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        return self.at_most is not None and not self.value <= self.at_most

    def cells(self) -> list[str]:
        """The value, and its limit."""
        value = f"{self.value:g}" if float(self.value).is_integer() else format_number(self.value)
        limit = f" (at most {self.at_most:g}{self.unit})" if self.at_most is not None else ""
        return [f"{value}{self.unit}{limit}"]


Row = Timing | Figure


class Report:
    """Prints the rows of one benchmark and stores them.

    Args:
        title: The heading of its table in docs/performance.md.
        about: What the earlier implementation is, and how the floor is computed.
    """

    def __init__(self, title: str, about: str) -> None:
        self.title, self.about = title, " ".join(about.split())
        print(f"\n{title}: now, earlier, times as fast, times the floor, memory, earlier memory", flush=True)

    def add(self, row: Row) -> None:
        mark = "" if not row.missed else "  (see the note)" if row.note else "  MISSED, without a note"
        print(f"{row.what:<66} {row.device:<5}{' '.join(f'{cell:>14}' for cell in row.cells())}{mark}", flush=True)
        if file := os.environ.get(ROWS_FILE):
            line = {"title": self.title, "about": self.about, "rates": RATES, "kind": type(row).__name__, **asdict(row)}
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")

    def add_comparison(
        self,
        what: str,
        calls: dict[str, Call],
        rounds: int,
        device: str = "cpu",
        operations: float = 0,
        moved: float = 0,
        memory: bool = True,
        **more,
    ) -> dict[str, Spread]:
        """Measure the calls "now" and maybe "earlier" in turns, and their memory; add the row. Returns all times.

        Args: ``operations`` and ``moved`` bytes for the floor; ``more``, further fields of `Timing`.
        """
        times, ways = compare(calls, rounds, device), [way for way in ("now", "earlier") if way in calls]
        names = {"now": "peak", "earlier": "earlier_peak"}
        peaks = {names[way]: peak_memory(calls[way], device) for way in ways if memory}
        pair = {way: times[way] for way in ways}
        self.add(Timing(what, **pair, **peaks, device=device, floor=floor(device, operations, moved) or None, **more))
        return times

    def add_growth(
        self, what: str, small: Call, large: Call, device: str = "cpu", note: str = "", rounds: int = 5
    ) -> None:
        """Compare work with ten times as much: neither time nor memory should grow faster than the work."""
        times = compare({"small": small, "large": large}, rounds, device)
        growth = times["large"].median / times["small"].median / 10
        self.add(Figure(f"growth of time to growth of {what}", growth, "x", device, MAX_GROWTH, note))
        peaks = [peak_memory(call, device) for call in (small, large)]
        if all(peaks):
            growth = peaks[1] / peaks[0] / 10
            self.add(Figure(f"growth of memory to growth of {what}", growth, "x", device, MAX_GROWTH))


def from_json(line: dict) -> Row:
    """Restore a row that `Report` stored."""
    data = {key: value for key, value in line.items() if key not in ("title", "about", "rates", "kind")}
    if line["kind"] == "Figure":
        return Figure(**data)
    return Timing(**{**data, **{name: data[name] and Spread(**data[name]) for name in ("now", "earlier")}})


def format_number(value: float) -> str:
    """Three significant digits, without an exponent if that is short."""
    if value == 0 or not abs(value) < float("inf"):
        return f"{value:g}"
    digits = max(0, 2 - int(f"{value:e}".split("e")[1]))
    return f"{value:.{digits}f}" if digits <= 5 else f"{value:.1e}"


def format_seconds(value: float) -> str:
    return f"{format_number(value * 1e3)} ms" if value < 1 else f"{format_number(value)} s"


def format_bytes(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"
