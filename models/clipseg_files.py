"""The files of a CLIPSeg model: whether a folder is complete, and errors that name the file to blame."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from ..core.checks import describe
from ..core.errors import ModelError
from . import catalog, files

SAFE, SAFE_INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
_LARGEST_JSON = 16 << 20  # bytes; larger files are not settings, and listing the models reads every config.json


def check_complete(name: str, folder: Path, remedy: str) -> None:
    """Check that ``folder`` is a complete CLIPSeg model.

    Raises:
        ModelError: ``folder`` is not a complete CLIPSeg model, or is not readable.
    """
    fault = _find_fault(folder)
    if fault is not None:
        raise ModelError(f"{name} cannot be loaded: {folder} {fault}", remedy)


def describe_fault(folder: Path) -> str | None:
    """Why ``folder`` is not a complete CLIPSeg model that can be read; None if it is one."""
    try:
        return _find_fault(folder)
    except files.Unreadable as error:
        return f"cannot be read: {error.problem}"


def is_clipseg(folder: Path) -> bool:
    try:
        return read_config(folder).get("model_type") == "clipseg"
    except ModelError:
        return False


def may_be_published(folder: Path) -> bool:
    """Whether the files in ``folder`` may be the published model, not one of its smaller variants."""
    try:
        config = read_config(folder)
    except ModelError:
        return True  # loading it raises the error
    return config.get("reduce_dim") == 64 and config.get("use_complex_transposed_convolution") is True


def weights_file(folder: Path) -> Path:
    """The file that the weights are read from: safetensors if it exists."""
    return next(path for name in (SAFE, SAFE_INDEX, PICKLE) if os.path.isfile(path := folder / name))


def safetensors_files(folder: Path) -> list[Path]:
    """The safetensors files that contain the weights, one or several.

    Raises:
        ModelError: The index of several files is broken.
    """
    return [folder / SAFE] if os.path.isfile(folder / SAFE) else [folder / name for name in _shards(folder)]


def read_config(folder: Path) -> dict:
    """The content of ``config.json``. Errors as `read_json`."""
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict:
    """Read a JSON object from a file of settings.

    Raises:
        ModelError: ``path`` is not a readable file with a JSON object.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise broken(path, "it is not a regular file")  # reading a pipe would block
        if state.st_size > _LARGEST_JSON:
            raise broken(path, f"its {state.st_size} bytes are too many for a settings file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise unreadable(path, error) or broken(path, error) from error
    if not isinstance(content, dict):
        raise broken(path, "it is not a JSON object")
    return content


def broken(path: Path, reason: object) -> ModelError:
    """The error for a file with wrong content."""
    return ModelError(
        f"{path} cannot be used: {reason}",
        f"Delete it and run again; if it is not downloaded automatically, download it from {catalog.CLIPSEG.page} "
        "or from the source of your model",
    )


def unreadable(path: Path, error: BaseException) -> files.Unreadable | None:
    """As `files.machine_error`, but a `PackError` for low memory too: loading CLIPSeg is not retried."""
    machine_error = files.machine_error(path, error)
    if isinstance(machine_error, MemoryError):
        return files.Unreadable(
            f"there is not enough memory to load {path} ({type(error).__name__}: {error})",
            "Close other programs, or choose 'Unload Models' in ComfyUI's menu, and run again",
        )
    return machine_error


def _find_fault(folder: Path) -> str | None:
    """Why ``folder`` is not a complete CLIPSeg model, judged by file names and config.json; None if it is one.

    Raises:
        ModelError: A file is not readable.
    """
    if not os.path.isdir(folder):
        return "does not exist"
    try:
        missing = _missing_files(folder)
        if missing:
            return f"is incomplete: {', '.join(missing)} missing"
        model_type = read_config(folder).get("model_type")
    except files.Unreadable:
        raise
    except ModelError as error:
        return f"is broken: {error.problem}"
    return None if model_type == "clipseg" else f"is not a CLIPSeg model: its config.json says {describe(model_type)}"


def _missing_files(folder: Path) -> list[str]:
    def exists(name: str) -> bool:
        try:
            return stat.S_ISREG((folder / name).stat().st_mode)
        except PermissionError as error:  # it may exist
            raise unreadable(folder / name, error) or error from error
        except (OSError, ValueError):  # also a dangling link, as in a half-deleted cache
            return False

    missing = [] if exists("config.json") else ["config.json"]
    if not exists("preprocessor_config.json") and not exists("processor_config.json"):
        missing.append("preprocessor_config.json")
    if not exists("tokenizer.json"):
        missing += [name for name in ("vocab.json", "merges.txt") if not exists(name)]
    if exists(SAFE) or exists(PICKLE):
        return missing
    if exists(SAFE_INDEX):
        return missing + [name for name in _shards(folder) if not exists(name)]
    return [*missing, SAFE]


def _shards(folder: Path) -> list[str]:
    """The names of the files that contain weights in several parts."""
    index = folder / SAFE_INDEX
    parts = read_json(index).get("weight_map")
    if not isinstance(parts, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in parts.values()
    ):
        raise broken(index, "its weight_map names files outside its folder")
    return sorted(set(parts.values()))
