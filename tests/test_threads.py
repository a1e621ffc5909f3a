"""Torch's number of threads is the user's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from maskwright.core import threads
from pack import ROOT


def test_the_number_is_put_back_after_an_error_too() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads.keep_torch_threads():
        torch.set_num_threads(before + 1)
        raise KeyError
    assert torch.get_num_threads() == before


# numba is imported, and starts its threads, once in a process.
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(3)
torch.ones(1 << 20) * 2  # from its first work on, torch's number is OpenMP's, which others set too
import pack
pack.load_pack()
from maskwright.core import matting
from maskwright.models import rembg
{what}
print(torch.get_num_threads())
"""
MATTING = """
mask = torch.zeros(40, 40)
mask[10:30, 10:30] = torch.linspace(0.2, 1, 20)
mask[16:24, 16:24] = 1
matting.matte(torch.rand(40, 40, 3), mask, matting.MattingSettings(240, 20, 3))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("needs", "what"), [("pymatting", MATTING), ("rembg", "rembg._session_classes()")])
def test_background_removal_leaves_the_number_of_threads_alone(needs: str, what: str) -> None:
    if needs == "rembg":
        pytest.importorskip("onnxruntime", reason="rembg needs onnxruntime")
    pytest.importorskip(needs)
    command = [sys.executable, "-c", SCRIPT.format(what=what), str(Path(ROOT) / "tools")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "3"
