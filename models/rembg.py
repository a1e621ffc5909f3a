"""Runs rembg's sessions on files that are already on this computer.

The only module that imports rembg, and only when the first mask is computed: the import takes a second, up to a minute
the first time (it compiles), and ends the process if onnxruntime is missing.

rembg's own constructor also finds or downloads the model's file, and chooses the device. This pack has done so already,
so a session object is created around a ready ONNX Runtime session; its `predict` is rembg's own. This needs only what
every rembg since 2.0.50 has: `sessions_class`, `name`, `inner_session`, `normalize` and `predict`.
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core import tensors
from ..core.batching import is_out_of_memory
from ..core.engine import Host
from ..core.errors import DependencyError, ModelError
from ..core.packages import import_package, import_scipy, keep_torch_threads
from . import catalog, onnx_runtime
from .store import LocalModel

logger = logging.getLogger(__name__)

CLOTHES = "u2net_cloth_seg"

# The session class for a user's own file, by a part of its name. The first match wins; without one, the model's input
# size decides.
_FAMILIES = (
    ("birefnet", "birefnet-general"),
    ("rmbg-2", "bria-rmbg"),
    ("bria", "bria-rmbg"),
    ("cloth", CLOTHES),
    ("anime", "isnet-anime"),
    ("isnetis", "isnet-anime"),
    ("isnet", "isnet-general-use"),
)
_LARGEST_U2NET = 512  # pixels per side


class RembgMasks:
    """A session of rembg as a `core.engine.MaskSource`.

    Args:
        clothes_size: For clothes, width and height of the model's input; None for all other models.
    """

    def __init__(self, session: Any, path: Path, clothes_size: tuple[int, int] | None) -> None:
        self._session, self._path, self._clothes_size = session, path, clothes_size
        self.masks_per_image = 3 if clothes_size else 1

    @property
    def providers(self) -> list[str]:
        """The ONNX Runtime providers in actual use, best first."""
        return self._session.inner_session.get_providers()

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        """``[H,W,3 or 4]`` -> ``[1,H,W]``, or ``[3,H,W]`` (upper body, lower body, whole body) for clothes.

        The values are rembg's: in 8 bits, the lowest 0 and the highest 255; all 0 if the model's output is constant.
        Clothes are classes, which are not mixed at borders (see `_predict_clothes`).

        Raises:
            ModelError: The model failed on this image, or returned NaN or infinity.
            MemoryError: Not enough memory.
        """
        pil = tensors.to_pil(tensors.drop_alpha(image))
        try:
            # A constant output is 0 / 0; the sigmoid of a large value overflows on its way to 0.
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                masks = (
                    self._predict_clothes(pil, self._clothes_size) if self._clothes_size else self._session.predict(pil)
                )
        except Exception as error:  # ONNX Runtime has a dozen kinds without a common base
            if is_out_of_memory(error):
                raise MemoryError(f"not enough memory to run {self._path} ({error})") from error
            raise ModelError(
                f"{self._path} failed on an image of {pil.width} x {pil.height} ({error})",
                "If it is your own file, it may not be a model for background removal: it must take one image "
                "[1,3,height,width] and return a map [1,1,height,width]; otherwise delete it and run again",
            ) from error
        return torch.stack([tensors.from_pil(mask) for mask in masks])  # [H,W] each -> [N,H,W]

    def _predict_clothes(self, image: Image.Image, size: tuple[int, int]) -> list[Image.Image]:
        """Predict at the model's own size, and resize the masks with nearest neighbor.

        rembg would resize the map of classes (0, 1, 2, 3) like an image, which puts lines of 2 and 1 between 3 and 0.
        """
        resized = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        masks = self._session.predict(resized)
        return [mask.resize(image.size, Image.Resampling.NEAREST) for mask in masks]


def check_support(model: catalog.Model) -> None:
    """Check that the installed rembg can run a published model, before it is downloaded.

    Raises:
        DependencyError: rembg or onnxruntime is missing, too old or does not work.
    """
    _session_class(catalog.rembg_name(model), _session_classes())


def load(local: LocalModel, device: torch.device, host: Host) -> RembgMasks:
    """A session for a model's file, on ``device`` if ONNX Runtime can use it.

    Args:
        local: A model of `catalog.REMBG`, the demo model or the user's own.
        host: Frees memory if the model does not fit.

    Raises:
        DependencyError: rembg or onnxruntime is missing, too old or does not work.
        ModelError: The file is broken or of another kind.
        MemoryError: Not enough memory for it.
    """
    classes = _session_classes()
    inner = onnx_runtime.open_session(local.path, device, _remedy(local), host)
    return _wrap_session(inner, local, classes)


def _wrap_session(inner: Any, local: LocalModel, classes: dict[str, type[Any]]) -> RembgMasks:
    """A session of rembg's matching class around one of ONNX Runtime."""
    size = _input_size(inner, local)
    if local.model is None:
        name = _guess_class(local.path, size)
        session_class = _with_input_size(_session_class(name, classes), size)
    else:
        name, side = catalog.rembg_name(local.model), local.model.input_size
        if any(length not in (None, side) for length in size):
            raise _wrong_interface(
                local, f"it takes images of {size[1]} x {size[0]}, but {local.name} takes {side} x {side}"
            )
        session_class = _session_class(name, classes)
    channels, expected = _output_channels(inner), 4 if name == CLOTHES else 1
    if channels not in (None, expected):
        raise _wrong_interface(local, f"its output has {channels} channels, but that of {name} has {expected}")
    session: Any = object.__new__(session_class)
    session.model_name = name
    session.inner_session = _FiniteOnly(inner)
    if name != CLOTHES:
        return RembgMasks(session, local.path, None)
    height, width = (length or catalog.REMBG[CLOTHES].input_size for length in size)
    return RembgMasks(session, local.path, (width, height))


