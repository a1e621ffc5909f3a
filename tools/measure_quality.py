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
from collections.abc import Iterable, Sequence
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
import mattes
import measure_refine
import photographs
import torch
from demo_scenes import shape_scenes
from photographs import round_down, sad_mse, true_alpha

TEMPLATE = ROOT / "tools" / "quality_page.md"
PAGE = ROOT / "docs" / "quality.md"
IMAGES = ROOT / "docs" / "quality"

WEIGHTS = ("u2netp", "u2net")
EDGE_WIDTHS = (10, 20, 40)
IMAGE_EDGE_WIDTH = 10  # edge width in the images
WIDTH = 200  # pixels of one panel
SCENES = range(demo_scenes.HELD_OUT, demo_scenes.HELD_OUT + 50)
PROMPTS = {"a color and a shape": "color shape", "a shape": "shape", "a color": "color", "background": "background"}
ORANGE = np.array((255, 150, 40))

Alphas = dict[tuple[str, int], np.ndarray]
"""Alpha ``[H,W]`` in levels of 255, by implementation (rembg or pack) and edge width; 0 is without matting."""


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
        write_page()
    return 0


def write_page() -> None:
    IMAGES.mkdir(exist_ok=True)
    measured = {name: dict(zip(WEIGHTS, measure(name), strict=True)) for name in photographs.PHOTOGRAPHS}
    libraries = ("rembg", "PyMatting", "onnxruntime", "torch")
    page = TEMPLATE.read_text(encoding="utf-8").format(
        versions=", ".join(f"{name} {version(name)}" for name in libraries),
        weights="\n".join(row(name, f"`{catalog.BACKGROUND[name].files[0].sha256}`") for name in WEIGHTS),
        images="\n\n".join(f"![{name}](quality/{name}.jpg)" for name in measured),
        shown=IMAGE_EDGE_WIDTH,
        **background_tables(measured),
        **refine_tables(),
        **text_tables(),
    )
    PAGE.write_text(page, encoding="utf-8")


def measure(name: str) -> list[Alphas]:
    """Alphas of a photograph for each of `WEIGHTS`. Saves an image of them."""
    import rembg

    print(name, flush=True)
    photograph, measured, sheet = photographs.load(name), [], []
    for model in WEIGHTS:
        alphas, cutouts, session = {}, {}, rembg.new_session(model)
        for width in (0, *EDGE_WIDTHS):
            cutout, mask = photographs.remove_background(photograph, model, width)
            cutouts[width], alphas["pack", width] = cutout[0].numpy(), 255 * mask[0].double().numpy()
            settings = photographs.rembg_settings(width)
            with contextlib.redirect_stdout(io.StringIO()):  # pymatting prints a warning when it retries
                rembg_result = rembg.remove(Image.fromarray(photograph), session=session, **settings)
            alphas["rembg", width] = np.array(rembg_result)[..., 3].astype(np.float64)
        shown = ("rembg", 0), ("rembg", IMAGE_EDGE_WIDTH), ("pack", IMAGE_EDGE_WIDTH)
        panels = [photograph, *(alphas[each] for each in shown)]
        cutout = cutouts[IMAGE_EDGE_WIDTH]
        on_orange = 255 * cutout[..., :3] * cutout[..., 3:] + ORANGE * (1 - cutout[..., 3:])
        sheet.append([*panels, *([true_alpha()] if name == "lemur" else []), on_orange])
        measured.append(alphas)
    save_sheet(sheet, IMAGES / f"{name}.jpg")
    return measured


def background_tables(measured: dict[str, dict[str, Alphas]]) -> dict[str, str]:
    def pair(alphas: Alphas, width: int) -> list[np.ndarray]:
        return [round_down(alphas[who, width]) for who in ("rembg", "pack")]

    differences, to_true_alpha = [], []
    for name, by_model in measured.items():
        for model, alphas in by_model.items():
            largest = (np.abs(np.subtract(*pair(alphas, width))).max() for width in (0, *EDGE_WIDTHS))
            differences.append((name, model, *(f"{each:.0f}" for each in largest)))
    for model, alphas in measured["lemur"].items():
        for width in (0, *EDGE_WIDTHS):
            errors = zip(*(sad_mse(alpha, true_alpha()) for alpha in pair(alphas, width)), strict=True)
            values = [f"{value:.2f}" for both in errors for value in both]
            to_true_alpha.append((model, str(width or "no matting"), *values))
    widths = [f"edge width {width}" for width in EDGE_WIDTHS]
    four = [f"{what}, {who}" for what in ("SAD", "MSE") for who in ("rembg", "this pack")]
    return {
        "differences": table(("photograph", "weights", "no matting", *widths), differences),
        "true_alpha": table(("weights", "edge width", *four), to_true_alpha),
    }


def refine_tables() -> dict[str, str]:
    composites = [name for name, *_ in mattes.draw_composites(measure_refine.SEED)]
    return {
        "refined": table(
            ("method", *(f"SAD of `lemur`, {model}" for model in WEIGHTS), "legs, u2netp"),
            measure_refine.measure_photographs(WEIGHTS),
        ),
        "composites": table(("method", *composites), measure_refine.measure_composites()),
    }


def text_tables() -> dict[str, str]:
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
        "overlaps": table(("prompt", "number", "mean", "lowest"), rows),
        "absent": f"{np.mean(areas):.2%} of the image on average and {max(areas):.2%} at most, of {len(areas)} prompts",
    }


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join([row(*heads), "|" + "---|" * len(heads), *(row(*cells) for cells in rows)])


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


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
