"""Nothing grows over many runs of every node in one ComfyUI process: memory, GPU memory, files, threads.

``MASKWRIGHT_RUNS`` sets the number of runs: 300 take minutes.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import comfyui
import maskwright
import numpy as np
import pytest
from detailer_prompts import WIDGETS
from maskwright.models.clipseg_store import DEMO as CLIPSEG

RUNS = int(os.environ.get("MASKWRIGHT_RUNS", "30"))
WARM_UP = 20  # runs in which caches and pools fill up
LAST = 5  # runs whose median or maximum counts
SIDE = 192
IMAGES = 8  # different ones: CLIPSeg caches the last of them, up to 64 MB, and must be full after the warm-up
# Bytes: the allocator's noise, and for each run a part of one image of a run, which takes 442 kB.
NOISE, PER_RUN = 24_000_000, 100_000

IMAGE_NODES, MASK_NODES = ("cut", "stitch", "detail", "decode"), ("edges", "soft", "both")  # outputs that are computed
SALIENT = "demo: salient object (bundled)"

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="memory and files are read from /proc")


class Usage(NamedTuple):
    memory: int
    gpu_memory: int
    files: int
    threads: int
    temporary_files: int


@pytest.fixture(scope="module")
def classic_server(found: comfyui.ComfyUI, background_removal: None) -> Iterator[comfyui.Server]:
    """A ComfyUI whose cache holds the last run only."""
    packs = [Path(__file__).parent / "fixture_nodes"]
    with comfyui.Server(found, packs=packs, arguments=["--cache-classic"]) as server:
        yield server


def measure(server: comfyui.Server) -> Usage:
    process = Path("/proc") / str(server.pid)
    memory = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    gpus = [each for each in server.get("/system_stats")["devices"] if each["type"] == "cuda"]
    gpu_memory = sum(each["torch_vram_total"] - each["torch_vram_free"] for each in gpus)  # in use by PyTorch
    counts = [len(os.listdir(process / name)) for name in ("fd", "task")]
    return Usage(memory, gpu_memory, *counts, sum(file.is_file() for file in (server.base / "temp").rglob("*")))


def make_builder(server: comfyui.Server) -> Callable[[int], dict]:
    """A function that builds the prompt of a run: every node of the pack, none of them in ComfyUI's cache."""
    schemas = server.object_info()

    def node(kind: str, /, **inputs: object) -> dict:
        defaults = {}
        for name, (values, *options) in schemas[kind]["input"]["required"].items():
            first = values[0] if isinstance(values, list) and values else None
            default = options[0].get("default", first) if options else first
            if default is not None:
                defaults[name] = default
        return {"class_type": kind, "inputs": {**defaults, **inputs}}

    def build(number: int) -> dict:
        random = np.random.default_rng(number % IMAGES)
        np.save(server.input_folder / "image.npy", random.random((1, SIDE, SIDE, 3), np.float32))
        mask = np.zeros((1, SIDE, SIDE), np.float32)
        for x, y in random.integers(0, SIDE - 48, (3, 2)):
            mask[:, y : y + 48, x : x + 48] = 1
        np.save(server.input_folder / "mask.npy", mask)
        image, mask = ["image", 0], ["mask", 1]
        text = f"red star {number}"
        detail = {**WIDGETS, "seed": number, "steps": 2}
        return {
            # Another spelling of the path each time, so that the files are read again.
            "image": node("FixtureTensor", file="./" * number + "image.npy"),
            "mask": node("FixtureTensor", file="./" * number + "mask.npy"),
            "loader": node("CLIPSegModelLoader", model=CLIPSEG),
            "text": node("CLIPSeg", image=image, text=text, clipseg_model=["loader", 0]),
            "soft": node("CLIPSegMasking", images=image, text=text, clipseg_model=["loader", 0]),
            "edges": node("GradientRegion", masks=["text", 0]),
            "both": node("CombineSegMasks", input_image=image, mask_1=["text", 0], mask_2=mask),
            "cut": node("ImageSegmentation", images=image, model=SALIENT, alpha_matting="true"),
            "edit": node("EditMask", mask=mask, image=image, grow=4.0, smooth=2.0, feather_outside=8.0),
            "refine": node("RefineMask", image=image, mask=["edit", 0]),
            "split": node("MaskInstances", masks=mask, image=image),
            "crop": node("RegionCrop", image=image, mask=["split", 0], width=128, height=128),
            "stitch": node("RegionStitch", stitch=["crop", 2], crops=["crop", 0]),
            "model": node("FixtureModel", kind="eps"),
            "vae": node("FixtureVae", kind="exact"),
            "clip": node("FixtureClip"),
            "prompt": node("FixtureConditioning", seed=0),
            "pipe": node("ToBasicPipe", model=["model", 0], clip=["clip", 0], vae=["vae", 0],
                         positive=["prompt", 0], negative=["prompt", 0]),
            "changed": node("EditBasicPipe", basic_pipe=["pipe", 0], positive=["prompt", 0]),
            "parts": node("FromBasicPipe", basic_pipe=["changed", 0]),
            "detail": node("MaskDetailerPipe", image=image, mask=mask, basic_pipe=["changed", 0], **detail),
            "encode": node("VAEEncode", pixels=image, vae=["parts", 2]),
            "decode": node("VAEDecode", samples=["encode", 0], vae=["parts", 2]),
            # Unlike previews, these write no files.
            **{f"record {name}": node("FixtureRecord", image=[name, 0]) for name in IMAGE_NODES},
            **{f"record {name}": node("FixtureRecord", masks=[name, 0]) for name in MASK_NODES},
        }  # fmt: skip

    return build


@pytest.fixture(scope="module")
def usages(classic_server: comfyui.Server) -> list[Usage]:
    build, editor = make_builder(classic_server), {"workflow": {"nodes": [], "id": "the workflow"}}
    own = {name for name, kind in maskwright.NODE_CLASS_MAPPINGS.items() if name == kind.__name__}
    assert own <= {node["class_type"] for node in build(0).values()}
    measured = []
    for number in range(RUNS):
        done = classic_server.queue(build(number), extra_pnginfo=editor)
        assert {f"record {name}" for name in IMAGE_NODES + MASK_NODES} <= set(done.outputs)
        measured.append(measure(classic_server))
    print(*(f"after {number} runs: {measured[number - 1]}" for number in range(WARM_UP, RUNS + 1, 20)), sep="\n")
    return measured


@pytest.mark.parametrize("what", ["memory", "gpu_memory"])
def test_memory_is_flat(usages: list[Usage], what: str) -> None:
    values = [getattr(each, what) for each in usages]
    early, late = statistics.median(values[WARM_UP - LAST : WARM_UP]), statistics.median(values[-LAST:])
    assert late - early < NOISE + PER_RUN * (RUNS - WARM_UP), values


@pytest.mark.parametrize("what", ["files", "threads", "temporary_files"])
def test_counts_are_flat(usages: list[Usage], what: str) -> None:
    counts = [getattr(each, what) for each in usages]
    assert max(counts[-LAST:]) <= max(counts[:WARM_UP]), counts
