"""Trains the two demo models of models/demo/ from images that `demo_models` draws, and measures them.

    python tools/train_demo_models.py clipseg            train, write models/demo/clipseg/, measure on held-out scenes
    python tools/train_demo_models.py clipseg --check    measure the existing model; exit status 1 if below the marks
    python tools/train_demo_models.py salient            the same for models/demo/salient.onnx
    python tools/train_demo_models.py salient --check

Nothing is downloaded, and no existing weights or vocabulary are used. Needs torch, numpy, Pillow and, for
`clipseg`, transformers 5 (what it writes also loads with 4.50); for `salient`, onnx and onnxruntime. Training takes
nineteen minutes (`clipseg`) or fourteen (`salient`) on two processor cores, and is seeded: the same machine gives the
same model.
"""

from __future__ import annotations

import argparse
import sys

from demo_models import salient, shapes_clipseg


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("clipseg", "salient"))
    parser.add_argument("--check", action="store_true", help="measure the existing model, without training")
    parser.add_argument("--scenes", type=int, default=100, help="how many held-out scenes to measure on (default 100)")
    args = parser.parse_args()
    train, check = {"clipseg": (shapes_clipseg.train, shapes_clipseg.check), "salient": (salient.train, salient.check)}[
        args.model
    ]
    if not args.check:
        train()
    return 0 if check(args.scenes) else 1


if __name__ == "__main__":
    sys.exit(main())
