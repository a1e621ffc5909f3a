"""rembg: its sessions as sources of masks, made from files that are already here, and kept.

The only place that imports rembg, when the first mask is wanted: the import takes a second, up to a minute the first
time (it compiles), and ends the process where onnxruntime is missing.

rembg's own way to make a session also looks for the model's file, downloads it, and chooses where it runs. All that is
done here before, so a session object is made around an ONNX Runtime session that is ready; `predict`, which is what
rembg is for, then is its own. This needs of rembg only what every version since 2.0.50 has: `sessions_class`, `name`,
`inner_session`, `normalize` and `predict`.
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..core import tensors, threads
from ..core.errors import DependencyError, ModelError
from ..core.memory import is_out_of_memory
from ..core.packages import import_package, import_scipy
from . import catalog, files, onnx_runtime
from .background_store import DEMO, Found
from .cache import ModelCache

logger = logging.getLogger(__name__)

CLOTHES = "u2net_cloth_seg"

# What a file of the user's own is run as, by a part of its name. The first that fits counts; where none does, the size
# of the picture it takes decides.
_FAMILIES = (
    ("birefnet", "birefnet-general"),
    ("rmbg-2", "bria-rmbg"),
    ("bria", "bria-rmbg"),
    ("cloth", CLOTHES),
    ("anime", "isnet-anime"),
    ("isnetis", "isnet-anime"),
    ("isnet", "isnet-general-use"),
)
_LARGEST_AS_U2NET = 512  # pixels a side

_sessions: ModelCache[RembgMasks] = ModelCache(capacity=2)


class RembgMasks:
    """A session of rembg as a `core.engine.MaskSource`."""

    def __init__(self, session: object, path: Path, shown: tuple[int, int] | None) -> None:
        """``shown``: for clothes, width and height of the picture that the model sees; None for all others."""
        self._session = session
        self._path = path
        self._shown = shown
        self.masks_per_image = 3 if shown else 1

    @property
    def providers(self) -> list[str]:
        """Where it really runs, as ONNX Runtime calls it, best first."""
        return self._session.inner_session.get_providers()

    def predict_masks(self, picture: torch.Tensor) -> torch.Tensor:
        """``[H,W,3 or 4]`` -> ``[1,H,W]``, or ``[3,H,W]`` (upper body, lower body, whole body) for clothes.

        The same numbers as rembg's: in 8 bits, the lowest 0 and the highest 255; all 0 where the model's answer is
        the same everywhere. Clothes are classes, which are not mixed at borders: see `_clothes`.

        Raises:
            ModelError: The model failed on this image, or answered with NaN or infinity.
            MemoryError: There is not enough memory for it.
        """
        image = tensors.to_pil(tensors.drop_alpha(picture))
        try:
            # An answer that is the same everywhere is 0 / 0; the sigmoid of a large one overflows on its way to 0.
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                found = self._session.predict(image) if self._shown is None else self._clothes(image, self._shown)
        except Exception as error:  # of ONNX Runtime, which has a dozen kinds without a base of their own
            if is_out_of_memory(error):
                raise MemoryError(f"not enough memory to run {self._path} ({error})") from error
            raise ModelError(
                f"{self._path} failed on a picture of {image.width} x {image.height} ({error})",
                "If it is a file of your own, it may be no model for background removal: it must take one picture "
                "[1,3,height,width] and give a map [1,1,height,width]; otherwise delete it and run again",
            ) from error
        masks = [tensors.from_pil(mask).unsqueeze(0) for mask in found]  # [H,W] -> [1,H,W]
        return masks[0] if len(masks) == 1 else torch.cat(masks)

    def _clothes(self, image: Image.Image, size: tuple[int, int]) -> list[Image.Image]:
        """rembg resizes the map of classes (0, 1, 2, 3) as if it were a picture, so that between a 3 and a 0 there is
        a line of 2 and of 1. Given a picture of the model's own size it has nothing to resize; the masks are then
        brought to the picture's size pixel by pixel."""
        seen = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        found = self._session.predict(seen)
        return [mask.resize(image.size, Image.Resampling.NEAREST) for mask in found]


def load(
    found: Callable[[], Found],
    model: catalog.Model | None,
    device: torch.device,
    make_room: Callable[[], None] = lambda: None,
) -> RembgMasks:
    """The session of a model, made once for each file, and device while it is among the last ones used.

    rembg is asked first whether it knows ``model``, so that nothing is downloaded which could not be run.

    Args:
        found: Gives the file; called when rembg is there. See `background_store.find`.
        model: What the catalogue says of it; None for a file of the user's own.
        device: Where models run.
        make_room: As `onnx_runtime.open_session` takes it.

    Raises:
        DependencyError: rembg or onnxruntime is missing, too old or does not work.
        ModelError: The file is broken or of another kind.
        PackError: Whatever ``found`` raises.
    """
    classes = _session_classes()
    name = None if model is None else catalog.rembg_name(model)
    if name is not None:
        _class_of(name, classes)
    file = found()
    again = _again(file)

    def open_model() -> RembgMasks:
        inner = onnx_runtime.open_session(file.path, device, again, make_room)
        masks = _wrapped(inner, file, name, classes, again)
        logger.info("Loaded %s for background removal from %s, running on %s", file.name, file.path, masks.providers[0])
        return masks

    return _sessions.get((*files.identity(file.path), name, str(device)), open_model)


