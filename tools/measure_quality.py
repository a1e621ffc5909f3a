#!/usr/bin/env python3
"""Writes docs/quality.md and its images: the pack's nodes on photographs, and on drawings the model was not trained on.

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

import exact_matting
import fetch_weights
import numpy as np
import torch
from demo_models import HELD_OUT, overlap_of, shape_scenes
from pack import ROOT, load_pack
from PIL import Image

NODES = load_pack().NODE_CLASS_MAPPINGS
from maskwright.core.errors import ModelError  # noqa: E402 - found through the pack
from maskwright.models import catalog, clipseg_loader  # noqa: E402
from maskwright.models.clipseg_store import DEMO, ClipsegStore  # noqa: E402

TEMPLATE = ROOT / "tools" / "quality_page.md"
PAGE = ROOT / "docs" / "quality.md"
IMAGES = ROOT / "docs" / "quality"
LEMUR = ROOT / "example_workflows" / "assets" / "lemur.png"
LEMUR_ALPHA = ROOT / "tests" / "data" / "lemur_alpha.png"

WEIGHTS = ("u2netp", "u2net")
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket")  # from scikit-image
FOREGROUND, BACKGROUND = 240, 20  # thresholds
EDGE_WIDTHS = (10, 20, 40)
WIDTHS_FOR_LEGS = (3, *EDGE_WIDTHS)
IMAGE_EDGE_WIDTH = 10  # edge width in the images
LEGS = (slice(300, None), slice(215, None))  # the part of `camera` with only the tripod's legs
SCENES = range(HELD_OUT, HELD_OUT + 50)
KINDS = {"a color and a shape": "color shape", "a shape": "shape", "a color": "color", "background": "background"}
SETTINGS = {"threshold 0.5, no blur, no dilation": (0.0, 0.5, 0), "the node's defaults": ()}
WIDTH = 200  # pixels of one panel
ORANGE = np.array((255, 150, 40))

Alphas = dict[tuple[str, int], np.ndarray]
"""Alpha ``[H,W]`` in levels of 255, by implementation (rembg, pack or exact) and edge width; 0 is without matting."""


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
    measured = {name: dict(zip(WEIGHTS, measure(name, photograph), strict=True)) for name, photograph in photographs()}
    libraries = ("rembg", "PyMatting", "onnxruntime", "torch")
    tables = background_tables(measured) | text_tables()
    page = TEMPLATE.read_text(encoding="utf-8").format(
        versions=", ".join(f"{name} {version(name)}" for name in libraries),
        weights="\n".join(row(name, f"`{catalog.BACKGROUND[name].files[0].sha256}`") for name in WEIGHTS),
        images="\n\n".join(f"![{name}](quality/{name}.jpg)" for name in measured),
        shown=IMAGE_EDGE_WIDTH,
        scenes=len(SCENES),
        **tables,
    )
    PAGE.write_text(page, encoding="utf-8")


def photographs() -> Iterable[tuple[str, np.ndarray]]:
    """Names and images ``[H,W,3]`` of 8 bits."""
    from skimage import data

    for name in PHOTOGRAPHS:
        yield name, np.array(Image.fromarray(getattr(data, name)()).convert("RGB"))
    yield "lemur", np.array(Image.open(LEMUR).convert("RGB"))


def measure(name: str, photograph: np.ndarray) -> list[Alphas]:
    """Alphas of a photograph for each of `WEIGHTS`. Saves an image of them."""
    import rembg

    print(name, flush=True)
    measured, sheet = [], []
    for model in WEIGHTS:
        alphas, cutouts, session = {}, {}, rembg.new_session(model)
        for width in (0, *(WIDTHS_FOR_LEGS if name == "camera" else EDGE_WIDTHS)):
            cutout, mask = remove_background(photograph, model, width)
            cutouts[width], alphas["pack", width] = cutout[0].numpy(), 255 * mask[0].double().numpy()
            with contextlib.redirect_stdout(io.StringIO()):  # pymatting prints a warning when it retries
                rembg_result = rembg.remove(Image.fromarray(photograph), session=session, **rembg_settings(width))
            alphas["rembg", width] = np.array(rembg_result)[..., 3].astype(np.float64)
        if name == "camera":
            for width in WIDTHS_FOR_LEGS:
                sure = trimap(alphas["rembg", 0], width)
                alphas["exact", width] = 255 * exact_matting.solve(photograph[..., 0] / 255, 3, sure)
        panels = [
            photograph,
            *(alphas[each] for each in (("rembg", 0), ("rembg", IMAGE_EDGE_WIDTH), ("pack", IMAGE_EDGE_WIDTH))),
        ]
        cutout = cutouts[IMAGE_EDGE_WIDTH]
        on_orange = 255 * cutout[..., :3] * cutout[..., 3:] + ORANGE * (1 - cutout[..., 3:])
        sheet.append([*panels, *([true_alpha()] if name == "lemur" else []), on_orange])
        measured.append(alphas)
    save_sheet(sheet, IMAGES / f"{name}.jpg")
    return measured


def remove_background(photograph: np.ndarray, model: str, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cutouts and masks by this pack's node. Matting is off if the edge width is 0."""
    settings = ("true" if width else "false", FOREGROUND, BACKGROUND, width, "false")
    images = torch.from_numpy(photograph).float().div(255).unsqueeze(0)
    return get_outputs(NODES["ImageSegmentation"]().node(images, model, *settings))


def rembg_settings(width: int) -> dict[str, int]:
    """The same settings for `rembg.remove`."""
    return {
        "alpha_matting": width > 0,
        "alpha_matting_foreground_threshold": FOREGROUND,
        "alpha_matting_background_threshold": BACKGROUND,
        "alpha_matting_erode_size": width,
    }


