"""Writes docs/performance.md and its charts from `results/`.

python bench/write_docs.py
"""

from __future__ import annotations

import json
from pathlib import Path

from rows import MAX_TIMES_FLOOR, Figure, Row, Timing, from_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"

INTRODUCTION = f"""# Performance

Written by `python3 tools/dev.py bench`; do not edit. The alternatives of a row were measured in turns in one run. Times
are medians with half the interquartile range. Inputs and weights are random and seeded; weights do not affect the time.

- **Earlier**: the nodes that this pack replaces. **Times as fast**: compared with these; the target is in parentheses.
- **Times its floor**: the floor is the minimum time that the hardware needs, at the rate of torch's large matrix
  products or of a copy, both measured in the same run. Other code may multiply faster than torch, so values below 1 are
  possible.
- **Memory**: the peak of a call beyond what was in use before, such as a cached model.

A number in parentheses refers to a note: why a row is slower than the earlier nodes or its target, or takes more than
{MAX_TIMES_FLOOR} times its floor.
"""
HEAD = ["| | now | earlier | times as fast | times its floor | memory | earlier |", "|---|--:|--:|--:|--:|--:|--:|"]


def write() -> None:
    machines = [json.loads(file.read_text("utf-8")) | {"name": file.stem} for file in sorted(RESULTS.glob("*.json"))]
    (DOCS / "performance.md").write_text(format_page(machines), "utf-8")
    for machine in machines:
        draw(machine, DOCS / f"performance-{machine['name']}.svg")


def format_page(machines: list[dict]) -> str:
    """The whole page, for results as `suite.py` stores them, with their file's ``name``."""
    gpus = [machine["machine"]["gpu"] for machine in machines if machine["machine"]["gpu"] != "none"]
    measured = f"GPUs measured: {', '.join(gpus)}." if gpus else "**Nothing was measured on a GPU yet.**"
    lines = [INTRODUCTION, measured, ""]
    for machine in machines:
        lines += _format_machine(machine)
    return "\n".join(lines)


def _format_machine(results: dict) -> list[str]:
    facts = results["machine"]
    gpu = f", {facts['gpu']}" if facts["gpu"] != "none" else ""
    chart = f"![How many times as fast as the earlier nodes](performance-{results['name']}.svg)"
    versions = dict.fromkeys(f"{bench['system']}, {bench['packages']}." for bench in results["benches"].values())
    lines = [f"## {facts['processor']}{gpu}", "", f"{facts['memory']} of memory. {' '.join(versions)}", "", chart, ""]
    lines += [f"- {check}" for check in results.get("checks", [])] + [""] * ("checks" in results)
    for name, bench in sorted(results["benches"].items()):
        rows = [from_json(row) for row in bench["rows"]]
        lines += [f"### {bench['rows'][0]['title']}", "", bench["rows"][0]["about"], "", *_format_rows(rows)]
        rates = [
            f"{rate:g} {unit} ({device})" for device, best in bench["rates"].items() for unit, rate in best.items()
        ]
        command = bench.get("command") or f"python3 tools/dev.py bench {name.removeprefix('bench_')}"
        lines += [f"{', '.join([f'`{command}`', bench['date'], 'commit ' + bench['commit'], *rates])}.", ""]
    return lines


def _format_rows(rows: list[Row]) -> list[str]:
    """A table of the timings, a list of the figures, and each note once."""
    notes = list(dict.fromkeys(row.note for row in rows if row.missed))

    def label(row: Row) -> str:
        device = " on CUDA" if row.device == "cuda" else ""
        return row.what[0].upper() + row.what[1:] + device + (f" ({notes.index(row.note) + 1})" if row.missed else "")

    table = [f"| {' | '.join([label(row), *row.cells()])} |" for row in rows if isinstance(row, Timing)]
    figures = [f"- {label(row)}: {row.cells()[0]}" for row in rows if isinstance(row, Figure)]
    reasons = [f"({number}) {note or 'No reason was recorded.'}" for number, note in enumerate(notes, 1)]
    parts = [HEAD + table] * bool(table) + [figures] * bool(figures) + [[reason] for reason in reasons]
    return [line for part in parts for line in (*part, "")]


def draw(results: dict, file: Path) -> None:
    """Draw bars of the headline rows: how many times as fast as the earlier nodes, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    benches = [bench for _, bench in sorted(results["benches"].items())]
    lines = [line for bench in benches for line in bench["rows"] if line.get("headline") and line["earlier"]]
    rows = [from_json(line) for line in lines]
    names = [f"{line['title']}: {line['what']}{' (CUDA)' * (line['device'] == 'cuda')}" for line in lines]
    ratios = [row.ratio for row in rows]
    with pyplot.rc_context({"svg.hashsalt": "maskwright", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(10, 0.8 + 0.32 * len(rows)), layout="constrained")
        bars = axes.barh(names, ratios, color=["#2a9d8f" if ratio >= 1 else "#e76f51" for ratio in ratios])
        axes.bar_label(bars, labels=[f"{ratio:.2f}" for ratio in ratios], padding=3)
        targets = [(row.at_least, place) for place, row in enumerate(rows) if row.at_least]
        if targets:
            axes.plot(*zip(*targets, strict=True), "k|", ms=14, label="target")
            axes.legend(loc="lower right", frameon=False)
        axes.set_xscale("log", base=2)
        axes.set_xlim(min([0.9, *ratios]) * 0.95, max([4, *ratios]) * 1.2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.axvline(1, color="gray", lw=0.8)
        axes.invert_yaxis()
        axes.set_xlabel("times as fast as the earlier nodes")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    write()
