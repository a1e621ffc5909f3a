"""ONNX Runtime sessions: on the GPU if possible, else on the CPU with one warning that gives the cause and a remedy.

ONNX Runtime falls back to the CPU silently, for half a dozen reasons. So this checks the session's actual providers.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ..core.batching import STANDALONE_HOST
from ..core.engine import Host
from ..core.errors import DependencyError, ModelError
from ..core.packages import import_package
from . import files

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_ACCELERATORS = (_CUDA, "ROCMExecutionProvider", "DmlExecutionProvider")

# The onnxruntime-gpu on PyPI for each major version of CUDA, according to its own list of NVIDIA packages.
_GPU_PACKAGE_FOR_CUDA = {11: "onnxruntime-gpu<1.19", 12: "onnxruntime-gpu>=1.19.2,<1.27", 13: "onnxruntime-gpu>=1.27"}

_REINSTALL = ("--force-reinstall", "--no-deps")

_warned: set[str] = set()


def onnxruntime() -> ModuleType:
    """Import the package.

    Raises:
        DependencyError: It is missing or does not work; says what to install.
    """
    runtime = import_package("onnxruntime", f"Install it together with rembg: {pip_install('rembg', best_package())}")
    if not hasattr(runtime, "InferenceSession"):
        # Two packages share this folder; uninstalling one of them emptied it.
        raise DependencyError(
            "the Python package onnxruntime is broken: some of its files are missing",
            f"Install it again: {pip_install(*_REINSTALL, best_package())}",
        )
    return runtime


def best_package() -> str:
    """The package for pip to install on this computer."""
    if sys.platform == "darwin" or platform.machine().lower() not in ("x86_64", "amd64"):
        return "onnxruntime"
    cuda = _cuda_of_torch()
    return _GPU_PACKAGE_FOR_CUDA.get(cuda, "onnxruntime-gpu") if cuda else "onnxruntime"


def pip_install(*packages: str) -> str:
    """The command that installs packages into this Python."""
    quoted = (f'"{package}"' if set(package) & set("<>=[") else package for package in packages)
    return f"{_python()} -m pip install {' '.join(quoted)}"


def open_session(path: Path, device: torch.device, remedy: str, host: Host = STANDALONE_HOST) -> InferenceSession:
    """A session for the ONNX file ``path``, on ``device`` if ONNX Runtime can use it, else on the CPU.

    Logs once per cause why an available GPU is not used.

    Args:
        device: The device for models.
        remedy: How the user can get a good file, for errors.
        host: Frees memory before one retry, if the model does not fit.

    Raises:
        ModelError: The file is not an ONNX model, is incomplete, is too new for this ONNX Runtime, cannot be run, or
            is not readable.
        MemoryError: Not enough memory for it.
        DependencyError: See `onnxruntime`.
    """
    ort = onnxruntime()
    options = _session_options(ort)
    accelerators = [name for name in ort.get_available_providers() if name in _ACCELERATORS]

    def open_on(providers: list) -> InferenceSession:
        # By default ONNX Runtime would silently fall back to the CPU here. Allow that only after creation.
        session = ort.InferenceSession(str(path), options, providers=[*providers, _CPU], enable_fallback=0)
        session.enable_fallback()
        return session

    session, lacks_memory = None, False
    if device.type != "cpu" and accelerators:
        try:
            session = _retry_with_free_memory(lambda: open_on(_with_options(accelerators, device)), host)
        except Exception as error:  # of a dozen kinds without a common base
            logger.info("ONNX Runtime on the GPU: %s", error)
            lacks_memory = host.is_out_of_memory(error)
    try:
        session = session or _retry_with_free_memory(lambda: open_on([]), host)
    except Exception as error:
        if host.is_out_of_memory(error):
            raise MemoryError(f"not enough memory to load {path} ({error})") from error
        machine_error = files.machine_error(path, _read_error(path, error))
        raise machine_error or _load_error(ort, path, error, remedy) from error
    if device.type == "cuda" and not any(name in _ACCELERATORS for name in session.get_providers()):
        _warn_once("GPU too small" if lacks_memory else _find_cause(ort), ort, path)
    return session


def _session_options(ort: ModuleType) -> Any:
    options = ort.SessionOptions()
    # ONNX Runtime logs to stderr. Its errors are also raised, and users cannot act on its warnings.
    options.log_severity_level = 4
    # By default its threads spin for about 40 ms after every run, and keep the cores busy.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():  # as rembg and torch do
        options.intra_op_num_threads = options.inter_op_num_threads = int(threads)
    return options


def _retry_with_free_memory(open_session: Callable[[], InferenceSession], host: Host) -> InferenceSession:
    """Open a session; if memory runs out, free some and retry once."""
    try:
        return open_session()
    except Exception as error:
        if not host.is_out_of_memory(error):
            raise
    host.free_memory()  # outside the except block, whose traceback would keep memory alive
    return open_session()


def _read_error(path: Path, error: Exception) -> Exception:
    """The system's error if the file cannot be opened (ONNX Runtime hides it), else ``error``."""
    try:
        path.open("rb").close()
    except OSError as system_error:
        return system_error
    return error