class _FiniteOnly:
    """An ONNX Runtime session that raises on NaN and infinity, which rembg would silently turn into a black mask."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *args: Any, **kwargs: Any) -> list:
        outputs = self._session.run(*args, **kwargs)
        if not np.isfinite(outputs[0]).all():
            raise ValueError(f"it returned {'NaN' if np.isnan(outputs[0]).any() else 'infinity'}")
        return outputs


def _input_size(session: Any, local: LocalModel) -> tuple[int | None, int | None]:
    """Height and width of a session's input; None for any.

    Raises:
        ModelError: It does not take an image, or does not return a map.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise _wrong_interface(local, f"it takes {len(inputs)} inputs ({names}), not one image")
    if inputs[0].type != "tensor(float)":
        raise _wrong_interface(local, f"its input is {inputs[0].type}, not float32")
    shape = [length if isinstance(length, int) else None for length in inputs[0].shape]
    if len(shape) != 4 or shape[0] not in (None, 1) or shape[1] not in (None, 3):
        raise _wrong_interface(local, f"its input is {inputs[0].shape}, not an image [1, 3, height, width]")
    if outputs[0].shape and len(outputs[0].shape) != 4:
        raise _wrong_interface(local, f"its output is {outputs[0].shape}, not a map [1, 1, height, width]")
    return shape[2], shape[3]


def _output_channels(session: Any) -> int | None:
    """The number of maps that a session returns for an image; None if it does not say."""
    shape = session.get_outputs()[0].shape
    return shape[1] if len(shape) == 4 and isinstance(shape[1], int) else None


def _wrong_interface(local: LocalModel, fault: str) -> ModelError:
    return ModelError(f"{local.path} is not the right kind of model: {fault}", _remedy(local))


def _remedy(local: LocalModel) -> str:
    """How the user can get a good file."""
    if local.model is not None:
        file = local.model.files[0]
        size = f", {file.size} bytes" if file.size else ""
        return f"Delete it and run again, or download it again from {file.url}{size}"
    if local.name == catalog.BACKGROUND_DEMO:
        return "Install this node pack again"
    return "Replace it with a complete ONNX model for background removal, or choose another model"


def _guess_class(path: Path, size: tuple[int | None, int | None]) -> str:
    """rembg's name of the session class for a user's own file."""
    stem = path.stem.casefold()
    # Longest first: u2netp before u2net.
    published = sorted((catalog.rembg_name(model) for model in catalog.REMBG.values()), key=len, reverse=True)
    for name in published:
        if stem.startswith(name):
            return name
    for part, name in _FAMILIES:
        if part in stem:
            return name
    longest = max((length for length in size if length), default=0)
    return "u2net" if longest <= _LARGEST_U2NET else "isnet-general-use"


def _with_input_size(session_class: type[Any], size: tuple[int | None, int | None]) -> type[Any]:
    """Subclass a session class of rembg for the file's input size, if that is fixed."""

    class OfSize(session_class):
        def normalize(self, img, mean, std, own_size, *args, **kwargs):
            height, width = size
            return super().normalize(img, mean, std, (width or own_size[0], height or own_size[1]), *args, **kwargs)

    return OfSize


def _session_classes() -> dict[str, type[Any]]:
    """rembg's session classes by their names."""
    onnx_runtime.onnxruntime()  # first: without it, rembg prints and exits
    import_scipy("ndimage")  # first, so that errors do not blame rembg
    if "rembg" not in sys.modules:
        logger.info("Importing rembg. The first import takes up to a minute.")
    install = f"Install it: {onnx_runtime.pip_install('--upgrade', 'rembg', onnx_runtime.best_package())}"
    with keep_torch_threads():
        sessions = import_package("rembg.sessions", install, "sessions_class")
    return {each.name(): each for each in sessions.sessions_class}


def _session_class(name: str, classes: dict[str, type[Any]]) -> type[Any]:
    if name not in classes:
        raise DependencyError(
            f"rembg {_version()} does not know the model {name}",
            f"Update it: {onnx_runtime.pip_install('--upgrade', 'rembg')}; or choose another model",
        )
    return classes[name]


def _version() -> str:
    try:
        return importlib.metadata.version("rembg")
    except importlib.metadata.PackageNotFoundError:
        return ""
