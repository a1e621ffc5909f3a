"""The benchmarks' arithmetic, their stored results, and the page written from them. Nothing is timed here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
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

ROW = rows.Row(
    "4 images",
    ours=rows.Cell(rows.Spread(0.5, 0.46, 0.54, 9), 2e9),
    others={
        "rembg": rows.Cell(rows.Spread(1.0, 0.7, 1.2, 9)),
        "KJNodes": rows.Cell(rows.Spread(2.0, 2.0, 2.0, 9), 3e6),
    },
    floor=0.45,
    goals={"rembg": 1.5},
    headline=True,
)
FIGURE = rows.Figure("own share", 7.5, " %", at_most=5, note="It is small.")
MACHINE = {"processor": "A processor, 2 cores", "memory": "24 GB", "gpu": "none"}
STORED = [json.loads(file.read_text("utf-8")) | {"name": file.stem} for file in sorted(suite.RESULTS.glob("*.json"))]


def make_results(*stored: rows.Row | rows.Figure, gpu: str = "none") -> dict:
    lines = [{"job": "Cut out", "about": "As before.", "kind": type(row).__name__, **asdict(row)} for row in stored]
    bench = {"date": "2026-01-02", "commit": "0123456789", "versions": "Linux, Python 3.12, torch 2.13", "seconds": 90}
    bench |= {"rows": json.loads(json.dumps(lines))}
    return {"machine": MACHINE | {"gpu": gpu}, "benches": {"bench_gradient": bench}}


def test_measure_takes_turns_after_a_first_call_and_one_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "ROUNDS", 3)
    calls = []
    cells = _measuring.measure({"one": lambda: calls.append(1), "two": lambda: calls.append(2)})
    assert calls == [1, 1, 2, 2] + [1, 2] * 3
    assert all(cell.time.rounds == 3 and 0 <= cell.time.low <= cell.time.median for cell in cells.values())


@pytest.mark.parametrize(("first", "rounds"), [(0.1, 9), (0.5, 5), (2.0, 2), (5.0, 1), (16.0, 0)])
def test_measure_repeats_long_calls_less(first: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "ROUNDS", 9)
    monkeypatch.setattr(_measuring, "seconds", lambda call: call() or first)
    calls = []
    cell = _measuring.measure({"ours": lambda: calls.append(1)}, memory=False)["ours"]
    assert (cell.time.median, cell.time.rounds, len(calls)) == (first, max(1, rounds), 1 + rounds)


def test_measure_reports_why_another_call_fails() -> None:
    cells = _measuring.measure({"ours": lambda: None, "other": lambda: [][0]})
    assert cells["other"] == rows.Cell(None, problem="IndexError: list index out of range") and cells["ours"].time
    with pytest.raises(IndexError):
        _measuring.measure({"ours": lambda: [][0]})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux counts peak memory")
def test_peak_memory_is_that_of_the_call_alone() -> None:
    held = np.ones(40_000_000, np.uint8)

    def call() -> np.ndarray:
        np.ones(80_000_000, np.uint8)
        return np.ones(20_000_000, np.uint8)

    for _ in range(2):  # the second call sees what the first one freed
        assert _measuring.peak_memory(call) == pytest.approx(80e6, rel=0.1)
    assert held.all()


def test_copy_time_is_unknown_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "bytes_per_second", lambda: 1e8)
    assert (_measuring.copy_time(5e7), _measuring.copy_time(5e7, "cuda")) == (0.5, None)


@pytest.mark.parametrize(
    ("changed", "misses"),
    [
        ({}, []),
        ({"goals": {"rembg": 2.1}}, ["2.00 times as fast as rembg (goal: 2.1)"]),
        ({"floor": 0.25}, ["2.00 times the floor"]),
        ({"floor": 0.25, "max_times_floor": 3}, []),
        ({"max_seconds": 0.4, "max_bytes": 1e9}, ["longer than 400 ms", "more than 1.00 GB"]),
        ({"others": {"rembg": rows.Cell(rows.Spread(0.4, 0.4, 0.4, 1))}, "goals": {}}, ["0.80 times as fast as rembg"]),
        ({"others": {}, "floor": None}, []),
    ],
)
def test_row_misses_its_goals(changed: dict, misses: list[str]) -> None:
    assert replace(ROW, **changed).misses == misses


def test_row_compares_with_the_fastest_alternative() -> None:
    failed = rows.Cell(None, problem="KeyError: 1")
    assert replace(ROW, others={**ROW.others, "Impact Pack": failed}).ratio == 2
    assert replace(ROW, others={"Impact Pack": failed}).ratio is None
    assert replace(ROW, goals={"rembg": 0}).fastest == "KJNodes"


@pytest.mark.parametrize(("value", "missed"), [(0.9, False), (1.0, False), (1.01, True), (math.nan, True)])
def test_figure_is_missed_above_its_limit(value: float, missed: bool) -> None:
    assert bool(rows.Figure("a share", value, "%", at_most=1.0).misses) is missed


FAILED = rows.Cell(None, problem="KeyError: 1")


@pytest.mark.parametrize("row", [ROW, replace(ROW, others={"Impact Pack": FAILED}), FIGURE])
def test_from_json_reads_what_a_report_stored(
    row: rows.Row | rows.Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows"
    monkeypatch.setenv(rows.ROWS_FILE, str(file))
    rows.Report("Find by text", side=64).store(row)
    line = json.loads(file.read_text("utf-8"))
    assert line["job"] == "Find by text" and line["about"].startswith(
        "Images of 64 x 64; the model's input is 352 x 352"
    )
    assert "torch" in line["versions"]
    assert rows.from_json(line) == row


def test_add_measures_calls_and_keeps_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measuring, "ROUNDS", 2)
    report, calls = rows.Report("Refine edges"), []
    row = report.add("work", calls.clear, {"rembg": lambda: calls.append(1)}, floor=lambda: None, note="Why.")
    assert row.ours.time and row.others["rembg"].time.rounds == 2 and row.floor > 0 and row.note == "Why."
    scaled = row.others["rembg"].scale(4, "1 image")
    again = report.add("more work", calls.clear, {"rembg": scaled, "ComfyUI": calls.clear}, floor=0.5)
    assert list(again.others) == ["rembg", "ComfyUI"] and again.others["rembg"] == scaled and again.floor == 0.5
    with pytest.raises(RuntimeError, match="floor of work was not measured: ZeroDivisionError"):
        report.add("work", calls.clear, floor=lambda: 1 / 0)
    assert scaled.time.median == pytest.approx(4 * row.others["rembg"].time.median) and scaled.part == "1 image"


def test_add_growth_compares_time_and_memory_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    report, stored = rows.Report("Refine edges"), []
    monkeypatch.setattr(report, "store", stored.append)
    large = replace(ROW, ours=rows.Cell(rows.Spread(2.0, 2.0, 2.0, 1), 4e9))
    report.add_growth("images, 1 and 8", ROW, large, 8)
    assert [(figure.value, figure.misses) for figure in stored] == [(0.5, []), (0.25, [])]


def test_store_leaves_the_rows_of_other_benchmarks(tmp_path: Path) -> None:
    file = tmp_path / "a-machine.json"
    for name, number in (("bench_load", 1), ("bench_refine", 2), ("bench_load", 3), ("bench_removed", 4)):
        suite.store(file, MACHINE, name, [{"what": number, "versions": "torch 2"}], seconds=12.3)
    suite.store(file, MACHINE, "bench_clipseg", [{"what": 5, "versions": "torch 2"}])
    stored = json.loads(file.read_text("utf-8"))["benches"]
    assert {name: (bench["rows"], bench.get("seconds")) for name, bench in stored.items()} == {
        "bench_load": ([{"what": 3}], 12),
        "bench_refine": ([{"what": 2}], 12),
        "bench_clipseg": ([{"what": 5}], None),
    }
    assert {bench["versions"] for bench in stored.values()} == {"torch 2"}
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
    suite.write(tmp_path / "results" / "a-processor-2-cores.json", make_results(ROW))
    new = make_results(replace(ROW, device="cuda", others={}, floor=None), gpu="NVIDIA Card 9")
    new["checks"] = ["Tests on the GPU: 12 passed, 0 skipped"]
    file = tmp_path / "gpu_check.json"
    file.write_text(json.dumps(new), "utf-8")
    for _ in range(2):  # the second time, it replaces the first
        assert suite.main(["--merge", str(file)]) == 0
        page = (tmp_path / "performance.md").read_text("utf-8")
        assert page.count("## NVIDIA Card 9") == 1
        assert page.count("| 4 images | 500 ms, 2.00 GB |") == 2 and page.count("As before.") == 1
        assert "- Tests on the GPU: 12 passed, 0 skipped" in page
    assert (tmp_path / "performance.svg").exists()


@pytest.mark.parametrize("arguments", [[], ["missing.json"], ["{}"], ["old.json"], ["one", "two"]])
def test_merge_rejects_other_files(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    Path("{}").write_text("{}")
    Path("old.json").write_text(json.dumps({"machine": MACHINE, "benches": {"bench_load": {"rows": [{"title": "A"}]}}}))
    assert suite.main(["--merge", *arguments]) == 2
    assert "gpu_check" in capsys.readouterr().err and not suite.RESULTS.exists()


def test_format_page_has_a_table_per_job_and_each_reason_once() -> None:
    late = [replace(ROW, what=f"{n} images", goals={"rembg": 4.0}, note="Products take 0.4 s.") for n in (64, 128)]
    high = [replace(ROW, what=f"{n} masks", floor=0.5 / n, note="Products take 0.4 s.") for n in (2, 3)]
    other = rows.Cell(rows.Spread(1.0, 1.0, 1.0, 1), part="8 images")
    page = write_docs.format_page(
        [make_results(ROW, *late, *high, replace(ROW, others={"ComfyUI": other, "Impact Pack": FAILED}), FIGURE)]
    )
    assert (
        "## A processor, 2 cores" in page and "2026-01-02, commit 0123456789: Linux, Python 3.12, torch 2.13." in page
    )
    assert "in 2 minutes" in page and "at most 1.3 times the floor" in page
    assert "|  | this pack | rembg | KJNodes | ComfyUI | Impact Pack | times as fast | times the floor |" in page
    assert "| 4 images | 500 ms, 2.00 GB | 1.00 s \u00b1 25% | 2.00 s, 3 MB |  |  | 2.00 | 1.11 |" in page
    assert "| 4 images | 500 ms, 2.00 GB |  |  | 1.00 s (from 8 images) | fails | 2.00 | 1.11 |" in page
    assert "Impact Pack fails: KeyError: 1" in page
    assert "| 64 images \\* |" in page and page.count("Products take 0.4 s.") == 1
    assert (
        "- **Cut out**: 64 images (2.00 times as fast as rembg (goal: 4)); 128 images (2.00 times as fast as rembg "
        "(goal: 4)); 2 rows at up to 3.00 times the floor. Products take 0.4 s."
    ) in page
    assert (
        "Also measured: own share \\*: 7.50 % (at most 5 %)." in page
        and "own share (7.50 % (at most 5 %)). It is small." in page
    )


def test_format_page_gives_the_own_share_of_the_detailer() -> None:
    results = make_results(replace(ROW, floor=0.4, max_times_floor=2))
    results["benches"]["bench_gradient"]["rows"][0]["job"] = write_docs.OWN_SHARE
    page = write_docs.format_page([results])
    assert "| times as fast | own share |" in page and "| 2.00 | 20.0% |" in page and "Missed goals" not in page


def test_draw_shows_the_headlines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_docs.draw([make_results(ROW, replace(ROW, what="another", headline=False))], tmp_path / "chart.svg")
    chart = (tmp_path / "chart.svg").read_text("utf-8")
    assert "Cut out: 4 images" in chart and "2.00  rembg" in chart and "another" not in chart


def test_performance_page_shows_the_stored_results() -> None:
    assert (write_docs.DOCS / "performance.md").read_text("utf-8") == write_docs.format_page(STORED)
    assert STORED and (write_docs.DOCS / "performance.svg").exists()


@pytest.mark.parametrize("machine", STORED, ids=lambda machine: machine["name"])
def test_stored_rows_that_miss_their_target_have_a_reason(machine: dict) -> None:
    stored = [rows.from_json(line) for bench in machine["benches"].values() for line in bench["rows"]]
    assert [row.what for row in stored if row.misses and not row.note] == []


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
    monkeypatch.setattr(suite, "measure", lambda *_: pytest.fail("it ran"))
    assert suite.main([option]) == 0
    assert "dev.py bench [NAME ...] [--quick]" in capsys.readouterr().out
