"""The benchmark of MaskDetailerPipe, without a ComfyUI."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

bench_detailer_comfyui = pytest.importorskip("bench_detailer_comfyui")
from workflow.engine_interface import NodeFailed  # noqa: E402 - found through the bench


def test_runs_here_leaves_out_a_node_that_fails(capsys: pytest.CaptureFixture) -> None:
    class Bench(bench_detailer_comfyui.Bench):
        def __init__(self) -> None:
            self.side = 32

        def __call__(self, *_: object, whose: str, **__: object) -> None:
            if whose == "Impact":
                raise NodeFailed("detail", "FixtureDetailWith", "no attribute 'apply'", "AttributeError", [])

    assert bench_detailer_comfyui.runs_here(Bench(), "Maskwright")
    assert not bench_detailer_comfyui.runs_here(Bench(), "Impact")
    assert "Impact fails: " in capsys.readouterr().out
