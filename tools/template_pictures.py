#!/usr/bin/env python3
"""Makes the thumbnails of example_workflows/ for ComfyUI's template browser.

    python tools/template_pictures.py            every example
    python tools/template_pictures.py NAME ...   these

An example's thumbnail is the last image it saves, cropped to a square, with transparent parts on a checkerboard. An
example that needs a published model gets an illustration instead, labeled as such. Exit status 1 if an example did not
run; it keeps its old thumbnail.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import run_workflow
from pack import ROOT
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

EXAMPLES = ROOT / "example_workflows"
SIDE = 512
SQUARE = 16  # pixels of a square of the checkerboard
BAR = 44  # pixels of the bar with the caption
YELLOW = (255, 214, 10)

# Drawn by hand on assets/astronaut.jpg, which is 512 x 512.
SUIT = (
    (24, 511), (24, 380), (34, 300), (60, 248), (112, 208), (132, 242), (200, 288), (250, 292), (290, 268), (304, 236),
    (336, 256), (352, 300), (362, 350), (318, 372), (288, 420), (280, 511),
)  # fmt: skip
HELMET = (280, 344, 498, 600)  # an ellipse's box
FACE = (176, 70, 278, 190)  # an ellipse's box


def main(names: list[str]) -> int:
    failed = []
    for example in sorted(EXAMPLES.glob("*.json")):
        if names and example.stem not in names:
            continue
        draw = ILLUSTRATIONS.get(example.stem)
        thumbnail = draw() if draw else run_example(example)
        if thumbnail is None:
            failed.append(example.stem)
        else:
            thumbnail.save(example.with_suffix(".jpg"), quality=88, optimize=True)
    if failed:
        print(f"did not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run_example(example: Path) -> Image.Image | None:
    """The last image that an example saves, as a thumbnail; None if it did not run."""
    with tempfile.TemporaryDirectory() as folder:
        if run_workflow.main([str(example), "--output", folder]):
            return None
        # Files are written in the order of the nodes' ids.
        newest = max(Path(folder).rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        return crop_to_square(Image.open(newest))


def crop_to_square(image: Image.Image) -> Image.Image:
    """An image as a square, on a checkerboard where it is transparent."""
    rgba = ImageOps.fit(image.convert("RGBA"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    row, column = np.mgrid[:SIDE, :SIDE] // SQUARE
    behind = Image.fromarray(np.where((row + column) % 2, 150, 100).astype(np.uint8)).convert("RGBA")
    return Image.alpha_composite(behind, rgba).convert("RGB")


def draw_text_to_mask() -> Image.Image:
    """Draw the photograph with hand-drawn masks of the suit and the helmet."""
    photo = load_photo()
    mask = Image.new("L", photo.size)
    draw = ImageDraw.Draw(mask)
    draw.polygon(SUIT, fill=255)
    draw.ellipse(HELMET, fill=255)
    tinted = Image.blend(photo, Image.new("RGB", photo.size, YELLOW), 0.45)
    image = Image.composite(tinted, photo.point(lambda value: value * 0.55), mask.filter(ImageFilter.GaussianBlur(2)))
    image.paste(YELLOW, mask=outline(mask))
    return add_caption(image, "astronaut suit | helmet", "Illustration: mask drawn by hand")


def draw_detailer(words: str) -> Image.Image:
    """Draw the photograph with an outlined face and its enlarged crop."""
    photo = load_photo()
    mask = Image.new("L", photo.size)
    ImageDraw.Draw(mask).ellipse(FACE, fill=255)
    image = photo.copy()
    image.paste(YELLOW, mask=outline(mask))
    left, top, right, bottom = FACE
    crop_box = (left - 30, top - 21, right + 30, bottom + 21)  # a square
    inset = photo.crop(crop_box).resize((230, 230), Image.Resampling.LANCZOS)
    at = (SIDE - 246, SIDE - BAR - 246)
    draw = ImageDraw.Draw(image)
    draw.rectangle(crop_box, outline=YELLOW, width=3)
    for corner in ((crop_box[2], crop_box[1], at[0] + 230, at[1]), (crop_box[0], crop_box[3], at[0], at[1] + 230)):
        draw.line(corner, fill=YELLOW, width=2)
    image.paste(ImageOps.expand(inset, 3, YELLOW), (at[0] - 3, at[1] - 3))
    return add_caption(image, words, "Illustration: not a result")


ILLUSTRATIONS: dict[str, Callable[[], Image.Image]] = {
    "text_to_mask_photo": draw_text_to_mask,
    "detail_masked_regions": partial(draw_detailer, "find, enlarge, refine"),
    "crop_sample_stitch": partial(draw_detailer, "crop, sample, stitch"),
}


def load_photo() -> Image.Image:
    return Image.open(EXAMPLES / "assets" / "astronaut.jpg").convert("RGB")


def outline(mask: Image.Image) -> Image.Image:
    return ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(5)), mask)


def add_caption(image: Image.Image, words: str, caption: str) -> Image.Image:
    """Write `caption` into a bar at the bottom, and `words` above it: the template browser covers the top left."""
    draw = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(24), ImageFont.load_default(22)
    width = draw.textlength(words, large)
    top = SIDE - BAR - 50
    draw.rounded_rectangle((10, top, 10 + width + 24, top + 42), 10, fill=(20, 20, 20))
    draw.text((22, top + 5), words, fill="white", font=large)
    draw.rectangle((0, SIDE - BAR, SIDE, SIDE), fill=(20, 20, 20))
    draw.text((16, SIDE - BAR + 8), caption, fill="white", font=small)
    return image


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
