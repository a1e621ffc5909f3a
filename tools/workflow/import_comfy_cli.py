"""Imports comfy-cli, also where its folder for settings cannot be created."""

from __future__ import annotations

import atexit
import importlib
import tempfile
from types import ModuleType


def import_comfy_cli(module: str) -> ModuleType:
    """The module ``comfy_cli.<module>``. In a read-only home, comfy-cli's folder is a temporary one."""
    try:
        importlib.import_module("comfy_cli.ui")  # which creates the folder, and which most modules import
    except OSError:
        folder = tempfile.TemporaryDirectory(prefix="maskwright-comfy-cli-")
        atexit.register(folder.cleanup)
        folders = importlib.import_module("comfy_cli.constants").DEFAULT_CONFIG  # by operating system
        folders.update(dict.fromkeys(folders, folder.name))
    return importlib.import_module(f"comfy_cli.{module}")
