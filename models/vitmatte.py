"""ViTMatte: alpha from an image and a trimap, with transformers (Yao et al., *ViTMatte: Boosting Image Matting with
Pretrained Plain Vision Transformers*, 2023)."""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..core import tensors
from ..core.batching import StageProgress
from ..core.engine import Host
from ..core.errors import DependencyError, InputError, ModelError, PackError
from ..core.packages import import_package, is_library_failure
from . import catalog, download
from .files import machine_error
from .store import LocalModel, ModelCache, ModelStore, file_key, quote

logger = logging.getLogger(__name__)

NAME = catalog.VITMATTE.name
INSTALL = "Install it into ComfyUI's Python: python -m pip install 'transformers>=4.50.3'"
_CONFIG, _WEIGHTS = (file.name for file in catalog.VITMATTE.files)

_MULTIPLE = 32  # the model needs sides that are multiples of this many pixels
_UNKNOWN = 128 / 255  # of a trimap in 8 bits, as in its training
_LARGEST_TILE = 1024  # pixels a side; the memory of attention grows with the fourth power
_SMALLEST_TILE = 256
_OVERLAP = 8  # tiles overlap by this fraction of their side


class VitMatteStore(ModelStore):
    """The published ViTMatte. Each of ``folders`` is searched for a folder with the model's name (with or without its
    organization), for the files themselves and for a Hugging Face cache; then the user's own cache is searched."""

    KINDS = ("vitmatte",)

    def available(self) -> list[str]:
        return [NAME]

    def locate(self, name: str = NAME) -> LocalModel | None:
        if name != NAME:
            raise InputError(f"there is no ViTMatte model {quote(name)}", f"Use {NAME}")
        complete = (each for each in self._candidates() if all(os.path.isfile(each / f) for f in (_CONFIG, _WEIGHTS)))
        folder = next(complete, None)
        return folder and LocalModel(name, folder, catalog.VITMATTE)

    def find(self, name: str = NAME) -> LocalModel:
        local = self.locate(name)
        if local is None:
            target = self.download_folder() / NAME.replace("/", "--")
            download.download_missing(catalog.VITMATTE, target, self.progress)
            local = LocalModel(name, target, catalog.VITMATTE)
        return local

    def not_on_disk(self) -> list[catalog.Model]:
        try:
            return [] if self.locate() else [catalog.VITMATTE]
        except DependencyError:  # without huggingface_hub; loading the model raises the error
            return [catalog.VITMATTE]

    def _candidates(self) -> Iterator[Path]:
        organization, model = NAME.split("/")
        for folder in self.folders:
            for name in (f"{organization}--{model}", f"{organization}-{model}", model, f"{organization}/{model}", "."):
                yield folder / name
        hub = import_package("huggingface_hub", INSTALL, "try_to_load_from_cache")
        for cache in (*self.folders, None):  # None: the user's own
            file = hub.try_to_load_from_cache(NAME, _WEIGHTS, cache_dir=cache, revision=catalog.VITMATTE.revision)
            if isinstance(file, str):
                yield Path(file).parent


_loaded: ModelCache[torch.nn.Module] = ModelCache(capacity=1)


def load(store: VitMatteStore, host: Host) -> VitMatter:
    """The published ViTMatte, downloaded if necessary, loaded once and cached.

    Raises:
        ModelError: Incomplete, broken, not a ViTMatte, or the download failed.
        DependencyError: transformers is missing, too old or does not work.
    """
    folder = store.find().path
    return VitMatter(_loaded.get(file_key(folder / _WEIGHTS), lambda: _read(folder)), host)


def release() -> None:
    """Drop the cached model. A model in use stays valid."""
    _loaded.clear()


