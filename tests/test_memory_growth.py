"""Memory does not grow with the number of runs: 200 runs of each node in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pack import ROOT

RUNS, WARM_UP = 200, 80  # caches and the allocator fill up in the first runs
LIMIT = 6_000_000  # bytes; an image of a run has 150 kB, and its results several times that

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc"),
]

# Each run has different images, texts and seeds, so that leaks of any run add up.
SCRIPT = """
import gc, os, sys
from pathlib import Path
tools, tests, folder, runs, warm_up = *sys.argv[1:4], *map(int, sys.argv[4:6])
sys.path[:0] = [tools, tests]
import torch
torch.set_num_threads(1)
import pack
pack.load_pack()
import exact_diffusion, tiny_clipseg
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.text import clipseg_engine
from maskwright.core.text.clipseg_engine import TensorCache
from maskwright.core.detail.detail import Backend, Pipe, detail
from maskwright.core.detail.settings import DetailerSettings

node = {name: kind() for name, kind in NODE_CLASS_MAPPINGS.items()}
pair = tiny_clipseg.make(Path(folder) / "clipseg")
words = ("red", "green", "circle", "square", "sky", "cat")
# The caches are bounded, and full before the measurement starts.
clipseg_engine._IMAGE_CACHE, clipseg_engine._TEXT_CACHE = TensorCache(1_000_000), TensorCache(4_000)
generator = torch.Generator().manual_seed(0)

def rand(*shape):
    return torch.rand(shape, generator=generator)

def gradient(number):
    node["GradientRegion"].gradient_region(rand(1, 192, 192), 5)

def clipseg(number):
    text = f"{words[number % 6]} {words[number // 6 % 6]} {number}"
    node["CLIPSeg"].segment_image(rand(1, 64, 192, 3), text, 3.0, 0.3, 4, "", 352, pair)
    node["CLIPSegMasking"].CLIPSeg_image(rand(2, 64, 96, 3), text, pair)

def segmentation(number):
    node["ImageSegmentation"].node(rand(1, 96, 96, 3), "demo: salient object (bundled)", "false", 240, 20, 10, "false")

def matting(number):
    node["ImageSegmentation"].node(rand(1, 48, 48, 3), "demo: salient object (bundled)", "true", 240, 20, 10, "true")

def detailer(number):
    mask = torch.zeros(1, 96, 96)
    mask[:, 32:64, 32:64] = 1
    backend = Backend(exact_diffusion.EulerSampler(), exact_diffusion.SpaceToDepthVae())
    settings = DetailerSettings(guide_size=64, steps=2, seed=number)
    detail(rand(1, 96, 96, 3), mask, Pipe(exact_diffusion.KnownTarget(0.9), "positive", "negative"), backend, settings)

work = globals()[sys.argv[6]]
def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

for number in range(runs):
    if number == warm_up:
        before = resident()
    work(number)
print(resident() - before)
"""


@pytest.mark.parametrize("work", ["gradient", "clipseg", "segmentation", "matting", "detailer"])
def test_memory_does_not_grow_over_runs(work: str, tmp_path: Path) -> None:
    for package in {"clipseg": ["transformers"], "segmentation": ["rembg"], "matting": ["rembg", "pymatting"]}.get(
        work, []
    ):
        pytest.importorskip(package, exc_type=ImportError)
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "tools"), str(ROOT / "tests"), str(tmp_path)]
    process = subprocess.run([*command, str(RUNS), str(WARM_UP), work], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout.split()[-1]) < LIMIT
