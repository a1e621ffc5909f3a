"""The benchmarks' arithmetic, their stored results, and the page written from them. Nothing is timed here."""

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
import rows  # noqa: E402
import suite  # noqa: E402
import write_docs  # noqa: E402

ROW = rows.Timing(
    "4 images",
    now=_measuring.Spread(0.5, 0.45, 0.55, 9),
    earlier=_measuring.Spread(1.0, 0.9, 1.2, 9),
    floor=0.45,
    peak=2e9,
    at_least=1.5,
    headline=True,
)
FIGURE = rows.Figure("own share", 7.5, " %", at_most=5, note="It is small.")
MACHINE = {"processor": "A processor, 2 cores", "memory": "24 GB", "gpu": "none"}
STORED = [json.loads(file.read_text("utf-8")) | {"name": file.stem} for file in sorted(suite.RESULTS.glob("*.json"))]


def make_results(*stored: rows.Row) -> dict:
    lines = [{"title": "A node", "about": "As before.", "kind": type(row).__name__, **asdict(row)} for row in stored]
    bench = {"date": "2026-01-02", "commit": "0123456789", "system": "Linux, Python 3.12", "packages": "torch 2.13"}
    bench |= {"rates": {"cpu": {"GB/s copied": 20.0}}, "rows": json.loads(json.dumps(lines))}
    return {"name": "a-machine", "machine": MACHINE, "benches": {"bench_node": bench}}


def test_compare_takes_turns_after_an_uncounted_round() -> None:
    calls = []
    ways = {"one": lambda: calls.append(1), "two": lambda: calls.append(2)}
    spreads = _measuring.compare(ways, 3)
    assert calls == [1, 2] * 4
    assert all(spread.rounds == 3 and 0 <= spread.low <= spread.median <= spread.high for spread in spreads.values())


def test_compare_cuts_long_rounds_to_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "MAX_SECONDS", 0.0)
    assert _measuring.compare({"way": lambda: time.sleep(0.001)}, 9)["way"].rounds == 2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux counts peak memory")
def test_peak_memory_is_that_of_the_call_alone() -> None:
    held = np.ones(40_000_000, np.uint8)

    def call() -> np.ndarray:
        np.ones(80_000_000, np.uint8)
        return np.ones(20_000_000, np.uint8)

    for _ in range(2):  # the second call sees what the first one freed
        assert _measuring.peak_memory(call) == pytest.approx(80e6, rel=0.1)
    assert held.all()


def test_floor_is_the_slower_of_operations_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "operations_per_second", lambda device, dtype: 1e9)
    monkeypatch.setattr(_measuring, "bytes_per_second", lambda device: 1e8)
    assert _measuring.floor("cpu", operations=2e9, moved=1e8) == 2.0
    assert _measuring.floor("cpu", operations=2e8, moved=1e8) == 1.0


def test_count_operations_counts_products_and_convolutions() -> None:
    import torch

    image, kernel = torch.ones(1, 3, 8, 8), torch.ones(5, 3, 3, 3)
    assert _measuring.count_operations(lambda: torch.ones(4, 5) @ torch.ones(5, 6)) == 2 * 4 * 5 * 6
    assert _measuring.count_operations(lambda: torch.conv2d(image, kernel)) == 2 * 6 * 6 * 5 * 3 * 3 * 3


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
def test_timing_is_missed_below_its_target_or_far_above_its_floor(changed: dict, missed: bool) -> None:
    assert replace(ROW, **changed).missed is missed


@pytest.mark.parametrize(("value", "missed"), [(0.9, False), (1.0, False), (1.01, True), (math.nan, True)])
def test_figure_is_missed_above_its_limit(value: float, missed: bool) -> None:
    assert rows.Figure("a share", value, "%", at_most=1.0).missed is missed


