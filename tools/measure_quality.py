#!/usr/bin/env python3
"""Writes docs/quality.md and its images: masks of photographs, beside rembg, and text to mask with the demo model.

    python3 tools/dev.py quality

Downloads rembg's u2netp and u2net (181 MB) unless they are on this computer; see fetch_weights.py. Takes some minutes.
Exit code 1 and one sentence on stderr if the weights cannot be fetched. The text of the page is in quality_page.md.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import fetch_weights  # loads the pack
import numpy as np
from maskwright.core.errors import ModelError
from maskwright.models import catalog, clipseg_loader, clipseg_store
from maskwright.nodes.clipseg import CLIPSeg
from pack import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / "tests"))

import demo_scenes
import measure_refine
import photographs
import torch
from demo_scenes import shape_scenes
from photographs import round_down, sad_mse, true_alpha

TEMPLATE = ROOT / "tools" / "quality_page.md"
PAGE = ROOT / "docs" / "quality.md"
IMAGES = ROOT / "docs" / "quality"

# The table headers in quality_page.md repeat these.
WEIGHTS = ("u2netp", "u2net")
EDGE_WIDTHS = (10, 20, 40)

IMAGE_EDGE_WIDTH = 10  # edge width in the images
WIDTH = 200  # pixels of one panel
SCENES = range(demo_scenes.HELD_OUT, demo_scenes.HELD_OUT + 50)
PROMPTS = {"a color and a shape": "color shape", "a shape": "shape", "a color": "color", "background": "background"}
ORANGE = np.array((255, 150, 40))

Alphas = dict[int, tuple[np.ndarray, np.ndarray]]
"""rembg's alpha and this pack's ``[H,W]``, in whole levels of 255, by edge width; 0 is without matting."""


def main() -> int:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        files = [fetch_weights.fetch(model) for model in WEIGHTS]
    except ModelError as error:
        print(f"nothing was measured: {error.problem}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as home:
        os.environ["U2NET_HOME"] = home  # rembg looks in one folder only
        for file in files:
            shutil.copy(file, home)
        with contextlib.redirect_stdout(io.StringIO()):  # pymatting prints a warning when it retries
            write_page()
    return 0


def write_page() -> None:
    IMAGES.mkdir(exist_ok=True)
    measured = {name: measure(name) for name in photographs.PHOTOGRAPHS}
    libraries = ("rembg", "PyMatting", "onnxruntime", "torch")
    page = TEMPLATE.read_text(encoding="utf-8").format(
        versions=", ".join(f"{name} {version(name)}" for name in libraries),
        weights=format_rows((name, f"`{catalog.BACKGROUND[name].files[0].sha256}`") for name in WEIGHTS),
        images="\n\n".join(f"![{name}](quality/{name}.jpg)" for name in measured),
        shown=IMAGE_EDGE_WIDTH,
        differences=format_rows(find_differences(measured)),
        true_alpha=format_rows(find_errors(measured["lemur"])),
        refined=format_rows(measure_refine.measure_photographs(WEIGHTS)),
        composites=format_rows(measure_refine.measure_composites()),
        **measure_text(),
    )
    PAGE.write_text(page, encoding="utf-8")


def measure(name: str) -> dict[str, Alphas]:
    """Alphas of a photograph for each of `WEIGHTS`. Saves an image of them."""
    import rembg

    logging.info(name)
    photograph, measured, sheet = photographs.load(name), {}, []
    for model in WEIGHTS:
        alphas, cutouts, session = {}, {}, rembg.new_session(model)
        for width in (0, *EDGE_WIDTHS):
            cutout, mask = photographs.remove_background(photograph, model, width)
            settings = photographs.rembg_settings(width)
            rembg_result = rembg.remove(Image.fromarray(photograph), session=session, **settings)
            rembg_alpha = np.array(rembg_result)[..., 3].astype(np.float64)
            cutouts[width] = cutout[0].numpy()
            alphas[width] = rembg_alpha, round_down(255 * mask[0].double().numpy())
        colors, alpha = np.split(cutouts[IMAGE_EDGE_WIDTH], [3], axis=-1)
        panels = [photograph, alphas[0][0], *alphas[IMAGE_EDGE_WIDTH], *([true_alpha()] if name == "lemur" else [])]
        sheet.append([*panels, 255 * colors * alpha + ORANGE * (1 - alpha)])
        measured[model] = alphas
    save_sheet(sheet, IMAGES / f"{name}.jpg")
    return measured


def find_differences(measured: dict[str, dict[str, Alphas]]) -> Iterator[tuple[str, ...]]:
    """For each photograph and model: the largest difference in alpha, by edge width."""
    for name, by_model in measured.items():
        for model, alphas in by_model.items():
            yield name, model, *(f"{np.abs(ours - theirs).max():.0f}" for theirs, ours in alphas.values())


def find_errors(measured: dict[str, Alphas]) -> Iterator[tuple[str, ...]]:
    """For each model and edge width: both SAD of the lemur, then both mean squared errors."""
    for model, alphas in measured.items():
        for width, pair in alphas.items():
            errors = np.transpose([sad_mse(alpha, true_alpha()) for alpha in pair])
            yield model, str(width or "no matting"), *(f"{error:.2f}" for error in errors.flat)


def measure_text() -> dict[str, str]:
    """How well the demo model's masks fit the shapes of drawings that it was not trained on."""
    model, node = clipseg_loader.load(clipseg_store.DEMO, clipseg_store.ClipsegStore()), CLIPSeg()
    overlaps: dict[str, list[float]] = {kind: [] for kind in PROMPTS}
    areas = []

    def select(scene: shape_scenes.Scene, prompt: str) -> np.ndarray:
        image = torch.from_numpy(scene.image).float().div(255).unsqueeze(0)  # [H,W,3] -> [1,H,W,3]
        mask = node.segment_image(image, prompt, 0.0, 0.5, 0, clipseg_model=model)[0]
        return mask[0].numpy() > 0.5

    for scene in map(shape_scenes.draw_scene, SCENES):
        for kind, name in PROMPTS.items():
            for prompt, shape in shape_scenes.present_prompts(scene, (name,)).items():
                overlaps[kind].append(demo_scenes.overlap_of(select(scene, prompt), shape))
        areas += [float(select(scene, prompt).mean()) for prompt in shape_scenes.absent_prompts(scene)[:3]]
    rows = [(kind, str(len(each)), f"{np.mean(each):.3f}", f"{min(each):.3f}") for kind, each in overlaps.items()]
    return {
        "overlaps": format_rows(rows),
        "absent": f"{np.mean(areas):.2%} of the image on average and {max(areas):.2%} at most, of {len(areas)} prompts",
    }


def format_rows(rows: Iterable[Sequence[str]]) -> str:
    """Rows of a table, whose head is in the template."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def save_sheet(rows: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Save panels ``[H,W]`` or ``[H,W,3]`` in levels of 255, `WIDTH` pixels wide each, side by side."""
    height = round(WIDTH * rows[0][0].shape[0] / rows[0][0].shape[1])
    sheet = Image.new("RGB", (len(rows[0]) * (WIDTH + 4) - 4, len(rows) * (height + 4) - 4), "white")
    for y, panels in enumerate(rows):
        for x, panel in enumerate(panels):
            image = Image.fromarray(panel.round().astype(np.uint8)).convert("RGB")
            sheet.paste(image.resize((WIDTH, height), Image.Resampling.LANCZOS), (x * (WIDTH + 4), y * (height + 4)))
    sheet.save(path, quality=85, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
