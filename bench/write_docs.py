"""Writes docs/performance.md and its chart from `results/`, `page_template.md` and `jobs.md`.

python bench/write_docs.py
"""

from __future__ import annotations

import json
from pathlib import Path

from rows import ABOVE_FLOOR, JOBS, MAX_TIMES_FLOOR, OURS, Figure, Row, format_cell, format_number, from_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"
TEMPLATE = ROOT / "bench" / "page_template.md"
STAR = " \\*"  # after a row that misses a goal
OWN_SHARE = "Detail"  # the job whose floor is the time of ComfyUI's sampler and VAE: the rest is the node's own share


def write() -> None:
    machines = [json.loads(file.read_text("utf-8")) for file in sorted(RESULTS.glob("*.json"))]
    (DOCS / "performance.md").write_text(format_page(machines), "utf-8")
    draw(machines, DOCS / "performance.svg")


def format_page(machines: list[dict]) -> str:
    """The whole page, for results as `suite.py` stores them."""
    machines = sorted(machines, key=lambda each: each["machine"]["gpu"] != "none")
    lines, shown_texts = _format_misses(machines), set()
    for machine in machines:
        lines += _format_machine(machine, shown_texts)
    seconds = sum(bench.get("seconds", 0) for machine in machines for bench in machine["benches"].values())
    values = {"max_times_floor": MAX_TIMES_FLOOR, "minutes": round(seconds / 60), "results": "\n".join(lines)}
    return TEMPLATE.read_text("utf-8").format(**values)


def group_jobs(results: dict) -> dict[str, list[dict]]:
    """The stored rows of a machine by job, in the page's order."""
    jobs: dict[str, list[dict]] = {job: [] for job in JOBS}
    for bench in results["benches"].values():
        for line in bench["rows"]:
            jobs.setdefault(line["job"], []).append(line)
    return {job: lines for job, lines in jobs.items() if lines}


def _format_machine(results: dict, shown_texts: set[str]) -> list[str]:
    """A section with a table for each job. Texts in ``shown_texts`` are not repeated."""
    facts, benches = results["machine"], results["benches"].values()
    lines = [f"## {facts['processor'] if facts['gpu'] == 'none' else facts['gpu']}", ""]
    lines += [f"In a machine with {facts['processor']} and {facts['memory']} of memory.", ""]
    lines += [f"- {check}" for check in results.get("checks", [])] + [""] * ("checks" in results)
    for job, stored in group_jobs(results).items():
        lines += [f"### {job}", ""]
        for about in dict.fromkeys(line["about"] for line in stored):
            lines += [about, ""] * (about not in shown_texts)
            shown_texts.add(about)
        lines += _format_rows(job, [from_json(line) for line in stored])
    measured = dict.fromkeys(f"{bench['date']}, commit {bench['commit']}: {bench['versions']}." for bench in benches)
    return [*lines, *(f"- Measured {each}" for each in measured), ""]


def _format_rows(job: str, rows: list[Row | Figure]) -> list[str]:
    """A table of the rows, with the columns that they fill, and the figures."""
    timed, figures = ([row for row in rows if isinstance(row, kind)] for kind in (Row, Figure))
    names = list(dict.fromkeys(name for row in timed for name in row.others))
    table = []
    for row in timed:
        cells = {"": row.what[0].upper() + row.what[1:] + STAR * bool(row.misses), OURS: format_cell(row.ours)}
        cells |= {name: format_cell(row.others[name]) if name in row.others else "" for name in names}
        cells |= {"times as fast": f"{row.ratio:.2f}" if row.ratio else ""} if names else {}
        if any(each.floor for each in timed):
            share = f"{1 - row.floor / row.ours.time.median:.1%}" if row.floor else ""
            times = f"{row.times_floor:.2f}" if row.floor else ""
            cells |= {"own share": share} if job == OWN_SHARE else {"times the floor": times}
        table += [] if table else [list(cells), ["---", *["--:"] * (len(cells) - 1)]]
        table.append(list(cells.values()))
    problems = {f"{name} fails: {cell.problem}" for row in timed for name, cell in row.others.items() if cell.problem}
    lines = [f"| {' | '.join(cells)} |" for cells in table] + [""] * bool(table)
    lines += [f"{problem}." for problem in sorted(problems)] + [""] * bool(problems)
    checked = "; ".join(f"{row.what}{STAR * bool(row.misses)}: {row.describe()}" for row in figures)
    return lines + [f"Also measured: {checked}.", ""] * bool(figures)


def _format_misses(machines: list[dict]) -> list[str]:
    """Each reason once, with the rows that it explains; rows above their floor only as a range."""
    reasons: dict[str, list[str]] = {}
    for machine in machines:
        place = f" on {machine['machine']['gpu']}" if machine["machine"]["gpu"] != "none" else ""
        for job, stored in group_jobs(machine).items():
            by_note: dict[str, list[Row | Figure]] = {}
            for row in map(from_json, stored):
                by_note.setdefault(row.note, []).extend([row] * bool(row.misses))
            for note, rows in by_note.items():
                texts = reasons.setdefault(note, [])
                texts += [f"**{job}{place}**: {_summarize(rows)}."] * bool(rows)
    lines = [f"- {' '.join(texts)} {note or 'No reason was recorded.'}" for note, texts in reasons.items() if texts]
    return ["## Missed goals, and why", "", *lines, ""] if lines else []


def _summarize(rows: list[Row | Figure]) -> str:
    texts, floors = [], []
    for row in rows:
        slow = [miss for miss in row.misses if not miss.endswith(ABOVE_FLOOR)]
        texts += [f"{row.what} ({', '.join(slow)})"] * bool(slow)
        floors += [row.times_floor for _ in row.misses[len(slow) :]]
    if floors:
        texts.append(f"{len(floors)} row{'s' * (len(floors) > 1)} at up to {max(floors):.2f} {ABOVE_FLOOR}")
    return "; ".join(texts)


def draw(machines: list[dict], file: Path) -> None:
    """Draw bars of the headline rows: how many times as fast as the fastest alternative, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    bars = []  # name, row
    for machine in machines:
        for lines in group_jobs(machine).values():
            headlines = [(line, from_json(line)) for line in lines if line.get("headline")]
            bars += [(f"{line['job']}: {row.what}", row) for line, row in headlines if row.ratio]
    names = [name + " on the GPU" * (row.device != "cpu") for name, row in bars]
    ratios = [row.ratio for _, row in bars]
    with pyplot.rc_context({"svg.hashsalt": "maskwright", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(10, 1 + 0.3 * len(bars)), layout="constrained")
        patches = axes.barh(names, ratios, color=["#2a9d8f" if ratio >= 1 else "#e76f51" for ratio in ratios])
        labels = [f"{format_number(row.ratio)}  {row.fastest}" for _, row in bars]
        axes.bar_label(patches, labels=labels, padding=3)
        axes.set_xscale("log", base=2)
        axes.set_xlim(min([0.9, *ratios]) * 0.95, max([4, *ratios]) * 8)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.axvline(1, color="gray", lw=0.8)
        axes.invert_yaxis()
        axes.set_xlabel("times as fast as the fastest alternative, which is named")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    write()
