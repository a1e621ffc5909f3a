"""Imports of packages that may be missing or broken: at first use, and with one kind of error."""

from __future__ import annotations

import importlib
import textwrap
from types import ModuleType

from .errors import DependencyError


def import_package(name: str, install: str, *needed: str) -> ModuleType:
    """Import a package or one of its modules, and report any failure as a `DependencyError`.

    Some packages fail with an error that is not an ImportError (a library that cannot be loaded, incompatible
    versions), and some call ``sys.exit``, which would end ComfyUI's worker.

    Args:
        name: As in ``import name``; may hold dots.
        install: The error's remedy, with the command that installs the package.
        needed: Names the caller uses. They are looked up here, so that lazy imports and incomplete packages fail here.

    Raises:
        DependencyError: The package is missing or does not work.
        MemoryError: There is not enough memory to import it.
    """
    try:
        module = importlib.import_module(name)
        for each in needed:
            getattr(module, each)
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
    """Whether a library failed with ``error``; false for an interrupt, which is not the library's.

    ``sys.exit`` and the panic of a library written in Rust are no `Exception`, and would end ComfyUI's worker.
    """
    return isinstance(error, (Exception, SystemExit)) or type(error).__module__ == "pyo3_runtime"


def import_scipy(module: str) -> ModuleType:
    """Import ``scipy.<module>``, which ComfyUI itself requires.

    Raises:
        DependencyError: See `import_package`.
    """
    return import_package(f"scipy.{module}", "Install it: python -m pip install --upgrade scipy")