def get_outputs(result: tuple | dict) -> tuple:
    """The outputs of a node, whose result may contain data for the editor."""
    return result["result"] if isinstance(result, dict) else result


def trimap(mask: np.ndarray, width: int) -> np.ndarray:
    """rembg's trimap of a mask in levels of 255."""
    from scipy.ndimage import binary_erosion

    sure = np.full(mask.shape, 0.5)
    sure[binary_erosion(mask > FOREGROUND, np.ones((width, width)))] = 1
    sure[binary_erosion(mask < BACKGROUND, np.ones((width, width)), border_value=1)] = 0
    return sure


def true_alpha() -> np.ndarray:
    """The lemur's, ``[H,W]`` in levels of 255."""
    return np.array(Image.open(LEMUR_ALPHA).convert("L"))


def round_down(alpha: np.ndarray) -> np.ndarray:
    """To 8 bits, as rembg and ComfyUI save images."""
    return np.floor(alpha + 1e-3)


def sad_mse(alpha: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Sum of absolute differences in thousands and mean squared error in thousandths, from levels of 255."""
    difference = (alpha.astype(np.float64) - true) / 255
    return float(np.abs(difference).sum() / 1000), float((difference**2).mean() * 1000)


def background_tables(measured: dict[str, dict[str, Alphas]]) -> dict[str, str]:
    differences, errors, to_true_alpha, legs = [], [], [], []
    for name, by_model in measured.items():
        for model, alphas in by_model.items():
            both = [[round_down(alphas[who, width]) for who in ("rembg", "pack")] for width in (0, *EDGE_WIDTHS)]
            differences.append((name, model, *(f"{np.abs(one - other).max():.0f}" for one, other in both)))
    for model, alphas in measured["camera"].items():
        for width in EDGE_WIDTHS:
            unknown = trimap(alphas["rembg", 0], width) == 0.5
            error = {who: np.abs(alphas[who, width] - alphas["exact", width])[unknown] for who in ("rembg", "pack")}
            values = [value for each in error.values() for value in (each.mean(), each.max())]
            errors.append((model, str(width), *(f"{value:.1f}" for value in values)))
    for model, alphas in measured["lemur"].items():
        for width in (0, *EDGE_WIDTHS):
            both = [sad_mse(round_down(alphas[who, width]), true_alpha()) for who in ("rembg", "pack")]
            values = [each[k] for k in (0, 1) for each in both]
            to_true_alpha.append((model, str(width or "no matting"), *(f"{value:.2f}" for value in values)))
    alphas = measured["camera"]["u2netp"]
    mask = alphas["rembg", 0][LEGS]
    for width in WIDTHS_FOR_LEGS:
        left = [alphas[who, width][LEGS][mask > 127].sum() for who in ("rembg", "pack", "exact")]
        legs.append((str(width), *(f"{each / mask[mask > 127].sum():.0%}" for each in left)))
    widths = [f"edge width {width}" for width in EDGE_WIDTHS]
    four = [f"{what}, {who}" for what in ("SAD", "MSE") for who in ("rembg", "this pack")]
    means = [f"{who}: {what}" for who in ("rembg", "this pack") for what in ("mean", "largest")]
    return {
        "differences": table(("photograph", "weights", "no matting", *widths), differences),
        "errors": table(("weights", "edge width", *means), errors),
        "true_alpha": table(("weights", "edge width", *four), to_true_alpha),
        "legs": table(("edge width", "rembg", "this pack", "exact solution"), legs),
    }


def text_tables() -> dict[str, str]:
    """Overlaps of the demo model's masks with the true ones. Saves an image of the first three scenes."""
    model, node = clipseg_loader.load(DEMO, ClipsegStore()), NODES["CLIPSeg"]()
    overlaps: dict[tuple[str, str], list[float]] = {}
    absent: dict[str, list[float]] = {way: [] for way in SETTINGS}
    prompts, sheet = [], []

    def select(scene: shape_scenes.Scene, text: str, settings: Sequence[float]) -> np.ndarray:
        image = torch.from_numpy(scene.image).float().div(255).unsqueeze(0)
        return get_outputs(node.segment_image(image, text, *settings, clipseg_model=model))[0][0].numpy()

    for seed in SCENES:
        scene = shape_scenes.draw_scene(seed)
        for way, settings in SETTINGS.items():
            for kind, scene_kind in KINDS.items():
                for prompt, true in shape_scenes.present_prompts(scene, (scene_kind,)).items():
                    overlap = overlap_of(select(scene, prompt, settings) > 0.5, true)
                    overlaps.setdefault((kind, way), []).append(overlap)
            for prompt in shape_scenes.absent_prompts(scene)[:3]:  # the hard ones
                absent[way].append(float((select(scene, prompt, settings) > 0.5).mean()))
        if len(sheet) < 3:
            prompt, true = next(iter(shape_scenes.present_prompts(scene).items()))
            prompts.append(f'"{prompt}"')
            sheet.append([scene.image, 255 * select(scene, prompt, next(iter(SETTINGS.values()))), 255.0 * true])
    save_sheet(sheet, IMAGES / "shapes.jpg")
    rows = [
        (kind, str(len(each)), way, f"{np.mean(each):.3f}", f"{min(each):.3f}")
        for (kind, way), each in overlaps.items()
    ]
    shares = [(way, str(len(each)), f"{np.mean(each):.2%}", f"{max(each):.2%}") for way, each in absent.items()]
    return {
        "overlaps": table(("prompt", "number", "settings", "mean", "lowest"), rows),
        "absent": table(("settings", "number", "mean", "largest"), shares),
        "prompts": ", ".join(prompts),
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