@pytest.mark.parametrize("row", [ROW, replace(ROW, earlier=None), FIGURE])
def test_from_json_reads_what_a_report_stored(row: rows.Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows"
    monkeypatch.setenv(rows.ROWS_FILE, str(file))
    rows.Report("A node", "As  before.").add(row)
    line = json.loads(file.read_text("utf-8"))
    assert (line["title"], line["about"]) == ("A node", "As before.")
    assert rows.from_json(line) == row


def test_add_comparison_adds_a_row_and_returns_the_times_of_all_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows"
    monkeypatch.setenv(rows.ROWS_FILE, str(file))
    monkeypatch.setattr(rows, "floor", lambda device, operations, moved: operations / 1e9)
    calls = dict.fromkeys(("now", "earlier", "plain"), lambda: None)
    for operations in (2e9, 0):
        times = rows.Report("A node", "As before.").add_comparison("work", calls, 1, "cpu", operations, note="Why.")
        assert times.keys() == calls.keys()
    stored = [rows.from_json(json.loads(line)) for line in file.read_text("utf-8").splitlines()]
    assert [(row.what, row.floor, row.note) for row in stored] == [("work", 2.0, "Why."), ("work", None, "Why.")]
    assert all(row.now and row.earlier for row in stored)


def test_store_leaves_the_rows_of_other_benchmarks(tmp_path: Path) -> None:
    known, file = {"cpu": {"GB/s copied": 21.0}}, tmp_path / "a-machine.json"
    for name, number in (("bench_a", 1), ("bench_b", 2), ("bench_a", 3)):
        suite.store(file, MACHINE, name, [{"what": 0, "rates": {}}, {"what": number, "rates": known}])
    stored = json.loads(file.read_text("utf-8"))
    assert {name: bench["rows"] for name, bench in stored["benches"].items()} == {
        "bench_a": [{"what": 0}, {"what": 3}],
        "bench_b": [{"what": 0}, {"what": 2}],
    }
    assert [bench["rates"] for bench in stored["benches"].values()] == [known, known]
    assert [file.name for file in tmp_path.iterdir()] == ["a-machine.json"]


def test_measure_keeps_rows_before_a_failure(tmp_path: Path) -> None:
    script = tmp_path / "bench_broken.py"
    script.write_text("import os; print('{}', file=open(os.environ['MASKWRIGHT_BENCH_ROWS'], 'w'), flush=True); 1 / 0")
    assert suite.measure(script, quick=False) == ([{}], "exit code 1")


def test_merge_adds_another_machine_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    for module in (suite, write_docs):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(write_docs, "DOCS", tmp_path)
    own = make_results(ROW)
    suite.write(tmp_path / "results" / "a-processor-2-cores.json", own)
    new = make_results(replace(ROW, device="cuda", earlier=None))
    new["machine"] = MACHINE | {"gpu": "NVIDIA Card 9"}
    new["checks"] = ["Tests on the GPU: 12 passed, 0 skipped"]
    new["benches"]["bench_node"]["command"] = "python tools/gpu_check.py"
    del new["name"]
    file = tmp_path / "gpu_check.json"
    file.write_text(json.dumps(new), "utf-8")
    for _ in range(2):  # the second time, it replaces the first
        assert suite.main(["--merge", str(file)]) == 0
        page = (tmp_path / "performance.md").read_text("utf-8")
        assert page.count("## A processor, 2 cores, NVIDIA Card 9") == 1 and "GPUs measured: NVIDIA Card 9." in page
        assert page.count("| 4 images on CUDA |") == page.count("| 4 images |") == 1
        assert "- Tests on the GPU: 12 passed, 0 skipped" in page and "`python tools/gpu_check.py`, 2026-01-02" in page
    assert (tmp_path / "performance-a-processor-2-cores-nvidia-card-9.svg").exists()


@pytest.mark.parametrize("arguments", [[], ["missing.json"], ["{}"], ["one", "two"]])
def test_merge_rejects_other_files(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    Path("{}").write_text("{}")
    assert suite.main(["--merge", *arguments]) == 2
    assert "gpu_check" in capsys.readouterr().err and not suite.RESULTS.exists()


def test_format_page_shows_machine_commit_rows_and_each_reason_once() -> None:
    late = [replace(ROW, what=f"{n} images", at_least=4.0, note="Products take 0.4 s.") for n in (64, 128)]
    page = write_docs.format_page([make_results(ROW, *late, FIGURE)])
    assert "A processor, 2 cores" in page and "2026-01-02, commit 0123456789, 20 GB/s copied (cpu)" in page
    assert "torch 2.13" in page and "Nothing was measured on a GPU" in page
    assert "| 4 images | 500 ms \u00b1 10% | 1.00 s | 2.00 (of 1.5) | 1.11 | 2.00 GB |  |" in page
    assert "| 64 images (1) |" in page and "| 128 images (1) |" in page
    assert page.count("(1) Products take 0.4 s.") == 1
    assert "- Own share (2): 7.50 % (at most 5 %)" in page and "(2) It is small." in page


def test_draw_shows_the_headlines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_docs.draw(make_results(ROW, replace(ROW, what="another", headline=False)), tmp_path / "chart.svg")
    chart = (tmp_path / "chart.svg").read_text("utf-8")
    assert "A node: 4 images" in chart and "2.00" in chart and "another" not in chart


def test_performance_page_shows_the_stored_results() -> None:
    assert (write_docs.DOCS / "performance.md").read_text("utf-8") == write_docs.format_page(STORED)
    assert STORED and all((write_docs.DOCS / f"performance-{each['name']}.svg").exists() for each in STORED)


@pytest.mark.parametrize("machine", STORED, ids=lambda machine: machine["name"])
def test_stored_rows_that_miss_their_target_have_a_reason(machine: dict) -> None:
    stored = [rows.from_json(line) for bench in machine["benches"].values() for line in bench["rows"]]
    assert [row.what for row in stored if row.missed and not row.note] == []


@pytest.mark.slow
def test_main_runs_a_benchmark_and_stores_nothing_when_quick() -> None:
    pytest.importorskip("cv2")
    before = {file: file.stat().st_mtime_ns for file in suite.RESULTS.glob("*")}
    command = [sys.executable, str(BENCH / "suite.py"), "gradient", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 masks of 512 x 512, kernel 31" in done.stdout
    assert {file: file.stat().st_mtime_ns for file in suite.RESULTS.glob("*")} == before


def test_main_names_an_unknown_benchmark(capsys: pytest.CaptureFixture) -> None:
    assert suite.main(["nothing"]) == 2
    assert "no benchmark is called nothing" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_main_shows_help_and_runs_nothing(
    option: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "run", lambda *_: pytest.fail("it ran"))
    assert suite.main([option]) == 0
    assert "dev.py bench [NAME ...] [--quick]" in capsys.readouterr().out
