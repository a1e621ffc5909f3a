"""Torch's thread count stays as the user set it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from maskwright.core import threads
from pack import ROOT


def test_keep_torch_threads_restores_count_after_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads.keep_torch_threads():
        torch.set_num_threads(before + 1)
        raise KeyError
    assert torch.get_num_threads() == before


# A new process, because numba starts its threads once, when imported.
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(3)
torch.ones(1 << 20) * 2  # from the first operation on, the count is OpenMP's, which other packages also set
import pack
pack.load_pack()
from maskwright.core.cutout import matting
from maskwright.models import rembg
{code}
print(torch.get_num_threads())
"""
MATTING = """
mask = torch.zeros(40, 40)
mask[10:30, 10:30] = torch.linspace(0.2, 1, 20)
mask[16:24, 16:24] = 1
matting.matte(torch.rand(40, 40, 3), mask, matting.MattingSettings(240, 20, 3))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("package", "code"), [("pymatting", MATTING), ("rembg", "rembg._session_classes()")])
def test_background_removal_keeps_torch_threads(package: str, code: str) -> None:
    if package == "rembg":
        pytest.importorskip("onnxruntime", reason="rembg needs onnxruntime")
    pytest.importorskip(package)
    command = [sys.executable, "-c", SCRIPT.format(code=code), str(Path(ROOT) / "tools")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[-1] == "3"
