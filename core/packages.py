"""Packages that are imported when they are first used, so that loading the pack stays quick."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import DependencyError


def import_scipy(module: str) -> ModuleType:
    """Import ``scipy.<module>``.

    Raises:
        DependencyError: scipy is missing or does not work; says what to install.
    """
    try:
        return importlib.import_module(f"scipy.{module}")
    except (Exception, SystemExit) as error:  # a broken package fails in many ways
        raise DependencyError(
            f"the Python package scipy, which ComfyUI requires, is missing or does not work "
            f"({type(error).__name__}: {error})",
            "Install it into ComfyUI's Python: python -m pip install --upgrade scipy",
        ) from error
