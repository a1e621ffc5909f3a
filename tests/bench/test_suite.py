"""What benchmarks measured: kept whole, told as it was, and never without a reason where a target is missed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import _measuring  # noqa: E402 - found through the line above
import _rows  # noqa: E402
import suite  # noqa: E402
import write_docs  # noqa: E402

ROW = _rows.Timing(
    "4 pictures",
    now=_measuring.Spread(0.5, 0.45, 0.55, 9),
    earlier=_measuring.Spread(1.0, 0.9, 1.2, 9),
    floor=0.45,
    peak=2e9,
    at_least=1.5,
    headline=True,
)
NOW = {"system": "Linux, Python 3.12", "packages": "torch 2.13"}
RATES = {"cpu": {"GB/s copied": 20.0}}
RESULTS = {
    "name": "a-machine",
    "machine": {
        "processor": "A processor, 2 cores",
        "memory": "24 GB",
        "gpu": "none",
    },
    "benches": {},
}


def results(*rows: _rows.Row) -> dict:
    lines = [{"title": "A node", "about": "As before.", "kind": type(row).__name__, **asdict(row)} for row in rows]
    bench = {"date": "2026-01-02", "commit": "0123456789", **NOW, "rates": RATES, "rows": json.loads(json.dumps(lines))}
    return RESULTS | {"benches": {"bench_node": bench}}


def test_ways_take_turns_after_a_round_that_does_not_count() -> None:
    calls = []
    ways = {"one": lambda: calls.append(1), "two": lambda: calls.append(2)}
    taken = _measuring.side_by_side(ways, 3)
    assert calls == [1, 2] * 4
    assert all(spread.rounds == 3 and 0 <= spread.low <= spread.median <= spread.high for spread in taken.values())


def test_long_rounds_are_cut_but_two_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "MOST_SECONDS", 0.0)
    assert _measuring.side_by_side({"way": lambda: time.sleep(0.001)}, 9)["way"].rounds == 2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is only told by Linux")
def test_peak_memory_is_that_of_the_call_alone() -> None:
    held = np.ones(40_000_000, np.uint8)

    def way() -> np.ndarray:
        np.ones(80_000_000, np.uint8)
        return np.ones(20_000_000, np.uint8)

    for _ in range(2):  # what the first call gave back is seen by the second as well
        assert _measuring.peak_memory(way) == pytest.approx(80e6, rel=0.1)
    assert held.all()


def test_the_floor_is_the_slower_of_operations_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "operations_per_second", lambda device, dtype: 1e9)
    monkeypatch.setattr(_measuring, "bytes_per_second", lambda device: 1e8)
    assert _measuring.floor("cpu", operations=2e9, moved=1e8) == 2.0
    assert _measuring.floor("cpu", operations=2e8, moved=1e8) == 1.0


def test_time_inside_counts_once_where_calls_nest() -> None:
    watched = _measuring.Watched()
    inner = watched.watch(lambda: time.sleep(0.02))
    outer = watched.watch(lambda: inner())
    start = time.perf_counter()
    outer()
    assert 0.02 <= watched.spent <= time.perf_counter() - start


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, False),
        ({"at_least": 2.1}, True),
        ({"floor": 0.38}, True),
        ({"earlier": None}, False),
        ({"earlier": None, "floor": None}, False),
    ],
)
def test_a_row_misses_its_target_or_stands_far_above_its_floor(changed: dict, missed: bool) -> None:
    assert replace(ROW, **changed).missed is missed


@pytest.mark.parametrize(("value", "missed"), [(0.9, False), (1.0, False), (1.01, True), (math.nan, True)])
def test_a_figure_misses_what_it_must_not_exceed(value: float, missed: bool) -> None:
    assert _rows.Figure("a share", value, "%", at_most=1.0).missed is missed


@pytest.mark.parametrize("row", [ROW, replace(ROW, earlier=None), _rows.Figure("a share", 3.0, "%", at_most=5.0)])
def test_rows_come_back_as_they_were_kept(row: _rows.Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows"
    monkeypatch.setenv(_rows.ROWS_FILE, str(file))
    _rows.Report("A node", "As  before.").add(row)
    line = json.loads(file.read_text("utf-8"))
    assert (line["title"], line["about"]) == ("A node", "As before.")
    assert _rows.from_json(line) == row


def test_one_benchmark_run_again_leaves_the_others_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    monkeypatch.setattr(suite, "_machine", lambda: ("a-machine", RESULTS["machine"], NOW))
    known = {"cpu": {"GB/s copied": 21.0}}
    for name, number in (("bench_a", 1), ("bench_b", 2), ("bench_a", 3)):
        suite._keep(name, [{"what": 0, "rates": {}}, {"what": number, "rates": known}])
    kept = json.loads((tmp_path / "a-machine.json").read_text("utf-8"))
    assert {name: bench["rows"] for name, bench in kept["benches"].items()} == {
        "bench_a": [{"what": 0}, {"what": 3}],
        "bench_b": [{"what": 0}, {"what": 2}],
    }
    assert [bench["rates"] for bench in kept["benches"].values()] == [known, known]
    assert [file.name for file in tmp_path.iterdir()] == ["a-machine.json"]


def test_the_page_tells_the_machine_the_commit_and_every_row() -> None:
    late = replace(ROW, what="64 pictures", at_least=4.0, note="The matrix products alone take 0.4 s.")
    page = write_docs.text([results(ROW, late, _rows.Figure("own share", 7.5, "%", at_most=5, note="It is small."))])
    assert "A processor, 2 cores" in page and "2026-01-02, commit 0123456789" in page
    assert "torch 2.13; at best cpu: 20 GB/s copied" in page and "Nothing was measured on a GPU" in page
    assert "| 4 pictures | cpu | 500 ms | 10% | 1.00 s | **2.00** (of 1.5) | 1.11 | 2.00 GB |  |" in page
    assert "| 64 pictures (1) |" in page and "(1) The matrix products alone take 0.4 s." in page
    assert "| own share (2) | cpu | 7.50% | 5% |" in page and "(2) It is small." in page


def test_the_chart_shows_the_headlines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_docs.draw(results(ROW, replace(ROW, what="another", headline=False)), tmp_path / "chart.svg")
    drawn = (tmp_path / "chart.svg").read_text("utf-8")
    assert "A node: 4 pictures" in drawn and "2.00" in drawn and "another" not in drawn


KEPT = [json.loads(file.read_text("utf-8")) | {"name": file.stem} for file in sorted(suite.RESULTS.glob("*.json"))]


def test_docs_show_what_was_measured() -> None:
    assert (write_docs.DOCS / "performance.md").read_text("utf-8") == write_docs.text(KEPT)
    assert KEPT and all((write_docs.DOCS / f"performance-{each['name']}.svg").exists() for each in KEPT)


@pytest.mark.parametrize("machine", KEPT, ids=lambda machine: machine["name"])
def test_whatever_misses_its_target_has_a_reason(machine: dict) -> None:
    rows = [_rows.from_json(line) for bench in machine["benches"].values() for line in bench["rows"]]
    assert [row.what for row in rows if row.missed and not row.note] == []


@pytest.mark.slow
def test_a_benchmark_runs_and_keeps_nothing_when_quick() -> None:
    pytest.importorskip("cv2")
    before = {file: file.stat().st_mtime_ns for file in suite.RESULTS.glob("*")}
    command = [sys.executable, str(BENCH / "suite.py"), "gradient", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 masks of 512 x 512, kernel 31" in done.stdout
    assert {file: file.stat().st_mtime_ns for file in suite.RESULTS.glob("*")} == before


def test_an_unknown_benchmark_is_told(capsys: pytest.CaptureFixture) -> None:
    assert suite.main(["nobody's"]) == 2
    assert "no benchmark is called like nobody's" in capsys.readouterr().err
