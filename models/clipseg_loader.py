"""Loads CLIPSeg models with transformers.

The only module that calls ``from_pretrained``: always on a local folder, never with code from a repository. The
differences between transformers 4.50 and 5.x are in `_read_processor` and `_read_model`.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import DependencyError, InputError, ModelError, PackError
from ..core.packages import import_package, is_library_failure
from ..core.text.clipseg_engine import ImageSettings
from . import catalog
from .clipseg_files import PICKLE, SAFE, broken, read_config, read_json, safetensors_files, unreadable, weights_file
from .clipseg_store import INSTALL, ClipsegStore
from .store import ModelCache, file_key

if TYPE_CHECKING:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor

logger = logging.getLogger(__name__)

_loaded: ModelCache[tuple] = ModelCache(capacity=2)


def load(name: str, store: ClipsegStore) -> tuple[CLIPSegProcessor, CLIPSegForImageSegmentation]:
    """The model called ``name`` as a pair ``(processor, model)``: float32, on the CPU, in eval mode, without gradients.
    It is loaded once and cached.

    The vision layers after the last one that the decoder reads are dropped: the same logits in less time. An image as
    the prompt (``conditional_pixel_values``) needs them and does not work with this model.

    Args:
        name: One of ``store.available()``, or another Hugging Face model on this computer.

    Raises:
        InputError: ``name`` is not a valid name.
        ModelError: Not found, incomplete, broken, not a CLIPSeg, or the download failed.
        DependencyError: transformers is missing or does not work.
    """
    folder = store.find(name).path
    file = weights_file(folder)
    return _loaded.get((folder.resolve(), *file_key(file)), lambda: _read(folder, file))


def release() -> None:
    """Drop all cached models. A model in use stays valid; its memory is freed when the caller drops it."""
    _loaded.clear()


def _read(folder: Path, file: Path) -> tuple:
    try:
        transformers = import_package(
            "transformers", INSTALL, "CLIPSegConfig", "CLIPSegForImageSegmentation", "CLIPSegProcessor"
        )
        logger.info("Loading CLIPSeg from %s", folder)
        return _read_processor(transformers, folder), _read_model(transformers, folder, file)
    except PackError:
        raise
    except (ImportError, SystemExit) as error:  # from a package that transformers imports lazily
        reason = "its import calls sys.exit" if isinstance(error, SystemExit) else error
        raise DependencyError(f"a Python package that transformers needs does not work ({reason})", INSTALL) from error
    except BaseException as error:  # libraries report broken files with errors of any kind
        if not is_library_failure(error):
            raise
        raise unreadable(folder, error) or ModelError(
            f"the CLIPSeg model in {folder} cannot be loaded: {type(error).__name__}: {error}",
            "Delete that folder's files and run again, or put a complete copy of the model there",
        ) from error


def _read_processor(transformers, folder: Path) -> CLIPSegProcessor:
    """Build the processor explicitly, so that no file can name arbitrary classes."""
    path = folder / "preprocessor_config.json"
    if path.is_file():
        settings = read_json(path)
    else:  # as transformers 5 writes it
        path = folder / "processor_config.json"
        settings = read_json(path).get("image_processor")
    if not isinstance(settings, dict) or "size" not in settings:
        raise broken(path, "it has no settings for images")
    # This class needs no torchvision and gives the same results everywhere. Before 5.0 it is `ViTImageProcessor`.
    image_processor_class = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor
    # The fast tokenizer. Since 5.0 it is the only one, under either name.
    tokenizer_class = getattr(transformers, "CLIPTokenizerFast", None) or transformers.CLIPTokenizer
    return transformers.CLIPSegProcessor(
        image_processor=_image_processor(image_processor_class, settings, path),
        tokenizer=tokenizer_class.from_pretrained(str(folder), local_files_only=True),
    )


def _image_processor(kind: type[Any], settings: dict[str, Any], path: Path) -> Any:
    """An image processor with the ``settings`` read from ``path``.

    Raises:
        ModelError: The settings cannot be used; names the file.
    """
    try:
        processor = kind.from_dict(settings)
    except Exception as error:
        raise unreadable(path, error) or broken(path, f"{type(error).__name__}: {error}") from error
    try:
        ImageSettings.from_processor(processor)
    except InputError as error:
        raise broken(path, error.problem) from error
    return processor


def _read_model(transformers, folder: Path, file: Path) -> CLIPSegForImageSegmentation:
    is_pickle = file.name == PICKLE
    if is_pickle:
        _check_pickles_are_safe(file)
    else:
        for path in safetensors_files(folder):
            _check_length(path)
    try:
        with _quiet(transformers):
            model, report = _with_fixed_attention(
                transformers.CLIPSegForImageSegmentation.from_pretrained,
                str(folder),
                config=_model_config(transformers, folder),
                local_files_only=True,
                use_safetensors=not is_pickle,
                weights_only=True,  # from a pickle: only tensors, no code
                output_loading_info=True,
            )
    except Exception as error:
        if is_pickle and "weights_only" in str(error):  # torch's message suggests disabling the check
            raise ModelError(
                f"{file} is a pickle that contains more than tensors, so it was not loaded",
                f"Use {SAFE} instead; that of the published model is at {catalog.CLIPSEG.page}",
            ) from None
        raise
    if report["missing_keys"]:
        # transformers would continue with random values instead.
        missing = sorted(report["missing_keys"])
        raise ModelError(
            f"{file} lacks {len(missing)} of the tensors of a CLIPSeg model, for example {missing[0]}",
            "Replace it with the right file: it may belong to a different model than the config.json next to it",
        )
    _drop_unread_vision_layers(model)
    return model.float().eval().requires_grad_(False)  # since 5.0 weights keep the file's dtype, maybe half


def _with_fixed_attention(load: Callable, *arguments: object, **options: object) -> tuple:
    """Load with PyTorch's fused attention; with plain attention if this transformers has no other for CLIPSeg."""
    try:
        return load(*arguments, attn_implementation="sdpa", **options)
    except (ValueError, ImportError) as error:
        if "attention" not in str(error):  # transformers names what it lacks
            raise
    return load(*arguments, attn_implementation="eager", **options)


