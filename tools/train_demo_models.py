"""Trains the two demo models of models/demo/ from images that `demo_models` draws, and measures them.

    python tools/train_demo_models.py clipseg            train, write models/demo/clipseg/, measure on held-out scenes
    python tools/train_demo_models.py clipseg --check    measure the existing model; exit status 1 if below the marks
    python tools/train_demo_models.py salient            the same for models/demo/salient.onnx
    python tools/train_demo_models.py salient --check

The models in models/demo/ were trained by longer versions of these scripts: clipseg at commit b81f1b6, in stages from
single shapes to whole scenes; salient at commit f0c9076, on more varied objects. Networks, losses and file formats are
the same, but what these scripts train may be less exact: only `--check` tells.

Nothing is downloaded, and no existing weights or vocabulary are used. Needs torch, numpy, Pillow, and transformers 5
(`clipseg`; what it writes also loads with 4.50) or onnx and onnxruntime (`salient`). Seeded: the same machine gives the
same model.
"""

from __future__ import annotations

import argparse
import sys

from demo_models import clipseg, salient


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("clipseg", "salient"))
    parser.add_argument("--check", action="store_true", help="measure the existing model, without training")
    parser.add_argument("--scenes", type=int, default=100, help="how many held-out scenes to measure on (default 100)")
    args = parser.parse_args()
    module = {"clipseg": clipseg, "salient": salient}[args.model]
    if not args.check:
        module.train()
    return 0 if module.check(args.scenes) else 1


if __name__ == "__main__":
    sys.exit(main())
