"""The rows of a benchmark: measured, printed, and stored for docs/performance.md."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from _measuring import Call, Cell, Spread, measure

OURS, FLOOR = "this pack", "floor"
ABOVE_FLOOR = "times the floor"
MAX_TIMES_FLOOR = 1.3  # a row further above its floor needs a note
MAX_GROWTH = 1.1  # time and memory may grow at most this many times as fast as the work; the tenth is for noise
BUDGET = 100.0  # seconds of a report, after which rows get at most one round after the first
ROWS_FILE = "MASKWRIGHT_BENCH_ROWS"  # set by suite.py: the file that rows are appended to, a JSON object per line
JOB_TEXTS = Path(__file__).with_name("jobs.md").read_text("utf-8").split("\n## ")[1:]
JOBS = {job: about for job, _, about in (text.partition("\n") for text in JOB_TEXTS)}  # in the page's order
PACKAGES = ("torch", "numpy", "pillow", "opencv-python-headless", "transformers", "rembg", "onnxruntime", "pymatting")


@dataclass(frozen=True)
class Row:
    """Some work, done by this pack and by alternatives.

    Attributes:
        what: The work, with its sizes.
        ours: This pack's time and memory.
        others: The alternatives, which people use instead, by name.
        floor: The minimum time in seconds.
        goals: How many times as fast as an alternative this pack should be, if not 1; 0 for an alternative that does
            other work and is only listed.
        max_times_floor: How far above the floor the time may be.
        max_seconds, max_bytes: The most that this pack may take.
        note: Why the row misses one of these; rows with the same reason have the same text.
        headline: Whether the chart shows it.
    """

    what: str
    ours: Cell
    others: dict[str, Cell] = field(default_factory=dict)
    floor: float | None = None
    device: str = "cpu"
    goals: dict[str, float] = field(default_factory=dict)
    max_times_floor: float = MAX_TIMES_FLOOR
    max_seconds: float | None = None
    max_bytes: float | None = None
    note: str = ""
    headline: bool = False

    @property
    def ratios(self) -> dict[str, float]:
        """This pack's speed relative to each alternative: 2 is twice as fast."""
        spreads = {name: cell.time for name, cell in self.others.items() if cell.time}
        return {name: spread.median / self.ours.time.median for name, spread in spreads.items()}

    @property
    def fastest(self) -> str:
        """The fastest alternative that does the same work, or ""."""
        ratios = {name: ratio for name, ratio in self.ratios.items() if self.goals.get(name, 1) > 0}
        return min(ratios, key=ratios.get, default="")

    @property
    def ratio(self) -> float | None:
        """This pack's speed relative to the fastest alternative."""
        return self.ratios.get(self.fastest)

    @property
    def times_floor(self) -> float | None:
        return self.ours.time.median / self.floor if self.floor else None

    @property
    def misses(self) -> list[str]:
        """What the row misses, as phrases."""
        phrases = []
        for name, ratio in self.ratios.items():
            goal = self.goals.get(name, 1)
            if ratio < goal:
                phrases.append(f"{ratio:.2f} times as fast as {name}" + f" (goal: {goal:g})" * (goal != 1))
        if self.max_seconds and self.ours.time.median > self.max_seconds:
            phrases.append(f"longer than {format_seconds(self.max_seconds)}")
        if self.max_bytes and (self.ours.peak or 0) > self.max_bytes:
            phrases.append(f"more than {format_bytes(self.max_bytes)}")
        if self.times_floor is not None and self.times_floor > self.max_times_floor:
            phrases.append(f"{self.times_floor:.2f} {ABOVE_FLOOR}")
        return phrases

    def describe(self) -> str:
        cells = [f"{name} {format_cell(cell)}" for name, cell in {OURS: self.ours, **self.others}.items()]
        floor = [f"{self.times_floor:.2f} times the floor"] if self.times_floor else []
        return ", ".join(cells + floor)


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
    def misses(self) -> list[str]:
        return [] if self.at_most is None or self.value <= self.at_most else [self.describe()]

    def describe(self) -> str:
        """The value, and its limit."""
        value = f"{self.value:g}" if float(self.value).is_integer() else format_number(self.value)
        limit = f" (at most {self.at_most:g}{self.unit})" if self.at_most is not None else ""
        return f"{value}{self.unit}{limit}"


