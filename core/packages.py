"""Imports packages that may be missing or broken, on first use."""

from __future__ import annotations

import contextlib
import functools
import importlib
import textwrap
from collections.abc import Iterator
from types import ModuleType

import torch

from .errors import DependencyError


def import_package(name: str, install: str, *needed: str) -> ModuleType:
    """Import a package or one of its modules, and raise any failure as a `DependencyError`.

    Some packages raise errors other than ImportError (missing libraries, incompatible versions). Others call
    ``sys.exit``, which would end ComfyUI's worker.

    Args:
        name: As in ``import name``; may contain dots.
        install: The error's remedy, with the command that installs the package.
        needed: Names that the caller uses. Looking them up here makes lazy imports and incomplete packages fail early.

    Raises:
        DependencyError: The package is missing or does not work.
        MemoryError: There is not enough memory to import it.
    """
    try:
        module = importlib.import_module(name)
        for attribute in needed:
            getattr(module, attribute)
    except MemoryError:
        raise
    except BaseException as error:
        if not is_library_failure(error):
            raise
        reason = "its import calls sys.exit" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        package, reason = name.partition(".")[0], textwrap.shorten(reason, 400)
        raise DependencyError(
            f"the Python package {package} is missing or does not work ({reason})", install, code=f"install {package}"
        ) from error
    return module


def is_library_failure(error: BaseException) -> bool:
    """Whether ``error`` is a library's failure, rather than an interrupt.

    ``sys.exit`` and panics in Rust libraries do not raise an `Exception`; uncaught, they would end ComfyUI's worker.
    """
    return isinstance(error, (Exception, SystemExit)) or type(error).__module__ == "pyo3_runtime"


@functools.cache
def import_scipy(module: str) -> ModuleType:
    """Import ``scipy.<module>``, which ComfyUI itself requires.

    Raises:
        DependencyError: See `import_package`.
    """
    return import_package(f"scipy.{module}", "Install it: python -m pip install --upgrade scipy")


@functools.cache
def import_pymatting(name: str) -> ModuleType:
    """Import a module of pymatting, or numba, which pymatting requires.

    The import compiles machine code: the first one takes up to a minute, later ones a second.

    Raises:
        DependencyError: The package is missing or does not work.
    """
    remedy = "Install it: python -m pip install --upgrade pymatting; or use a method that does not need it"
    with keep_torch_threads():
        return import_package(name, remedy)


@contextlib.contextmanager
def keep_torch_threads() -> Iterator[None]:
    """Restore this thread's torch thread count on exit.

    For imports of packages based on numba (pymatting, and rembg, which imports it). numba starts its threads when
    imported, one per hardware thread. If it shares an OpenMP library with torch, torch then uses as many, although
    it chose one per core or the user chose fewer. Not for use inside `batching.parallel_map`: new threads would inherit
    the count set here.
    """
    count = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
