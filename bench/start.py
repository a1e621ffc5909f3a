"""Runs ``main(quick)`` of a benchmark; called by `suite.py`.

A benchmark with ``IN_COMFYUI = True`` runs with ComfyUI's Python, after ComfyUI's own modules (see `hosted.py`).

    python bench/start.py FILE [--quick]
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hosted
import torch
from find_comfyui import find_comfyui


def main(script: Path, quick: bool) -> int:
    sys.path.insert(0, str(script.parent))
    benchmark = importlib.import_module(script.stem)
    if not getattr(benchmark, "IN_COMFYUI", False):
        benchmark.main(quick)
        return 0
    if hosted.VERSION in os.environ:
        with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
            hosted.start_comfyui(scratch)
            benchmark.main(quick)
        sys.stdout.flush()
        os._exit(0)  # other packs may have started threads
    comfy = find_comfyui()
    if not comfy.usable:
        print(f"skipped: {comfy.why}")
        return 0
    command = [str(comfy.python), __file__, str(script), *(["--quick"] if quick else [])]
    return subprocess.run(command, cwd=comfy.path, env={**os.environ, hosted.VERSION: comfy.version}).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), "--quick" in sys.argv))
