"""The previews' JavaScript, run by Node's test runner on arrays computed by core/."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from maskwright.core import filters, morphology, tensors
from maskwright.core.edit import MaskEdits, edit_masks
from maskwright.core.text import segment
from maskwright.core.text.segment import NORMALIZATIONS, Selection, select, stretch
from maskwright.nodes import _view
from pack import ROOT

TESTS = sorted((ROOT / "tests" / "js").glob("*.test.mjs"))
SIZES = [(1, 1), (1, 7), (23, 17), (352, 352)]  # width, height


def skip_reason() -> str:
    node = shutil.which("node")
    if node is None:
        return "Node.js is not installed"
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")
    major = int(version.split(".")[0] or 0) if version[:1].isdigit() else 0
    return "" if major >= 20 else f"Node.js 20 or newer is needed; this is {version or 'of unknown version'}"


def blobs(width: int, height: int, seed: int, empty: bool = False) -> torch.Tensor:
    """Probabilities ``[1,h,w]`` like a model's: a few soft regions on a dark background."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, height, width, generator=generator)
    smooth = filters.gaussian_blur(noise, max(width, height) / 16)
    spread = (smooth - smooth.mean()) / smooth.std().clamp(min=1e-6) if smooth.numel() > 1 else noise * 4 - 2
    probabilities = (spread * 3 - 2).sigmoid()
    return probabilities * 0.1 if empty else probabilities


def arithmetic_cases() -> list[tuple[dict, dict[str, torch.Tensor | np.ndarray]]]:
    cases = []

    def add(kind: str, arrays: dict, **facts: object) -> None:
        cases.append(({"kind": kind, "name": f"{kind}-{len(cases)}", **facts}, arrays))

    for seed, (width, height) in enumerate(SIZES):
        for sigma, level, grow in ((0.0, 0.0, 0), (0.7, 0.3, 1), (3.0, 0.3, 4), (15.0, 0.85, 30)):
            values = blobs(width, height, seed)
            thresholded = torch.where(values > level, values, 0.0)
            arrays = {
                "input": values,
                "thresholded": thresholded,
                "blurred": filters.truncated_blur(values, sigma),
                "thresholdedAndBlurred": filters.truncated_blur(thresholded, sigma),
                "dilated": morphology.dilate(values, 2 * grow + 1),
            }
            add("steps", arrays, width=width, height=height, level=level, sigma=sigma, grow=grow)

    for number, (settings, scale, size, empty) in enumerate(
        (
            ((3.0, 0.3, 4), 1.0, (352, 352), False),
            ((7.0, 0.4, 5), 1.0, (352, 352), False),
            ((0.0, 0.0, 0), 1.0, (352, 352), False),
            ((15.0, 0.95, 100), 1.0, (352, 352), False),
            ((2.5, 0.3, 3), 1.5, (96, 96), False),
            ((1.0, 0.25, 5), 0.5, (96, 96), False),
            ((3.0, 0.3, 4), 1.0, (352, 352), True),
        )
    ):
        values = blobs(*size, number, empty)
        selection = select(values, Selection(*settings), scale)
        arrays = {
            "input": values,
            "selected": selection,
            "levels": (segment.apply_color_map(selection, "greys")[..., 0] * 255).round().to(torch.uint8),
        }
        names = dict(zip(("blur", "threshold", "dilation_factor"), settings))
        add("selection", arrays, settings=names, scale=scale, width=size[0], height=size[1])

    for number, new in enumerate(((352, 352), (1024, 768), (100, 90), (1, 1))):
        values = blobs(352, 352, number)
        for normalization in NORMALIZATIONS:
            if normalization == "stretch":
                mask = stretch(values, new[1], new[0])
            else:
                mask = tensors.resize_mask(values, new[1], new[0], "bicubic")
            facts = {"width": 352, "height": 352, "newWidth": new[0], "newHeight": new[1]}
            add("probabilities", {"input": values, "mask": tensors.to_8bit(mask)}, normalization=normalization, **facts)

    for mask, settings, scale in mask_edits():
        edited = edit_masks(mask, MaskEdits(**settings))[0]
        small = _view._shrink_mask(mask[0])  # as the node sends it, [h,w]
        height, width = small.shape
        arrays = {"input": small, "mask": tensors.resize_mask(edited, height, width, "area")}
        add("edits", arrays, settings=settings, width=width, height=height, scale=scale)
    for size, shape, edge in itertools.product((1, 3, 4, 9), morphology.SHAPES, morphology.EDGES):
        values = blobs(40, 29, size)
        names = {"kernel_size": size, "shape": shape, "edge": edge}
        arrays = {"input": values, "mask": morphology.gradient(values, size, shape, edge)}
        add("edges", arrays, settings=names, width=40, height=29, scale=1.0)

    values = blobs(31, 20, 5)
    add("halves", {"input": values, "file": tensors.to_16bit_halves(values[0])}, width=31, height=20)

    ramp = (torch.arange(256) + 0.5) / 256
    edges = torch.cat([ramp, torch.tensor([0.0, 1.0, 1 / 256, 255 / 256])]).view(1, 1, -1)
    arrays = {
        "viridis": (segment.apply_color_map(ramp.view(1, 1, -1), "viridis") * 255).round().to(torch.uint8).numpy(),
        "greys": (segment.apply_color_map(ramp.view(1, 1, -1), "greys")[..., 0] * 255).round().to(torch.uint8).numpy(),
        "values": edges,
        "steps": (edges * 256).clamp(0, 255).to(torch.uint8).numpy(),
    }
    add("colors", arrays)
    return cases