class Report:
    """Measures, prints and stores the rows of one job.

    Args:
        job: What a user wants to do: the heading of the rows' table.
        values: Those that the job's text in jobs.md has in braces.
    """

    def __init__(self, job: str, **values: object) -> None:
        self.job, self.end = job, time.monotonic() + BUDGET
        self.about = " ".join(JOBS[job].format(**values).split())
        print(f"\n{job}", flush=True)

    def add(
        self,
        what: str,
        ours: Call,
        others: Mapping[str, Call | Cell] | None = None,
        floor: Call | Cell | float | None = None,
        device: str = "cpu",
        memory: bool = True,
        **more,
    ) -> Row:
        """Measure this pack and the alternatives in turns, and store the row. Cells are stored as they are.

        Args: ``floor``, a call, a cell or seconds; ``more``, further fields of `Row`.
        """
        alternatives = {**(others or {}), FLOOR: floor}
        calls = {OURS: ours} | {name: each for name, each in alternatives.items() if callable(each)}
        cells = {**alternatives, **measure(calls, device, memory, hurry=time.monotonic() > self.end)}
        own, least = cells.pop(OURS), cells.pop(FLOOR)
        if isinstance(least, Cell):
            if least.time is None:
                raise RuntimeError(f"the floor of {what} was not measured: {least.problem}")
            least = least.time.median
        row = Row(what, own, cells, least, device, **more)
        self.store(row)
        return row

    def add_growth(self, what: str, small: Row, large: Row, work: float, note: str = "") -> None:
        """Compare two rows, the second with ``work`` times the work: neither time nor memory should grow faster."""
        growth = large.ours.time.median / small.ours.time.median / work
        self.store(Figure(f"growth of time relative to growth of {what}", growth, "x", large.device, MAX_GROWTH, note))
        if small.ours.peak and large.ours.peak:
            growth = large.ours.peak / small.ours.peak / work
            self.store(Figure(f"growth of memory relative to growth of {what}", growth, "x", large.device, MAX_GROWTH))

    def store(self, row: Row | Figure) -> None:
        mark = "" if not row.misses else "  (see the note)" if row.note else "  MISSED, without a note"
        print(f"{row.what:<60} {row.device:<5} {row.describe()}{mark}", flush=True)
        if file := os.environ.get(ROWS_FILE):
            line = {"job": self.job, "about": self.about, "versions": find_versions(), "kind": type(row).__name__}
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line | asdict(row)) + "\n")


def from_json(line: dict) -> Row | Figure:
    """Restore a row that `Report` stored."""
    data = {key: value for key, value in line.items() if key not in ("job", "about", "versions", "kind")}
    if line["kind"] == "Figure":
        return Figure(**data)

    def cell(stored: dict) -> Cell:
        return Cell(**{**stored, "time": stored["time"] and Spread(**stored["time"])})

    others = {name: cell(each) for name, each in data["others"].items()}
    return Row(**{**data, "ours": cell(data["ours"]), "others": others})


def find_versions() -> str:
    """The system and the packages of this process."""
    versions = [platform.system(), f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    return ", ".join(versions)


def format_cell(cell: Cell) -> str:
    """Time and memory; the spread if it is large."""
    if cell.time is None:
        return cell.problem and "fails"
    spread = (cell.time.high - cell.time.low) / 2 / cell.time.median
    time = format_seconds(cell.time.median) + (f" \u00b1 {spread:.0%}" if spread > 0.1 else "")
    return time + (f", {format_bytes(cell.peak)}" if cell.peak else "") + (f" (from {cell.part})" if cell.part else "")


def format_number(value: float) -> str:
    """Three significant digits, without an exponent if that is short."""
    if value == 0 or not abs(value) < float("inf"):
        return f"{value:g}"
    digits = max(0, 2 - int(f"{value:e}".split("e")[1]))
    return f"{value:.{digits}f}" if digits <= 5 else f"{value:.1e}"


def format_seconds(value: float) -> str:
    return f"{format_number(value * 1e3)} ms" if value < 1 else f"{format_number(value)} s"


def format_bytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"
