"""The line that tells what goes on."""

from __future__ import annotations

import io

import progress
import pytest


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_quiet_for_a_second_and_uses_no_carriage_returns_in_a_file() -> None:
    clock, stream = Clock(), io.StringIO()
    line = progress.ProgressLine(stream, clock)
    for clock.now in (0.0, 0.5):
        line.show("starting ComfyUI")
    assert stream.getvalue() == ""
    for clock.now in (1.5, 3.0, 9.0, 12.0):
        line.tick()
    line.show("node 1")
    line.end()
    assert stream.getvalue() == "starting ComfyUI (2 s)\nstarting ComfyUI (12 s)\n"


def test_progress_on_a_terminal_is_one_line_that_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), Terminal()
    monkeypatch.setattr(progress, "_tqdm", lambda: None)
    line = progress.ProgressLine(stream, clock)
    clock.now = 2.0
    line.show("node 4 (CLIPSeg)", 1, 3)
    assert stream.getvalue() == "\rnode 4 (CLIPSeg) 1/3 (0 s)"
    line.end()
    assert stream.getvalue().endswith("\r")
    assert "\n" not in stream.getvalue()


def test_progress_with_a_count_on_a_terminal_is_a_tqdm_bar() -> None:
    pytest.importorskip("tqdm")
    clock, stream = Clock(), Terminal()
    line = progress.ProgressLine(stream, clock)
    clock.now = 2.0
    line.show("node 4", 1, 4)
    line.end()
    assert "node 4" in stream.getvalue()
    assert "1/4" in stream.getvalue()
