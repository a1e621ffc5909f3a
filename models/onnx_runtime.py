"""ONNX Runtime: a session for a file, on the GPU where that works, with a plain answer where it does not.

ONNX Runtime falls back to the CPU without a word that users see, for half a dozen reasons. So what a session really
got is asked of the session, and one warning a cause says what is wrong and which command mends it.
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
from typing import TYPE_CHECKING

import torch

from ..core.errors import DependencyError, ModelError
from ..core.memory import is_out_of_memory
from ..core.packages import import_package
from . import files

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_ACCELERATORS = (_CUDA, "ROCMExecutionProvider", "DmlExecutionProvider")

# Which onnxruntime-gpu on PyPI was built for which CUDA, as its own list of NVIDIA packages says.
_GPU_PACKAGE_FOR_CUDA = {11: "onnxruntime-gpu<1.19", 12: "onnxruntime-gpu>=1.19.2,<1.27", 13: "onnxruntime-gpu>=1.27"}

_warned: set[str] = set()


def onnxruntime() -> ModuleType:
    """The package, imported.

    Raises:
        DependencyError: It is missing or does not work; says what to install.
    """
    runtime = import_package(
        "onnxruntime", f"Install it, and rembg which runs on it: {pip_install('rembg', best_package())}"
    )
    if not hasattr(runtime, "InferenceSession"):
        # One of two packages that share the folder was uninstalled, and what is left is an empty one.
        raise DependencyError(
            "the Python package onnxruntime is broken: some of its files are gone",
            f"Install it again: {_reinstall(best_package())}",
        )
    return runtime


def best_package() -> str:
    """What to give pip on this computer."""
    if sys.platform == "darwin" or platform.machine().lower() not in ("x86_64", "amd64"):
        return "onnxruntime"
    cuda = _cuda_of_torch()
    return _GPU_PACKAGE_FOR_CUDA.get(cuda, "onnxruntime-gpu") if cuda else "onnxruntime"


def pip_install(*packages: str) -> str:
    """The command that installs packages into the Python that runs this."""
    quoted = (f'"{package}"' if set(package) & set("<>=[") else package for package in packages)
    return f"{_python()} -m pip install {' '.join(quoted)}"


def open_session(
    path: Path, device: torch.device, again: str, make_room: Callable[[], None] = lambda: None
) -> InferenceSession:
    """A session for the ONNX file ``path``, on ``device`` if ONNX Runtime can use it, else on the CPU.

    A GPU that is there and not used is told in the log, once a cause.

    Args:
        device: Where models run.
        again: How the user gets a good file, for the error's remedy.
        make_room: Frees memory; called if the model does not fit, before one retry.

    Raises:
        ModelError: The file is not an ONNX model, is incomplete, is too new for this ONNX Runtime, cannot be run, or
            is not readable.
        MemoryError: There is not enough memory for it.
        DependencyError: As `onnxruntime`.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    # ONNX Runtime logs to stderr. Its errors are raised as well, and users cannot act on its warnings.
    options.log_severity_level = 4
    # By default its threads go on spinning for some 40 ms after every run, and keep the cores from what comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():  # as rembg and torch do
        options.intra_op_num_threads = options.inter_op_num_threads = int(threads)
    wanted = [] if device.type == "cpu" else [name for name in ort.get_available_providers() if name in _ACCELERATORS]

    def opened(providers: list) -> InferenceSession:
        # By itself it goes on on the CPU, and does not tell why. From here on it may.
        session = ort.InferenceSession(str(path), options, providers=[*providers, _CPU], enable_fallback=0)
        session.enable_fallback()
        return session

    session, no_room = None, False
    if wanted:
        session, no_room = _on_accelerator(lambda: opened(_with_options(wanted, device)), make_room)
    try:
        session = session or _with_room(lambda: opened([]), make_room)
    except Exception as error:  # of a dozen kinds, which have no base of their own
        if is_out_of_memory(error):
            raise MemoryError(f"not enough memory to load {path} ({error})") from error
        refusal = files.machine_error(path, _read_error(path, error))
        raise refusal or _not_loaded(ort, path, error, again) from error
    if device.type == "cuda" and not any(name in _ACCELERATORS for name in session.get_providers()):
        _warn(*(_no_room(path) if no_room else _why_not_on_gpu(ort)))
    return session


def _on_accelerator(
    open_it: Callable[[], InferenceSession], make_room: Callable[[], None]
) -> tuple[InferenceSession | None, bool]:
    """The session, or None where it cannot be had there; and whether memory was short."""
    try:
        return _with_room(open_it, make_room), False
    except Exception as error:  # of a dozen kinds, as above
        logger.info("ONNX Runtime on the GPU: %s", error)
        return None, is_out_of_memory(error)


def _with_room(open_it: Callable[[], InferenceSession], make_room: Callable[[], None]) -> InferenceSession:
    """Open a session; if memory runs out, make room and retry once."""
    try:
        return open_it()
    except Exception as error:  # of a dozen kinds, as above
        if not is_out_of_memory(error):
            raise
    make_room()  # outside the except block, so that the frames of the exception hold no memory
    return open_it()


