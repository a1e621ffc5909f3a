#!/usr/bin/env python3
"""Makes the thumbnails of example_workflows/ for ComfyUI's template browser, from what the examples really give.

    python tools/template_pictures.py            every example that runs on this machine
    python tools/template_pictures.py NAME ...   these

An example's thumbnail is the last picture it saves, cut to a square; what is transparent lies on a checkerboard. An
example whose model is not on this machine and cannot be fetched keeps the thumbnail it has; exit status 1 tells so.
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
SIDE = 512
SQUARE = 16  # pixels of a square of the checkerboard


def main(names: list[str]) -> int:
    failed = []
    for example in sorted(EXAMPLES.glob("*.json")):
        if names and example.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            if run_workflow.main([str(example), "--output", folder]):
                failed.append(example.stem)
                continue
            # Files are written in the order of the nodes' ids.
            newest = max(Path(folder).rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
            thumbnail(Image.open(newest)).save(example.with_suffix(".jpg"), quality=88, optimize=True)
    if failed:
        print(f"no thumbnail was made of: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def thumbnail(picture: Image.Image) -> Image.Image:
    """A picture as a square, on a checkerboard where it is transparent."""
    rgba = ImageOps.fit(picture.convert("RGBA"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    row, column = np.mgrid[:SIDE, :SIDE] // SQUARE
    behind = Image.fromarray(np.where((row + column) % 2, 150, 100).astype(np.uint8)).convert("RGBA")
    return Image.alpha_composite(behind, rgba).convert("RGB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
