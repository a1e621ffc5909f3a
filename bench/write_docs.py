"""Writes docs/performance.md and its charts from what lies in `results/`.

python bench/write_docs.py
"""

from __future__ import annotations

import json
from pathlib import Path

from _rows import ABOVE_FLOOR, Figure, Row, Timing, from_json, shown_bytes, shown_seconds

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"

INTRODUCTION = f"""# What was measured

Written by `python3 tools/dev.py bench`, which measures all of it anew: by hand nothing is changed here. Whatever
stands in one row was measured in one run, in turns. Times are medians, ± is half the distance between the quartiles.
Inputs are random and seeded; weights are random where they make no difference to the time.

"As fast" is how many times as fast this pack is as **the earlier way**: what the nodes do that it replaces. **The
floor** is what the hardware needs at least: operations at the rate of torch's products of large matrices, or bytes at
the bandwidth of a copy, both measured there and then; who multiplies faster than torch may stay below it. Memory is
what a call holds at most, beyond what was held before it, such as a model that is kept. Under a table stands why
something is slower than the earlier way or than its target, or takes more than {ABOVE_FLOOR} times its floor.
"""


def write() -> None:
    machines = [json.loads(file.read_text("utf-8")) | {"name": file.stem} for file in sorted(RESULTS.glob("*.json"))]
    if machines:
        (DOCS / "performance.md").write_text(text(machines), "utf-8")
    for machine in machines:
        draw(machine, DOCS / f"performance-{machine['name']}.svg")


def text(machines: list[dict]) -> str:
    """The whole page, for results as `suite.py` keeps them, with their file's ``name``."""
    gpus = [machine["machine"]["gpu"] for machine in machines if machine["machine"]["gpu"] != "none"]
    measured_on = f"GPUs measured: {', '.join(gpus)}." if gpus else "**Nothing was measured on a GPU yet.**"
    return "\n".join([INTRODUCTION, measured_on, "", *(line for each in machines for line in _machine(each))])


def _machine(results: dict) -> list[str]:
    facts = results["machine"]
    lines = [
        f"## {facts['processor']}" + (f", {facts['gpu']}" if facts["gpu"] != "none" else ""),
        "",
        f"{facts['memory']} of memory.",
        "",
        f"![How many times as fast as the earlier way](performance-{results['name']}.svg)",
        "",
    ]
    for name, bench in sorted(results["benches"].items()):
        command = f"python3 tools/dev.py bench {name.removeprefix('bench_')}"
        for title in dict.fromkeys(row["title"] for row in bench["rows"]):
            mine = [row for row in bench["rows"] if row["title"] == title]
            lines += [f"### {title}", "", f"{mine[0]['about']}", ""]
            lines += [f"Measured {bench['date']}, commit {bench['commit']}, `{command}`; {_circumstances(bench)}.", ""]
            lines += _tables([from_json(row) for row in mine])
    return lines


def _circumstances(bench: dict) -> str:
    rates = "; ".join(
        f"{device}: {', '.join(f'{value:g} {unit}' for unit, value in best.items())}"
        for device, best in bench["rates"].items()
    )
    return f"{bench['system']}, {bench['packages']}" + (f"; at best {rates}" if rates else "")


def _tables(rows: list[Row]) -> list[str]:
    reasons = list(dict.fromkeys(row.note for row in rows if row.missed))
    timings = [row for row in rows if isinstance(row, Timing)]
    figures = [row for row in rows if isinstance(row, Figure)]
    lines = []
    if timings:
        lines += [
            "| | on | now | ± | earlier | as fast | times its floor | memory | earlier |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|",
            *(_timing(row, reasons) for row in timings),
            "",
        ]
    if figures:
        lines += ["| | on | measured | at most |", "|---|---|--:|--:|"]
        lines += [*(_figure(row, reasons) for row in figures), ""]
    lines += [line for number, reason in enumerate(reasons, 1) for line in (f"({number}) {reason or 'NO REASON'}", "")]
    return lines


def _timing(row: Timing, reasons: list[str]) -> str:
    spread = (row.now.high - row.now.low) / 2 / row.now.median
    ratio = ""
    if row.ratio:
        target = f" (of {row.at_least:g})" if row.at_least is not None else ""
        ratio = f"**{row.ratio:.2f}**{target}"
    cells = [
        row.what + (f" ({reasons.index(row.note) + 1})" if row.missed else ""),
        row.device,
        shown_seconds(row.now.median),
        f"{spread:.0%}",
        shown_seconds(row.earlier.median) if row.earlier else "",
        ratio,
        f"{row.above_floor:.2f}" if row.above_floor else "",
        shown_bytes(row.peak) if row.peak is not None else "",
        shown_bytes(row.earlier_peak) if row.earlier_peak is not None else "",
    ]
    return f"| {' | '.join(cells)} |"


def _figure(row: Figure, reasons: list[str]) -> str:
    mark = f" ({reasons.index(row.note) + 1})" if row.missed else ""
    limit = f"{row.at_most:g}{row.unit}" if row.at_most is not None else ""
    return f"| {row.what}{mark} | {row.device} | {row.shown} | {limit} |"


def draw(results: dict, file: Path) -> None:
    """Bars of the headline rows: how many times as fast as the earlier way, on a scale of doublings."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    rows = [
        (row["title"], from_json(row))
        for _, bench in sorted(results["benches"].items())
        for row in bench["rows"]
        if row.get("headline") and row["earlier"]
    ]
    names = [f"{title}: {row.what}" + (" (CUDA)" if row.device == "cuda" else "") for title, row in rows]
    ratios = [row.ratio for _, row in rows]
    with pyplot.rc_context({"svg.hashsalt": "maskwright", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(10, 0.8 + 0.32 * len(rows)), layout="constrained")
        bars = axes.barh(names, ratios, color=["#2a9d8f" if ratio >= 1 else "#e76f51" for ratio in ratios])
        axes.bar_label(bars, labels=[f"{ratio:.2f}" for ratio in ratios], padding=3)
        targets = [(number, row.at_least) for number, (_, row) in enumerate(rows) if row.at_least]
        axes.plot([target for _, target in targets], [number for number, _ in targets], "k|", ms=14, label="target")
        axes.set_xscale("log", base=2)
        axes.set_xlim(min([0.9, *ratios]) * 0.95, max([4, *ratios]) * 1.2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.axvline(1, color="grey", lw=0.8)
        axes.invert_yaxis()
        axes.set_xlabel("times as fast as the earlier way")
        axes.spines[["top", "right"]].set_visible(False)
        if targets:
            axes.legend(loc="lower right", frameon=False)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    write()