def _read_error(path: Path, error: Exception) -> Exception:
    """The system's error if the file cannot be opened, which ONNX Runtime hides; else ``error``."""
    try:
        path.open("rb").close()
    except OSError as refusal:
        return refusal
    return error


def _not_loaded(ort: ModuleType, path: Path, error: Exception, again: str) -> ModelError:
    size, told = path.stat().st_size if path.is_file() else 0, str(error).replace(str(path), "")
    fault = f"{path} ({size} bytes) cannot be loaded"
    if "INVALID_PROTOBUF" in told or "No graph" in told:
        return ModelError(f"{fault}: it is no ONNX model, or is cut short ({_first_line(error)})", again)
    if "IR version" in told or "opset" in told or "No Op registered" in told:
        return ModelError(
            f"{fault}: it needs a newer ONNX Runtime than {ort.__version__} ({_first_line(error)})",
            f"Update it: {pip_install('--upgrade', best_package())}; or choose another model",
        )
    return ModelError(f"{fault} by ONNX Runtime {ort.__version__} ({_first_line(error)})", again)


def _with_options(providers: list[str], device: torch.device) -> list:
    # Without "kSameAsRequested" the memory that CUDA's arena holds doubles whenever it grows, and ComfyUI's own models
    # need what is left.
    options = {"device_id": str(device.index or 0), "arena_extend_strategy": "kSameAsRequested"}
    return [(name, options) if name == _CUDA else name for name in providers]


def _warn(cause: str, text: str) -> None:
    if cause not in _warned:
        _warned.add(cause)
        logger.warning("%s", text)


_SLOW = "Background removal runs on the CPU, several times as slow as on the GPU"


def _no_room(path: Path) -> tuple[str, str]:
    """As `_why_not_on_gpu`, where memory is short."""
    return f"no room for {path}", (
        f"{_SLOW}: {path.name} needs more of the GPU's memory than there is, also without ComfyUI's own models. Close "
        "other programs that use the GPU and start ComfyUI again, or choose a smaller model"
    )


def _why_not_on_gpu(ort: ModuleType) -> tuple[str, str]:
    """Why a session is on the CPU of a computer with a GPU: a name for the cause, and what to tell the user."""
    if torch.version.hip:
        package = "onnxruntime-directml" if sys.platform == "win32" else "onnxruntime-rocm"
        return "amd", (
            f"{_SLOW}: the installed onnxruntime was not built for AMD GPUs. Where there is a build for yours, this "
            f"brings it: {_replace(package)}"
        )
    cpu, gpu = _version("onnxruntime"), _version("onnxruntime-gpu")
    cuda = _cuda_of_torch()
    wanted = _GPU_PACKAGE_FOR_CUDA.get(cuda, "onnxruntime-gpu")
    if _CUDA not in ort.get_available_providers():
        if cpu and gpu:
            return "both installed", (
                f"{_SLOW}: the packages onnxruntime {cpu} and onnxruntime-gpu {gpu} are both installed, share one "
                f"folder, and the files there are those of the one for CPUs. This mends it: {_replace(wanted)}"
            )
        if gpu:
            return "gpu broken", (
                f"{_SLOW}: onnxruntime-gpu {gpu} is installed, but the files in its folder know no CUDA. "
                f"This mends it: {_reinstall(wanted)}"
            )
        return "cpu only", (
            f"{_SLOW}: the installed onnxruntime {cpu or ort.__version__} is the one for CPUs. "
            f"This mends it: {_replace(wanted)}"
        )
    built_for = _cuda_of_onnxruntime(ort)
    if built_for != cuda:
        return "cuda mismatch", (
            f"{_SLOW}: onnxruntime {ort.__version__} was built for CUDA {built_for}, and PyTorch here brings "
            f"CUDA {torch.version.cuda}. This mends it: {_replace(wanted)}"
        )
    return "cuda failed", (
        f"{_SLOW}: onnxruntime {ort.__version__} was built for the CUDA {built_for} that PyTorch brings, but could not "
        "start it; the lines above that begin with a date name the library it missed (cuDNN 9 is the usual one; on "
        f"Windows also the Microsoft Visual C++ runtime). This may mend it: {_reinstall(wanted)}"
    )


def _cuda_of_torch() -> int | None:
    """The major version of CUDA that PyTorch was built for."""
    return int(torch.version.cuda.split(".")[0]) if torch.version.cuda else None


def _cuda_of_onnxruntime(ort: ModuleType) -> int:
    told = str(getattr(ort, "cuda_version", "") or "").split(".")[0]
    if told.isdigit():
        return int(told)
    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    return 13 if version >= (1, 27) else 12 if version >= (1, 19) else 11


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _replace(package: str) -> str:
    """The commands that leave ``package`` as the only one of its kind. Both are removed: they share their files."""
    return f"{_python()} -m pip uninstall -y onnxruntime onnxruntime-gpu, then {pip_install(package)}"


def _reinstall(package: str) -> str:
    return pip_install("--force-reinstall", "--no-deps", package)


def _python() -> str:
    return f'"{sys.executable}"' if " " in sys.executable else sys.executable or "python"


def _first_line(error: BaseException) -> str:
    """What an error says, without the middle of a long line: ONNX Runtime names the C++ function before the fault."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 400 else f"{line[:80]} ... {line[-300:]}"