def _model_config(transformers, folder: Path) -> CLIPSegConfig:
    """The model's config without any key that selects an attention implementation: such a key may name code on the hub,
    which transformers would fetch and run."""

    def without_code(content: Any) -> Any:
        if isinstance(content, dict):
            return {key: without_code(value) for key, value in content.items() if "_implementation" not in key}
        return content

    return transformers.CLIPSegConfig.from_dict(without_code(read_config(folder)))


@contextlib.contextmanager
def _quiet(transformers) -> Iterator[None]:
    """Hide transformers' progress bar, which takes a third of a second, and its warnings about a file's content: the
    caller checks what matters, and users cannot act on the rest."""
    bar = getattr(transformers.logging, "is_progress_bar_enabled", lambda: False)()
    level = transformers.logging.get_verbosity()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if bar:
            transformers.logging.enable_progress_bar()


def _check_pickles_are_safe(file: Path) -> None:
    """Before torch 2.6, a malicious file could run code even with ``weights_only=True`` (CVE-2025-32434)."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 6):
        raise ModelError(
            f"{file} is a pickle, which torch {torch.__version__} cannot load safely",
            f"Put {SAFE} next to it (that of the published model is at {catalog.CLIPSEG.page}), or update torch to 2.6",
        )


def _check_length(file: Path) -> None:
    """Check a safetensors file against the length that its header states."""
    safetensors = import_package("safetensors", INSTALL, "SafetensorError", "safe_open")
    try:
        with file.open("rb"):  # safetensors reports every file it cannot open as missing
            pass
        with safetensors.safe_open(str(file), framework="pt"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise unreadable(file, error) or ModelError(
            f"{file} ({file.stat().st_size} bytes) is incomplete or not a safetensors file: {error}",
            f"Delete it and run again, or download it again; that of the published model has "
            f"{catalog.CLIPSEG.files[-1].size} bytes",
        ) from error


def _drop_unread_vision_layers(model: CLIPSegForImageSegmentation) -> None:
    """Drop the layers after the last of ``extract_layers``: nothing reads their output."""
    read = model.config.extract_layers
    layers = model.clip.vision_model.encoder.layers
    if min(read) >= 0:  # negative indices count from the end and need all layers
        model.clip.vision_model.encoder.layers = layers[: max(read) + 1]
        vision_config: Any = model.config.vision_config  # transformers declares what its constructor takes
        vision_config.num_hidden_layers = len(model.clip.vision_model.encoder.layers)
