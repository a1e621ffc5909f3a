"""Imports pymatting."""

from __future__ import annotations

from types import ModuleType

from ..packages import import_package, keep_torch_threads


def import_pymatting(name: str) -> ModuleType:
    """Import a module of pymatting, or numba, which pymatting requires.

    The import compiles machine code: the first one takes up to a minute, later ones a second.

    Raises:
        DependencyError: The package is missing or does not work.
    """
    remedy = "Install it: python -m pip install --upgrade pymatting; or use a method that does not need it"
    with keep_torch_threads():
        return import_package(name, remedy)