def release() -> None:
    """Drop all cached sessions. Callers may go on using one; its memory is freed when they drop it."""
    _sessions.clear()


def _wrapped(inner: object, found: Found, name: str | None, classes: dict[str, type], again: str) -> RembgMasks:
    """rembg's session of the class that fits, around one of ONNX Runtime's."""
    size = _picture_size(inner, found.path, again)
    if name is None:
        name = _family(found.path, size)
        kind = _of_any_size(_class_of(name, classes), size)
    else:
        side = found.model.input_size
        if any(length not in (None, side) for length in size):
            raise _wrong_interface(
                found.path,
                f"it takes pictures of {size[1]} x {size[0]}, and {found.name} those of {side} x {side}",
                again,
            )
        kind = _class_of(name, classes)
    maps, wanted = _maps(inner), 4 if name == CLOTHES else 1
    if maps not in (None, wanted):
        raise _wrong_interface(found.path, f"its output has {maps} channels where {name} has {wanted}", again)
    session = kind.__new__(kind)
    session.model_name = name
    session.inner_session = _FiniteOnly(inner)
    if name != CLOTHES:
        return RembgMasks(session, found.path, None)
    height, width = (length or catalog.REMBG[CLOTHES].input_size for length in size)
    return RembgMasks(session, found.path, (width, height))


class _FiniteOnly:
    """An ONNX Runtime session that raises on NaN and infinity, which rembg would silently turn into a black mask."""

    def __init__(self, session: object) -> None:
        self._session = session

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def run(self, *args: object, **kwargs: object) -> list:
        answer = self._session.run(*args, **kwargs)
        if not np.isfinite(answer[0]).all():
            raise ValueError(f"it answered with {'NaN' if np.isnan(answer[0]).any() else 'infinity'}")
        return answer


def _picture_size(session: object, path: Path, again: str) -> tuple[int | None, int | None]:
    """Height and width of the picture that a session takes; None where any will do.

    Raises:
        ModelError: It takes something else, or does not give a map.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise _wrong_interface(path, f"it takes {len(inputs)} inputs ({names}), not one picture", again)
    if inputs[0].type != "tensor(float)":
        raise _wrong_interface(path, f"its input holds {inputs[0].type}, not float32", again)
    shape = [length if isinstance(length, int) else None for length in inputs[0].shape]
    if len(shape) != 4 or shape[0] not in (None, 1) or shape[1] not in (None, 3):
        raise _wrong_interface(path, f"its input is {inputs[0].shape}, not a picture [1, 3, height, width]", again)
    if outputs[0].shape and len(outputs[0].shape) != 4:
        raise _wrong_interface(path, f"its output is {outputs[0].shape}, not a map [1, 1, height, width]", again)
    return shape[2], shape[3]


def _maps(session: object) -> int | None:
    """How many maps a session gives for a picture; None where it does not tell."""
    shape = session.get_outputs()[0].shape
    return shape[1] if len(shape) == 4 and isinstance(shape[1], int) else None


def _wrong_interface(path: Path, fault: str, again: str) -> ModelError:
    return ModelError(f"{path} is not the right kind of model: {fault}", again)


def _again(found: Found) -> str:
    if found.model is not None:
        file = found.model.files[0]
        size = f", {file.size} bytes" if file.size else ""
        return f"Delete it and run again, or download it once more from {file.url}{size}"
    if found.name == DEMO:
        return "Install this node pack again"
    return "Put a whole ONNX model for background removal in its place, or choose another model"


def _family(path: Path, size: tuple[int | None, int | None]) -> str:
    """What to run a file of the user's own as."""
    stem = path.stem.casefold()
    # The longest first: u2netp before u2net.
    known = sorted((catalog.rembg_name(model) for model in catalog.REMBG.values()), key=len, reverse=True)
    for name in known:
        if stem.startswith(name):
            return name
    for part, name in _FAMILIES:
        if part in stem:
            return name
    longest = max((length for length in size if length), default=0)
    return "u2net" if longest <= _LARGEST_AS_U2NET else "isnet-general-use"


def _of_any_size(kind: type, size: tuple[int | None, int | None]) -> type:
    """A session class of rembg for pictures of the size that the file takes, where that is fixed."""

    class Fitted(kind):
        def normalize(self, img, mean, std, own_size, *args, **kwargs):
            height, width = size
            return super().normalize(img, mean, std, (width or own_size[0], height or own_size[1]), *args, **kwargs)

    return Fitted


def _session_classes() -> dict[str, type]:
    """rembg's session classes by its names for them."""
    onnx_runtime.onnxruntime()  # whose absence makes rembg print and exit
    import_scipy("ndimage")  # first, so that rembg is not blamed for it
    if "rembg" not in sys.modules:
        logger.info("Importing rembg. The first time this takes up to a minute.")
    install = f"Install it: {onnx_runtime.pip_install('--upgrade', 'rembg', onnx_runtime.best_package())}"
    with threads.keep_torch_threads():
        sessions = import_package("rembg.sessions", install, "sessions_class")
    return {kind.name(): kind for kind in sessions.sessions_class}


def _class_of(name: str, classes: dict[str, type]) -> type:
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