def _read(folder: Path) -> torch.nn.Module:
    transformers = import_package("transformers", INSTALL, "VitMatteConfig", "VitMatteForImageMatting")
    logger.info("Loading ViTMatte from %s", folder)
    try:
        settings = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if settings.get("model_type") != "vitmatte" or settings["backbone_config"]["model_type"] != "vitdet":
            raise ValueError("its config.json does not describe a ViTMatte with a ViTDet backbone")
        # Built from known keys only: others may name code or weights on the hub, which transformers would fetch.
        known = ("batch_norm_eps", "convstream_hidden_sizes", "fusion_hidden_sizes", "hidden_size", "backbone_config")
        config = transformers.VitMatteConfig(**{key: settings[key] for key in known if key in settings})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, report = transformers.VitMatteForImageMatting.from_pretrained(
                str(folder), config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        if report["missing_keys"]:  # transformers would continue with random values instead
            raise ValueError(f"it lacks {len(report['missing_keys'])} tensors, such as {min(report['missing_keys'])}")
    except PackError:
        raise
    except BaseException as error:  # libraries report broken files with errors of any kind
        if not is_library_failure(error):
            raise
        raise machine_error(folder / _WEIGHTS, error) or ModelError(
            f"the ViTMatte model in {folder} cannot be loaded: {type(error).__name__}: {error}",
            f"Delete that folder's files and run again, or download them again from {catalog.VITMATTE.page}",
        ) from error
    return model.float().eval().requires_grad_(False)


def _copy(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    return copy.deepcopy(model).to(dtype)


class VitMatter:
    """Computes alpha with a loaded ViTMatte (a `core.cutout.edges.Matter`).

    Args:
        model: A ``VitMatteForImageMatting``.
        host: Chooses the device, and detects when memory runs out.
        tile: Longest side in pixels that is processed at once.
    """

    def __init__(self, model: torch.nn.Module, host: Host, tile: int = _LARGEST_TILE) -> None:
        self._model, self._host, self._tile = model, host, tile

    def predict_alpha(self, image: torch.Tensor, trimap: torch.Tensor, stage: StageProgress) -> torch.Tensor:
        """``[H,W,3]`` in 0..1 and ``[H,W]`` of 0, 0.5 and 1 -> ``[H,W]`` in 0..1, on the CPU.

        A larger image is processed in overlapping tiles, of which only those with unknown pixels are computed. If
        memory runs out, the tiles become smaller.
        """
        while True:
            try:
                return self._predict_in_tiles(image, trimap, stage)
            except Exception as error:
                if self._tile <= _SMALLEST_TILE or not self._host.is_out_of_memory(error):
                    raise
            self._host.free_memory()  # outside the except block: its traceback would keep tensors alive
            self._tile = max(_SMALLEST_TILE, min(self._tile, max(trimap.shape)) // 2)
            logger.info("ViTMatte ran out of memory; continuing with tiles of %d pixels", self._tile)

    def _predict_in_tiles(self, image: torch.Tensor, trimap: torch.Tensor, stage: StageProgress) -> torch.Tensor:
        height, width = trimap.shape
        total, weights = torch.zeros(height, width), torch.zeros(height, width)
        tiles = [(y, x) for y in self._tile_slices(height) for x in self._tile_slices(width)]
        for index, (rows, columns) in enumerate(tiles):
            stage.advance_to(index / len(tiles))
            if (trimap[rows, columns] != 0.5).all():
                continue
            alpha = self._predict_tile(image[rows, columns], trimap[rows, columns])
            weight = self._ramp(rows, height)[:, None] * self._ramp(columns, width)
            total[rows, columns] += weight * alpha
            weights[rows, columns] += weight
        return torch.where(weights > 0, total / weights, trimap.cpu())

    def _tile_slices(self, length: int) -> list[slice]:
        side = min(self._tile, length)
        step = side - side // _OVERLAP
        count = 1 if side == length else -(-(length - side) // step) + 1
        starts = (round(i * (length - side) / max(1, count - 1)) for i in range(count))
        return [slice(start, start + side) for start in starts]

    def _ramp(self, part: slice, length: int) -> torch.Tensor:
        """Weights along one side of a tile, which fall off where it overlaps others."""
        side = part.stop - part.start
        position = torch.arange(side) + 1.0
        before = position if part.start > 0 else torch.full((side,), float(side))
        after = position.flip(0) if part.stop < length else torch.full((side,), float(side))
        return torch.minimum(before, after).clamp(max=max(1, side // _OVERLAP))

    def _predict_tile(self, image: torch.Tensor, trimap: torch.Tensor) -> torch.Tensor:
        model: Any = self._host.on_device(self._model, _copy)
        weight = next(model.parameters())
        pixels = prepare(image, trimap).to(weight.device, weight.dtype)
        with torch.no_grad():
            alpha = model(pixel_values=pixels).alphas[0, 0]
        height, width = trimap.shape
        alpha = alpha[:height, :width].float().cpu()
        if not torch.isfinite(alpha).all():
            raise ModelError(
                "ViTMatte computed NaN or infinity",
                "Its weights may be damaged, or too large for half precision: start ComfyUI with --force-fp32, or "
                "download the model again",
            )
        return alpha.clamp(0, 1)


def prepare(image: torch.Tensor, trimap: torch.Tensor) -> torch.Tensor:
    """The model's input: normalized colors and trimap, padded with 0 at the right and the bottom.

    Args:
        image: ``[H,W,3]`` in 0..1.
        trimap: ``[H,W]`` of 0, 0.5 and 1.

    Returns:
        ``[1,4,h,w]``, h and w multiples of 32.
    """
    mean, std = (image.new_tensor(each) for each in (catalog.VITMATTE.mean, catalog.VITMATTE.std))
    colors = tensors.image_to_bchw(((image - mean) / std).unsqueeze(0))  # [H,W,3] -> [1,3,H,W]
    values = torch.where(trimap == 0.5, _UNKNOWN, trimap)[None, None]  # [H,W] -> [1,1,H,W]
    height, width = trimap.shape
    return F.pad(torch.cat((colors, values.to(colors)), dim=1), (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))
