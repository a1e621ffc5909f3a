"""Imports of optional packages: every failure names the package to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from maskwright.core.errors import DependencyError
from maskwright.core.packages import import_package

INSTALL = "Install it: python -m pip install broken_package"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package ``broken_package``; unloads the package afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "broken_package"
    folder.mkdir()
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "broken_package"]:
        del sys.modules[name]


FAILURES = {
    "exit": ("import sys; sys.exit(1)", r"its import calls sys\.exit"),
    "missing part": ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    "library": ("raise OSError('libx.so: cannot open shared object file')", "OSError: libx.so"),
    "versions": (
        "raise RuntimeError('two versions\\n  that do not fit')",
        "RuntimeError: two versions that do",
    ),
    "attribute": ("import sys; sys.no_such_attribute", "AttributeError: .*no_such_attribute"),
    "syntax": ("def", "SyntaxError"),
    "panic in Rust": (
        "raise type('PanicException', (BaseException,), {'__module__': 'pyo3_runtime'})('no entry found')",
        "PanicException: no entry found",
    ),
}


@pytest.mark.parametrize(("code", "reason"), FAILURES.values(), ids=FAILURES)
def test_import_package_reports_every_failure(package: Path, code: str, reason: str) -> None:
    (package / "__init__.py").write_text("from . import good, bad", encoding="utf-8")
    (package / "good.py").write_text("", encoding="utf-8")
    (package / "bad.py").write_text(code, encoding="utf-8")
    for _ in range(2):  # the first failure leaves `broken_package.good` imported
        with pytest.raises(DependencyError, match=rf"broken_package is missing or does not work \({reason}") as caught:
            import_package("broken_package", INSTALL)
        assert caught.value.remedy == INSTALL
    assert "broken_package.good" in sys.modules


def test_import_package_missing() -> None:
    with pytest.raises(DependencyError, match="no_such_package is missing .*No module named 'no_such_package'"):
        import_package("no_such_package.part", INSTALL)


def test_import_package_checks_needed_names(package: Path) -> None:
    (package / "__init__.py").write_text(
        "present = 1\ndef __getattr__(name):\n    raise RuntimeError('part ' + name + ' failed')", encoding="utf-8"
    )
    assert import_package("broken_package", INSTALL, "present").present == 1
    with pytest.raises(DependencyError, match="part absent failed"):
        import_package("broken_package", INSTALL, "present", "absent")


def test_import_package_returns_the_module(package: Path) -> None:
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "part.py").write_text("value = 3", encoding="utf-8")
    assert import_package("broken_package.part", INSTALL).value == 3


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "Interrupt", "MemoryError"])
def test_import_package_propagates_interrupts_and_memory_errors(package: Path, kind: str) -> None:
    code = f"class Interrupt(BaseException): pass\nraise {kind}"
    (package / "__init__.py").write_text(code, encoding="utf-8")
    with pytest.raises(BaseException) as caught:
        import_package("broken_package", INSTALL)
    assert type(caught.value).__name__ == kind