def mask_edits() -> Iterator[tuple[torch.Tensor, dict, float]]:
    """Masks ``[1,H,W]``, settings of the node Edit Mask, and the scale of the preview."""
    random = np.random.default_rng(0)
    ranges = {
        "threshold": (0.0, 1.0), "remove_specks": (0, 300), "grow": (-20.0, 20.0), "smooth": (0.0, 10.0),
        "feather_inside": (0.0, 20.0), "feather_outside": (0.0, 20.0), "blur": (0.0, 12.0),
    }  # fmt: skip
    for seed in range(24):
        is_hard = seed % 2 == 0
        width, height = (1500, 1100) if seed in (2, 3) else [(160, 120), (97, 201), (1, 9), (1, 1)][seed % 4]
        mask = blobs(width, height, seed)
        mask = (mask >= 0.5).float() if is_hard else mask
        settings = {name: bool(random.random() < 0.3) for name in ("invert", "fill_holes")}
        for name, (low, high) in ranges.items():
            if random.random() < 0.5:
                value = random.uniform(low, high)
                settings[name] = int(value) if name == "remove_specks" else round(float(value), 2)
        yield mask, settings, min(1.0, _view.LONGEST_SIDE / max(width, height))
    hard, soft = (blobs(160, 120, 1) >= 0.5).float(), blobs(160, 120, 1)
    for name, (low, high) in ranges.items():  # each alone
        for mask, value in itertools.product((hard, soft), (low, high / 3, high)):
            yield mask, {name: int(value) if name == "remove_specks" else value}, 1.0
    for mask in (hard, soft, hard * 0, hard * 0 + 1):  # a blur with a large sigma, all black, all white
        yield mask, {"blur": 40.0}, 1.0
        yield mask, {"fill_holes": True, "invert": True, "grow": 3.5, "smooth": 7.0, "feather_inside": 4.0}, 1.0


def write_cases(folder: Path) -> None:
    listed = []
    for facts, arrays in arithmetic_cases():
        kinds = {}
        for name, array in arrays.items():
            array = array.numpy() if isinstance(array, torch.Tensor) else array
            (folder / f"{facts['name']}-{name}.bin").write_bytes(np.ascontiguousarray(array).tobytes())
            kinds[name] = str(array.dtype)
        listed.append({**facts, "arrays": kinds})
    (folder / "cases.json").write_text(json.dumps(listed), encoding="utf-8")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    write_cases(folder)
    return folder


@pytest.mark.skipif(bool(skip_reason()), reason=skip_reason())
@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_javascript_matches_core(file: Path, arrays: Path) -> None:
    done = subprocess.run(
        [shutil.which("node"), "--test", str(file)],
        env={**os.environ, "MASKWRIGHT_ARRAYS": str(arrays)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_javascript_uses_only_public_editor_api() -> None:
    """Only two external imports, no changed prototypes, and no globals."""
    folder = ROOT / "web" / "js"
    assert [file.name for file in folder.glob("*.js")] == ["maskwright.js"], "the editor loads every .js file"
    outside = set()
    for file in sorted(folder.iterdir()):
        code = re.sub(r"//.*|/\*[\s\S]*?\*/", "", file.read_text(encoding="utf-8"))
        outside |= {name for name in re.findall(r'(?:from|import)\s*\(?"([^"]+)"', code) if not name.startswith("./")}
        matches = re.findall(r"\bwindow\b\s*[.\[]|\bglobalThis\b|\bself\.|\.prototype\b|__proto__|comfyAPI", code)
        assert matches == [], file.name
    assert outside == {"../../../scripts/api.js", "../../../scripts/app.js"}


def test_javascript_and_python_agree_on_longest_workflow_id() -> None:
    code = (ROOT / "web" / "js" / "graph.mjs").read_text("utf-8")
    assert re.search(r"LONGEST_ID = (\d+);", code)[1] == str(_view.LONGEST_ID)
