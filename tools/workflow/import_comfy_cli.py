"""Imports comfy-cli, also where its folder for settings cannot be created."""

from __future__ import annotations

import atexit
import importlib
import tempfile
from types import ModuleType


def import_comfy_cli(module: str) -> ModuleType:
    """The module ``comfy_cli.<module>``.

    The import of ``comfy_cli.ui``, which most modules need sooner or later, creates a folder in the user's home. If
    that fails (a read-only home, a user without one), the folder is a temporary one.
    """
    try:
        importlib.import_module("comfy_cli.ui")
    except OSError:
        folder = tempfile.TemporaryDirectory(prefix="maskwright-comfy-cli-")
        atexit.register(folder.cleanup)
        folders = importlib.import_module("comfy_cli.constants").DEFAULT_CONFIG  # by operating system
        folders.update(dict.fromkeys(folders, folder.name))
    return importlib.import_module(f"comfy_cli.{module}")
