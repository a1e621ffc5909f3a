"""Processes, ports and folders of a server, and their cleanup."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

NOT_COPIED = (".git", ".venv", "venv", "__pycache__", "node_modules", "output", ".pytest_cache", ".ruff_cache")
# Runs ComfyUI's main.py and ends it when the parent process dies. The parent has the other end of stdin and never
# writes, so end of file means that it died, even by SIGKILL, on every system. Children of ComfyUI get an empty stdin:
# on Windows they would hang while a thread reads this one.
BOOTSTRAP = """
import os, runpy, shutil, signal, sys, threading
scratch, sys.argv = sys.argv[1], sys.argv[2:]
parent = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def end_with_parent():
    while os.read(parent, 4096):
        pass
    shutil.rmtree(scratch, ignore_errors=True)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@functools.cache
def has_accelerator(python: Path) -> bool:
    """Whether torch in `python` sees a device other than the CPU."""
    probe = "import torch; print(getattr(torch, 'accelerator', torch.cuda).is_available())"
    result = subprocess.run([str(python), "-c", probe], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return result.stdout.strip().endswith("True")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_process(process: subprocess.Popen, grace: float = 5.0) -> None:
    """Terminate a process and its group; kill them after the grace period, or on a second Ctrl-C."""
    try:
        if process.poll() is None:
            _signal_group(process, force=False)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed below
                process.wait(grace)
    finally:
        _signal_group(process, force=True)  # including children that the server left behind
        process.wait()
        process.stdin.close()


def _signal_group(process: subprocess.Popen, force: bool) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for zombies
            os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
    elif process.poll() is None:  # Windows has no groups to signal; taskkill walks the tree of children
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True)


def link_pack(source: Path, target: Path) -> None:
    """Link `target` to the pack in `source`, or copy it where links are not allowed (Windows)."""
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_COPIED))


def remove_folder(folder: Path) -> None:
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)  # removes links, never what they point at
        if not folder.exists():
            return
        time.sleep(0.3)  # Windows keeps files of a process that has just ended for a moment
