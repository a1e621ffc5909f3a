"""Imports pymatting."""

from __future__ import annotations

from types import ModuleType

from .. import threads
from ..packages import import_package


def import_pymatting(name: str) -> ModuleType:
    """Import a module of pymatting, or numba, which pymatting requires.

    The import compiles machine code. It takes up to a minute the first time, and a second later.

    Raises:
        DependencyError: The package is missing or does not work.
    """
    remedy = "Install it: python -m pip install --upgrade pymatting; or turn alpha_matting off"
    with threads.keep_torch_threads():
        return import_package(name, remedy)