def _load_error(ort: ModuleType, path: Path, error: Exception, remedy: str) -> ModelError:
    size, message = path.stat().st_size if path.is_file() else 0, str(error).replace(str(path), "")
    problem = f"{path} ({size} bytes) cannot be loaded"
    if "INVALID_PROTOBUF" in message or "No graph" in message:
        return ModelError(f"{problem}: it is not an ONNX model, or is incomplete ({_first_line(error)})", remedy)
    if "IR version" in message or "opset" in message or "No Op registered" in message:
        return ModelError(
            f"{problem}: it needs a newer ONNX Runtime than {ort.__version__} ({_first_line(error)})",
            f"Update it: {pip_install('--upgrade', best_package())}; or choose another model",
        )
    return ModelError(f"{problem} by ONNX Runtime {ort.__version__} ({_first_line(error)})", remedy)


def _with_options(providers: list[str], device: torch.device) -> list:
    # Without "kSameAsRequested", CUDA's arena doubles whenever it grows, and ComfyUI's own models need that memory.
    options = {"device_id": str(device.index or 0), "arena_extend_strategy": "kSameAsRequested"}
    return [(name, options) if name == _CUDA else name for name in providers]


_ADVICE = {
    "GPU too small": "{file} needs more GPU memory than is available, even without ComfyUI's own models. Close "
    "other programs that use the GPU and restart ComfyUI, or choose a smaller model",
    "AMD GPU": "the installed onnxruntime was not built for AMD GPUs. If there is a build for yours, this installs it: "
    "{replace}",
    "both installed": "the packages onnxruntime {cpu} and onnxruntime-gpu {gpu} are both installed and share one "
    "folder, which now contains the CPU version. This fixes it: {replace}",
    "GPU package broken": "onnxruntime-gpu {gpu} is installed, but the files in its folder do not support CUDA. "
    "This fixes it: {reinstall}",
    "CPU package": "the installed onnxruntime {cpu} is the CPU version. This fixes it: {replace}",
    "other CUDA": "onnxruntime {version} was built for CUDA {built_for}, but PyTorch includes CUDA {cuda}. "
    "This fixes it: {replace}",
    "CUDA failed": "onnxruntime {version} was built for CUDA {built_for}, like PyTorch, but could not start "
    "it; the lines above that begin with a date name the missing library (usually cuDNN 9; on Windows also the "
    "Microsoft Visual C++ runtime). This may fix it: {reinstall}",
}
"""Causes of running on the CPU of a computer with a GPU, and their remedies."""


def _find_cause(ort: ModuleType) -> str:
    """The key in `_ADVICE`, unless the cause is memory."""
    if torch.version.hip:
        return "AMD GPU"
    if _CUDA not in ort.get_available_providers():
        if not _version("onnxruntime-gpu"):
            return "CPU package"
        return "both installed" if _version("onnxruntime") else "GPU package broken"
    return "other CUDA" if _cuda_of_onnxruntime(ort) != _cuda_of_torch() else "CUDA failed"


def _warn_once(cause: str, ort: ModuleType, path: Path) -> None:
    key = f"{cause} {path}" if cause == "GPU too small" else cause
    if key in _warned:
        return
    _warned.add(key)
    package = _GPU_PACKAGE_FOR_CUDA.get(_cuda_of_torch() or 0, "onnxruntime-gpu")
    if cause == "AMD GPU":
        package = "onnxruntime-directml" if sys.platform == "win32" else "onnxruntime-rocm"
    advice = _ADVICE[cause].format(
        file=path.name,
        cpu=_version("onnxruntime") or ort.__version__,
        gpu=_version("onnxruntime-gpu"),
        version=ort.__version__,
        built_for=_cuda_of_onnxruntime(ort),
        cuda=torch.version.cuda,
        # Both are removed, since they share their files.
        replace=f"{_python()} -m pip uninstall -y onnxruntime onnxruntime-gpu, then {pip_install(package)}",
        reinstall=pip_install(*_REINSTALL, package),
    )
    logger.warning("Background removal runs on the CPU, several times as slow as on the GPU: %s", advice)


def _cuda_of_torch() -> int | None:
    """The major version of CUDA that PyTorch was built for."""
    return int(torch.version.cuda.split(".")[0]) if torch.version.cuda else None


def _cuda_of_onnxruntime(ort: ModuleType) -> int:
    major = str(getattr(ort, "cuda_version", "") or "").split(".")[0]
    if major.isdigit():
        return int(major)
    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    return 13 if version >= (1, 27) else 12 if version >= (1, 19) else 11


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> str:
    return f'"{sys.executable}"' if " " in sys.executable else sys.executable or "python"


def _first_line(error: BaseException) -> str:
    """The first line of an error, shortened in the middle: ONNX Runtime puts a C++ function name before the message."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 400 else f"{line[:80]} ... {line[-300:]}"
