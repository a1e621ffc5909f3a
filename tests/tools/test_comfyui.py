"""Finding ComfyUI, and the life of a server, against a stand-in."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import comfyui
import find_comfyui
import pytest
from fake_comfyui import is_port_closed, is_process_running, posix_only
from workflow.engine_interface import BadWorkflow, NodeFailed, OutputFile
from workflow_cases import TOOLS


def test_queue_runs_a_prompt_and_the_block_ends_the_server(fake_comfyui: Callable) -> None:
    with comfyui.Server(fake_comfyui("works"), cpu=True) as server:
        linked = server.base / "custom_nodes" / comfyui.LINK_NAME
        assert (linked / "__init__.py").is_file()
        result = server.queue({"4": {"class_type": "N", "inputs": {}}})
        assert result.files == [OutputFile("4", server.base / "output/s/a.png", "output", "s")]
    assert is_port_closed(server.port)
    assert not server.base.exists()
    assert (comfyui.ROOT / "__init__.py").is_file()  # the link was removed, not what it points at


@posix_only
def test_stop_ends_children_after_an_exception(fake_comfyui: Callable) -> None:
    with pytest.raises(ZeroDivisionError), comfyui.Server(fake_comfyui("works"), cpu=True) as server:
        child = int((server.base / "child").read_text())
        assert is_process_running(child)
        raise ZeroDivisionError
    assert is_port_closed(server.port)
    assert not is_process_running(server_child := child), server_child


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", 9)])
def test_server_ends_when_its_parent_is_killed(fake_comfyui: Callable, tmp_path: Path, number: int) -> None:
    place = fake_comfyui("works")
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import comfyui, pathlib\n"
        "comfy = comfyui.ComfyUI(pathlib.Path(sys.argv[2]), pathlib.Path(sys.executable), '', '')\n"
        "with comfyui.Server(comfy, cpu=True) as server:\n"
        "    print(server.port, server.pid, server.base, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(TOOLS), str(place.path)], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as parent:  # fmt: skip
        port, pid, base = parent.stdout.readline().split()
        child = int((Path(base) / "child").read_text())
        parent.send_signal(number)
        parent.wait(20)
    assert is_port_closed(int(port))
    until = time.monotonic() + 10
    while (
        is_process_running(int(pid)) or is_process_running(child) or Path(base).exists()
    ) and time.monotonic() < until:
        time.sleep(0.1)
    assert (is_process_running(int(pid)), is_process_running(child), Path(base).exists()) == (False, False, False)


def test_server_shows_its_log_if_it_dies_at_the_start(fake_comfyui: Callable) -> None:
    with pytest.raises(comfyui.ServerError) as caught, comfyui.Server(fake_comfyui("dies"), cpu=True):
        pass
    text = str(caught.value)
    assert "exited before it responded (exit code 1)" in text
    assert "no such option" in text
    assert "line 39" in text
    assert "line 9\n" not in text


def test_server_stops_waiting_at_the_time_limit(fake_comfyui: Callable) -> None:
    server = comfyui.Server(fake_comfyui("hangs"), cpu=True, time_limit=0.8)
    with pytest.raises(comfyui.ServerError, match="did not respond within 1 seconds"), server:
        pass
    assert not server.base.exists()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("refuses", BadWorkflow, "node 4 .N.: Value 9 bigger than max of 3: n"),
        ("refuses a part", BadWorkflow, "node 4 .N.: Value 9 bigger than max of 3: n"),
        ("node fails", NodeFailed, "node 4 .N. failed: ValueError: no"),
        ("dies in the run", comfyui.ServerError, "ComfyUI exited during the run"),
    ],
)
def test_queue_turns_errors_of_the_server_into_sentences(
    fake_comfyui: Callable, how: str, error: type, message: str
) -> None:
    with comfyui.Server(fake_comfyui(how), cpu=True) as server, pytest.raises(error, match=message):
        server.queue({"4": {"class_type": "N", "inputs": {"n": 9}}})


def test_write_model_paths_adds_folders_for_downloads(tmp_path: Path) -> None:
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    comfy = comfyui.ComfyUI(tmp_path, Path(sys.executable), "", "")
    server = comfyui.Server(comfy, models=tmp_path / "models")
    server.base = tmp_path
    section = json.loads(server._write_model_paths().read_text())["models"]
    assert section["base_path"] == str(tmp_path / "models")
    assert section["is_default"] is True
    assert section["checkpoints"] == "checkpoints"
    assert section["clipseg"] == "clipseg"


def make_comfyui(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "comfyui_version.py").write_text('__version__ = "1.2.3"\n')
    return folder


def test_find_comfyui_searches_in_order(no_comfyui: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_comfyui, "_find_problem", lambda python: "")
    pack = tmp_path / "other" / "custom_nodes" / "maskwright"
    none = comfyui.find_comfyui(pack)
    assert not none.usable
    assert "COMFYUI_PATH is not set" in none.why
    documents = [] if sys.platform.startswith("linux") else ["Documents"]
    default = make_comfyui(tmp_path.joinpath("home", *documents, "comfy", "ComfyUI"))
    assert comfyui.find_comfyui(pack).path == default
    around = make_comfyui(tmp_path / "other")
    assert comfyui.find_comfyui(pack).path == around
    named = make_comfyui(tmp_path / "named")
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    comfy = comfyui.find_comfyui(pack)
    assert (comfy.path, comfy.version, comfy.usable) == (named, "1.2.3", True)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nothing"))
    assert "not a ComfyUI folder" in comfyui.find_comfyui(pack).why


def test_find_comfyui_says_what_a_python_lacks(
    no_comfyui: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(make_comfyui(tmp_path / "ComfyUI")))
    monkeypatch.setattr(find_comfyui, "NEEDED_MODULES", ("json", "surely_not_there"))
    comfy = comfyui.find_comfyui()
    assert not comfy.usable
    assert "ComfyUI 1.2.3 is in" in comfy.why
    assert "lacks surely_not_there" in comfy.why
    assert "let COMFYUI_PYTHON name another Python" in comfy.why
    monkeypatch.setenv("COMFYUI_PYTHON", str(tmp_path / "python"))
    assert f"no Python can run it: {tmp_path / 'python'} does not run" in comfyui.find_comfyui().why
