"""tools/gpu_check.py without an NVIDIA GPU, and on a simulated one."""

from __future__ import annotations

import json
from pathlib import Path

import gpu_check
import pytest
import torch


def test_main_without_a_gpu_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "results.json")]) == 0
    assert capsys.readouterr().out == "PyTorch finds no NVIDIA GPU: nothing to check\n"
    assert not any(tmp_path.iterdir())


def test_main_skips_what_lacks_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "run_tests", lambda *_: ("Tests: 3 passed", "", ""))
    monkeypatch.setattr(gpu_check, "BENCHMARKS", {"clipseg": ["missing_package"]})
    assert gpu_check.main(["--simulated", "--out", str(tmp_path / "results.json")]) == 0
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    skipped = "Benchmark clipseg: skipped, since missing_package is not installed"
    assert results["checks"] == ["Tests: 3 passed", skipped] and results["benches"] == {}


@pytest.mark.slow
def test_main_on_a_simulated_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fake_cuda")
    tests = tmp_path / "test_one.py"
    tests.write_text(
        "import torch\n\ndef test_fake():\n    pass\n\ndef test_fake_bad():\n    assert 0\n\n"
        "def test_fake_with_a_package():\n    import absent_package.part\n"
    )
    (tmp_path / "test_two.py").write_text("# fake\nimport other_package")
    monkeypatch.setattr(gpu_check, "find_tests", lambda: [str(tests), str(tmp_path / "test_two.py")])
    monkeypatch.setattr(gpu_check, "BENCHMARKS", {"on_device": [], "missing": []})
    assert gpu_check.main(["--simulated", "--out", str(tmp_path / "results.json")]) == 1
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    rows = results["benches"]["bench_on_device"]["rows"]
    assert results["machine"]["gpu"] == "simulated" and {row["device"] for row in rows} == {"cuda"}
    assert {"guided filter: 1 image of 320 x 320, float16", "edit, grow by 20: 2 masks of 320 x 320, float32"} <= {
        row["what"] for row in rows
    }
    assert results["checks"] == [
        "Tests on the GPU: 1 passed, 2 skipped (absent_package, other_package not installed): FAILED (1 tests)",
        f"Benchmark on_device: {len(rows)} rows",
        "Benchmark missing: 0 rows: FAILED (exit code 1)",
    ]
