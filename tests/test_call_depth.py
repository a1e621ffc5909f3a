"""How much code one call of a node runs through: few files and functions, so that a reader can follow it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from demo_scenes import HELD_OUT, salient_scenes
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.models import background_models, clipseg_store
from pack import ROOT

IMAGES = torch.rand(2, 200, 240, 3, generator=torch.Generator().manual_seed(0))
DEFAULTS = ("true", 240, 20, 10, "false")  # widgets of ImageSegmentation


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """On the CPU, as many images as threads are processed in parallel, which takes some more functions."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trace_functions(call: Callable[[], object]) -> set[tuple[str, int, str]]:
    """The functions of this pack that a second call runs, in all threads: file, first line and name."""
    call()
    folders = tuple(str(ROOT / layer) for layer in ("core", "models", "nodes"))
    functions = set()

    def record(frame, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(folders):
            functions.add((frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_code.co_name))

    before = sys.getprofile()
    threading.setprofile(record)
    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    return {(Path(file).relative_to(ROOT).as_posix(), line, name) for file, line, name in functions}


def test_text_to_mask_crosses_few_functions() -> None:
    pytest.importorskip("transformers")
    (model,) = NODE_CLASS_MAPPINGS["CLIPSegModelLoader"]().clipseg_model(clipseg_store.DEMO)
    node = NODE_CLASS_MAPPINGS["CLIPSeg"]()
    functions = trace_functions(lambda: node.segment_image(IMAGES, "red star", clipseg_model=model))
    files = {file for file, *_ in functions}
    assert {"nodes/clipseg.py", "core/text/clipseg_engine.py", "core/morphology.py"} <= files
    assert len(files) <= 12, sorted(files)
    assert len(functions) <= 75, sorted(functions)


@pytest.mark.parametrize("runs_matting", [False, True])
def test_background_removal_crosses_few_files(runs_matting: bool) -> None:
    """With the default widgets, and without alpha matting."""
    pytest.importorskip("rembg.sessions")
    pytest.importorskip("pymatting")
    images = torch.from_numpy(salient_scenes.draw_salient_scene(HELD_OUT, (200, 240)).image).float().div(255)[None]
    widgets = DEFAULTS if runs_matting else ("false", *DEFAULTS[1:])
    node = NODE_CLASS_MAPPINGS["ImageSegmentation"]()
    functions = trace_functions(lambda: node.node(images, background_models.DEMO, *widgets))
    files = {file for file, *_ in functions}
    assert {"nodes/image_segmentation.py", "core/cutout/matting.py", "models/rembg.py"} <= files
    assert ("core/cutout/closed_form.py" in files) == runs_matting
    assert len(files) <= 12, sorted(files)
    assert len(functions) <= 75, sorted(functions)
