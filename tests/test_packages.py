"""Imports of optional packages: every failure names the package to install, and torch keeps its threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from maskwright.core.errors import DependencyError
from maskwright.core.packages import import_package, keep_torch_threads
from pack import ROOT

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


# Torch's thread count


def test_keep_torch_threads_restores_count_after_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), keep_torch_threads():
        torch.set_num_threads(before + 1)
        raise KeyError
    assert torch.get_num_threads() == before


# A new process, because numba starts its threads once, when imported.
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(3)
torch.ones(1 << 20) * 2  # from the first operation on, the count is OpenMP's, which other packages also set
import pack
pack.load_pack()
from maskwright.core.cutout import matting
from maskwright.models import rembg
{code}
print(torch.get_num_threads())
"""
MATTING = """
mask = torch.zeros(40, 40)
mask[10:30, 10:30] = torch.linspace(0.2, 1, 20)
mask[16:24, 16:24] = 1
matting.matte(torch.rand(40, 40, 3), mask, matting.MattingSettings(240, 20, 3))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("package", "code"), [("pymatting", MATTING), ("rembg", "rembg._session_classes()")])
def test_background_removal_keeps_torch_threads(package: str, code: str) -> None:
    if package == "rembg":
        pytest.importorskip("onnxruntime", reason="rembg needs onnxruntime")
    pytest.importorskip(package)
    command = [sys.executable, "-c", SCRIPT.format(code=code), str(Path(ROOT) / "tools")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[-1] == "3"
