#!/usr/bin/env python3
"""Makes the thumbnails of example_workflows/ for ComfyUI's template browser.

    python tools/thumbnails.py            every example that runs here
    python tools/thumbnails.py NAME ...   these

An example's thumbnail is the last image that it saves, cropped to a square, with transparent parts on a checkerboard.
Those of `ILLUSTRATED`, which need a published model, are illustrations, labeled as such; `tools/template_pictures.py`
drew them at commit e339d34. An example that did not run keeps its old thumbnail.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import run_workflow
from pack import ROOT
from PIL import Image, ImageOps

EXAMPLES = ROOT / "example_workflows"
ILLUSTRATED = ("text_to_mask_photo", "detail_masked_regions", "crop_sample_stitch")
SIDE = 512
SQUARE = 16  # pixels of a square of the checkerboard


def make_thumbnail(example: Path) -> None:
    """Run an example, and save the last image that it saves as a thumbnail beside it."""
    with tempfile.TemporaryDirectory() as folder:
        if run_workflow.main([str(example), "--output", folder]):
            sys.exit(f"{example.stem} did not run")
        # Files are written in the order of the nodes' ids.
        newest = max(Path(folder).rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        crop_to_square(Image.open(newest)).save(example.with_suffix(".jpg"), quality=88, optimize=True)


def crop_to_square(image: Image.Image) -> Image.Image:
    """An image as a square, on a checkerboard where it is transparent."""
    rgba = ImageOps.fit(image.convert("RGBA"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    row, column = np.mgrid[:SIDE, :SIDE] // SQUARE
    behind = Image.fromarray(np.where((row + column) % 2, 150, 100).astype(np.uint8)).convert("RGBA")
    return Image.alpha_composite(behind, rgba).convert("RGB")


if __name__ == "__main__":
    for example in sorted(EXAMPLES.glob("*.json")):
        if example.stem in sys.argv[1:] if sys.argv[1:] else example.stem not in ILLUSTRATED:
            make_thumbnail(example)
