"""CLIPSeg: where its weights are found, and how the model is built from them.

The only place that calls ``from_pretrained``, always on a local folder, never with code from a repository. What
differs between transformers 4.50 and 5.x is in `_read_processor` and `_read_model`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..core.checks import describe
from ..core.engine import Progress
from ..core.errors import DependencyError, InputError, ModelError, PackError
from ..core.packages import import_package, is_library_failure
from ..core.text.clipseg import ImageSettings
from . import catalog, files, weights
from .cache import ModelCache

if TYPE_CHECKING:
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

logger = logging.getLogger(__name__)

DEFAULT = catalog.CLIPSEG.name
DEMO = "demo: coloured shapes (bundled)"
DEMO_FOLDER = Path(__file__).resolve().parent / "demo" / "clipseg"
FOLDER_KINDS = ("clipseg", "clip_seg")  # ComfyUI's models folders to look in: ours first, then one that others use

_INSTALL = "Install it into ComfyUI's Python: python -m pip install 'transformers>=4.50.3'"
_CACHE_PREFIX = "models--"  # prefix of model folders in a Hugging Face cache
_LARGEST_JSON = 16 << 20  # bytes; larger files are not settings, and listing the models reads every config.json
_SAFE, _SAFE_INDEX, _PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"

_loaded: ModelCache[tuple] = ModelCache(capacity=2)


def available(folders: Sequence[Path]) -> list[str]:
    """Names for a list to choose from: the published model, what lies in ``folders``, the demo model where it is.

    Reads only the names and the ``config.json`` of folders; loads and fetches nothing. Skips what cannot be read.
    """
    found = {name for folder in folders for name, path in _models_in(folder) if _is_clipseg(path)}
    found = {name for name in found if not _means(DEFAULT, name) and weights.is_unicode(name)}
    return [DEFAULT, *sorted(found, key=str.casefold), *([DEMO] if DEMO_FOLDER.is_dir() else [])]


def load(
    name: str = DEFAULT, folders: Sequence[Path] = (), progress: Callable[[int], Progress] | None = None
) -> tuple[CLIPSegProcessor, CLIPSegForImageSegmentation]:
    """The model called ``name`` as a pair ``(processor, model)``: float32, on the CPU, in eval mode, without gradients.

    Looked for in ``folders``, in this order within each: a folder of that name (``org--model``, ``org-model``,
    ``org_model``, ``org/model`` and ``model`` mean ``org/model``), a Hugging Face cache, the files themselves; then in
    the user's Hugging Face cache. `DEFAULT` is downloaded where it is nowhere. The same pair comes back while it is
    among the last ones used.

    The vision layers after the last one that the decoder reads are dropped: the same logits, in less time. An image as
    the prompt (``conditional_pixel_values``) needs them and does not work with this model.

    Args:
        name: One of `available`, or the name of another Hugging Face model that is already on this computer.
        folders: Where ComfyUI keeps such models. A download goes below the first; below the user's cache folder where
            there are none.
        progress: Called with the bytes of a download, where there is one. See `weights.download_missing`.

    Raises:
        InputError: ``name`` is no name.
        ModelError: Not found, incomplete, broken, not a CLIPSeg, or the download failed.
        DependencyError: transformers is missing or does not work.
    """
    folder = find(name, folders, progress)
    file = _weights_of(folder)
    return _loaded.get((folder.resolve(), *files.identity(file)), lambda: _read(folder, file))


def full_name(name: str) -> str:
    """Normalize a model's name: ``models--org--model``, its folder in a Hugging Face cache, becomes ``org/model``, and
    every spelling of the published model becomes `DEFAULT`.

    Raises:
        InputError: ``name`` is not a valid name.
    """
    if name == DEMO:
        return DEMO
    weights.check_name(name, "model")
    if name.startswith(_CACHE_PREFIX):
        name = _name_in_cache(name)
    return DEFAULT if _means(DEFAULT, name) else name


def release() -> None:
    """Drop all cached models. Callers may go on using one; its memory is freed when they drop it."""
    _loaded.clear()


def where(name: str = DEFAULT, folders: Sequence[Path] = ()) -> Path | None:
    """The folder of the model called ``name`` on this computer, None where it is not there, or not whole. Loads and
    fetches nothing.

    Raises:
        InputError: ``name`` is no name.
    """
    name = full_name(name)
    if name == DEMO:
        return DEMO_FOLDER
    return next((path for path in _candidates(name, [Path(each) for each in folders]) if _fault(path) is None), None)


def find(name: str = DEFAULT, folders: Sequence[Path] = (), progress: Callable[[int], Progress] | None = None) -> Path:
    """The folder with all files of the model called ``name``, downloaded if need be. Arguments and errors as `load`."""
    name = full_name(name)
    if name == DEMO:
        _require(DEMO, DEMO_FOLDER)
        return DEMO_FOLDER
    folders = [Path(folder) for folder in folders] or [weights.default_folder("clipseg")]

    target = folders[0] / name.replace("/", "--")

    faults = {}
    for candidate in _candidates(name, folders):
        fault = _fault(candidate)
        if fault is None:
            return candidate
        faults[candidate] = fault
    if name != DEFAULT:
        raise _not_found(name, folders, faults, target)

    faults.pop(target, None)  # a download that did not end goes on there
    unusable = "; ".join(f"{folder} {fault}" for folder, fault in faults.items())
    if unusable:
        logger.warning("Passed over, looking for %s: %s", name, unusable)
    try:
        weights.download_missing(catalog.CLIPSEG, target, progress)
    except ModelError as error:
        also = f" (passed over: {unusable})" if unusable else ""
        raise ModelError(error.problem + also, error.remedy) from error
    _require(name, target)  # files that were there before may still be wrong
    return target


# Where models lie


def _candidates(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """The folders that may hold the model called ``name``, best first, whether complete or not.

    Names are compared with what is there, never joined to a path, so no name leads out of ``folders``.
    """
    for folder in folders:
        for found, path in _models_in(folder):
            if _means(name, found) and path != folder:
                yield path
        if os.path.isfile(folder / "config.json") and (
            name == folder.name or (name == DEFAULT and _is_default(folder))
        ):
            yield folder
    organisation, _, model = name.partition("/")
    if organisation and model and "/" not in model:
        yield from _snapshots(_hub_cache() / f"{_CACHE_PREFIX}{organisation}--{model}")


def _models_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and place of everything in ``folder`` that could be a model's folder."""
    if os.path.isfile(folder / "config.json"):
        yield folder.name, folder
    for child in _subfolders(folder):
        if child.name.startswith(_CACHE_PREFIX):
            for snapshot in _snapshots(child):
                yield _name_in_cache(child.name), snapshot
            continue
        yield child.name, child
        for grandchild in _subfolders(child):
            yield f"{child.name}/{grandchild.name}", grandchild


def _name_in_cache(folder: str) -> str:
    return folder.removeprefix(_CACHE_PREFIX).replace("--", "/")


def _means(name: str, found: str) -> bool:
    """Whether a folder called ``found`` is one of the ways to keep the model called ``name``."""
    name, found = name.casefold(), found.casefold()
    return found in {name, name.rpartition("/")[2], *(name.replace("/", joint) for joint in ("--", "-", "_"))}


def _snapshots(repository: Path) -> list[Path]:
    """The snapshots in a Hugging Face cache's folder ``models--org--name``: the pinned one, main, then the newest."""
    snapshots = _subfolders(repository / "snapshots")
    main = None
    with contextlib.suppress(OSError, ValueError):  # missing, unreadable or not text
        reference = repository / "refs" / "main"
        if os.path.isfile(reference):  # reading a pipe would block
            main = reference.read_text(encoding="utf-8").strip()
    preferred = [catalog.CLIPSEG.revision, main]

    def order(snapshot: Path) -> tuple[int, float]:
        rank = preferred.index(snapshot.name) if snapshot.name in preferred else len(preferred)
        try:
            return rank, -snapshot.stat().st_mtime
        except OSError:  # removed meanwhile
            return rank, 0.0

    return sorted(snapshots, key=order)


def _hub_cache() -> Path:
    constants = import_package("huggingface_hub.constants", _INSTALL, "HF_HUB_CACHE")
    return Path(constants.HF_HUB_CACHE)  # what HF_HOME and HF_HUB_CACHE say


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if os.path.isdir(child))
    except OSError:  # is not there, or may not be read
        return []


def _is_clipseg(folder: Path) -> bool:
    try:
        return _config(folder).get("model_type") == "clipseg"
    except ModelError:
        return False


def _is_default(folder: Path) -> bool:
    """Whether files without a folder of their own are of the published model, not of one of its smaller brothers."""
    try:
        config = _config(folder)
    except ModelError:
        return True  # whoever asks will hear of it
    return config.get("reduce_dim") == 64 and config.get("use_complex_transposed_convolution") is True


# What is in a model's folder


def _require(name: str, folder: Path) -> None:
    fault = _find_fault(folder)
    if fault is not None:
        raise ModelError(
            f"{name} cannot be loaded: {folder} {fault}",
            "Install this node pack again" if folder == DEMO_FOLDER else "Delete that folder and run again",
        )


def _fault(folder: Path) -> str | None:
    """As `_find_fault`, but also describes a folder that cannot be read."""
    try:
        return _find_fault(folder)
    except files.Unreadable as error:
        return f"cannot be read: {error.problem}"


def _find_fault(folder: Path) -> str | None:
    """Why ``folder`` is not a complete CLIPSeg model, judged by file names and config.json; None if it is one.

    Raises:
        ModelError: A file cannot be read.
    """
    if not os.path.isdir(folder):
        return "does not exist"
    try:
        missing = _missing_files(folder)
        if missing:
            return f"is incomplete: {', '.join(missing)} missing"
        kind = _config(folder).get("model_type")
    except files.Unreadable:
        raise
    except ModelError as error:
        return f"is broken: {error.problem}"
    return None if kind == "clipseg" else f"is not a CLIPSeg model: its config.json says {describe(kind)}"


def _missing_files(folder: Path) -> list[str]:
    def there(name: str) -> bool:
        try:
            return stat.S_ISREG((folder / name).stat().st_mode)
        except PermissionError as error:  # it may exist
            raise _unreadable(folder / name, error) from error
        except (OSError, ValueError):  # also a dangling link, as in a half-deleted cache
            return False

    missing = [] if there("config.json") else ["config.json"]
    if not there("preprocessor_config.json") and not there("processor_config.json"):
        missing.append("preprocessor_config.json")
    if not there("tokenizer.json"):
        missing += [name for name in ("vocab.json", "merges.txt") if not there(name)]
    if there(_SAFE) or there(_PICKLE):
        return missing
    if there(_SAFE_INDEX):
        return missing + [name for name in _shards(folder) if not there(name)]
    return [*missing, _SAFE]


def _shards(folder: Path) -> list[str]:
    """The files that weights in several parts are in."""
    index = folder / _SAFE_INDEX
    parts = _json(index).get("weight_map")
    if not isinstance(parts, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in parts.values()
    ):
        raise _broken(index, "its weight_map does not name files beside it")
    return sorted(set(parts.values()))


def _weights_of(folder: Path) -> Path:
    """The file that the weights are read from: safetensors wherever there is one."""
    return next(path for name in (_SAFE, _SAFE_INDEX, _PICKLE) if os.path.isfile(path := folder / name))


def _config(folder: Path) -> dict:
    return _json(folder / "config.json")


def _json(path: Path) -> dict:
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise _broken(path, "it is not a file")  # reading a pipe would block
        if state.st_size > _LARGEST_JSON:
            raise _broken(path, f"it has {state.st_size} bytes, too many for settings")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise _unreadable(path, error) or _broken(path, error) from error
    if not isinstance(content, dict):
        raise _broken(path, "it is no JSON object")
    return content


def _broken(path: Path, why: object) -> ModelError:
    return ModelError(
        f"{path} cannot be used: {why}",
        f"Delete it and run again; where it is not fetched by itself, take it once more from {catalog.CLIPSEG.page} "
        "or wherever the model came from",
    )


def _unreadable(path: Path, error: BaseException) -> files.Unreadable | None:
    """As `files.machine_error`, with an error of this pack for low memory too: loading CLIPSeg is not retried."""
    refusal = files.machine_error(path, error)
    if isinstance(refusal, MemoryError):
        return files.Unreadable(
            f"there is not enough memory to load {path} ({type(error).__name__}: {error})",
            "Close other programs, or choose 'Unload Models' in ComfyUI's menu, and run again",
        )
    return refusal


def _not_found(name: str, folders: Sequence[Path], faults: dict[Path, str], target: Path) -> ModelError:
    if faults:
        whys = "; ".join(f"{path} {why}" for path, why in faults.items())
        return ModelError(
            f"the CLIPSeg model {name!r} cannot be loaded: {whys}",
            "Put a whole copy of the model there, or choose another one",
        )
    looked = ", ".join(str(folder) for folder in (*folders, _hub_cache()))
    return ModelError(
        f"there is no CLIPSeg model {name!r} in {looked}",
        f"Choose one of: {', '.join(available(folders))}; or put its files into {target}",
    )


# Files to model


def _read(folder: Path, file: Path) -> tuple:
    try:
        transformers = import_package(
            "transformers", _INSTALL, "CLIPSegConfig", "CLIPSegForImageSegmentation", "CLIPSegProcessor"
        )
        logger.info("Loading CLIPSeg from %s", folder)
        return _read_processor(transformers, folder), _read_model(transformers, folder, file)
    except PackError:
        raise
    except (ImportError, SystemExit) as error:  # from a package that transformers imports lazily
        reason = "its import calls sys.exit" if isinstance(error, SystemExit) else error
        raise DependencyError(f"a Python package that transformers needs does not work ({reason})", _INSTALL) from error
    except BaseException as error:  # whatever a library says of broken files, they are what it is about
        if not is_library_failure(error):
            raise
        raise _unreadable(folder, error) or ModelError(
            f"the CLIPSeg model in {folder} cannot be loaded: {type(error).__name__}: {error}",
            "Delete that folder's files and run again, or put a whole copy of the model there",
        ) from error


def _read_processor(transformers, folder: Path) -> CLIPSegProcessor:
    """Put together from its parts, so that no file can name a class of its own."""
    path = folder / "preprocessor_config.json"
    if path.is_file():
        settings = _json(path)
    else:  # as transformers 5 writes it
        path = folder / "processor_config.json"
        settings = _json(path).get("image_processor")
    if not isinstance(settings, dict) or "size" not in settings:
        raise _broken(path, "it has no settings for images")
    # The one that needs no torchvision and gives the same everywhere: `ViTImageProcessor` until 5.0, renamed later.
    image_processor_class = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor
    # The fast one; since 5.0 there is only one, and this name is kept for it.
    tokenizer_class = getattr(transformers, "CLIPTokenizerFast", None) or transformers.CLIPTokenizer
    return transformers.CLIPSegProcessor(
        image_processor=_image_processor(image_processor_class, settings, path),
        tokenizer=tokenizer_class.from_pretrained(str(folder), local_files_only=True),
    )


def _image_processor(kind: type, settings: dict, path: Path) -> object:
    """Make an image processor with the ``settings`` read from ``path``.

    Raises:
        ModelError: The settings cannot be used; names the file.
    """
    try:
        processor = kind.from_dict(settings)
    except Exception as error:
        raise _unreadable(path, error) or _broken(path, f"{type(error).__name__}: {error}") from error
    try:
        ImageSettings.from_processor(processor)
    except InputError as error:
        raise _broken(path, error.problem) from error
    return processor


def _read_model(transformers, folder: Path, file: Path) -> CLIPSegForImageSegmentation:
    is_pickle = file.name == _PICKLE
    if is_pickle:
        _check_pickles_are_safe(file)
    else:
        for name in [file.name] if file.name == _SAFE else _shards(folder):
            _check_whole(folder / name)
    try:
        with _quiet(transformers):
            model, report = _with_fixed_attention(
                transformers.CLIPSegForImageSegmentation.from_pretrained,
                str(folder),
                config=_model_config(transformers, folder),
                local_files_only=True,
                use_safetensors=not is_pickle,
                weights_only=True,  # of a pickle: tensors, and nothing that runs
                output_loading_info=True,
            )
    except Exception as error:
        if is_pickle and "weights_only" in str(error):  # torch's own words tell how to load it all the same
            raise ModelError(
                f"{file} is a pickle that holds more than tensors, so it cannot be loaded and was not",
                f"Use {_SAFE} in its place; the published model's is at {catalog.CLIPSEG.page}",
            ) from None
        raise
    if report["missing_keys"]:
        # transformers would go on with random numbers in their place.
        some = sorted(report["missing_keys"])
        raise ModelError(
            f"{file} lacks {len(some)} of the tensors of a CLIPSeg model, {some[0]} for one",
            "Put the right file there: it may be of another model than the config.json beside it",
        )
    _drop_unread_vision_layers(model)
    return model.float().eval().requires_grad_(False)  # since 5.0 the numbers stay as the file has them, maybe half


def _with_fixed_attention(load: Callable, *arguments: object, **options: object) -> tuple:
    """Load with PyTorch's fused attention, or with plain attention if this transformers has only that for CLIPSeg."""
    try:
        return load(*arguments, attn_implementation="sdpa", **options)
    except (ValueError, ImportError) as error:
        if "attention" not in str(error):  # transformers names what it does not have
            raise
    return load(*arguments, attn_implementation="eager", **options)


def _model_config(transformers, folder: Path) -> object:
    """The model's config without any key that selects an attention implementation: such a key may name code on the hub,
    which transformers would fetch and run."""

    def without_code(content: object) -> object:
        if isinstance(content, dict):
            return {key: without_code(value) for key, value in content.items() if "_implementation" not in key}
        return content

    return transformers.CLIPSegConfig.from_dict(without_code(_config(folder)))


@contextlib.contextmanager
def _quiet(transformers) -> Iterator[None]:
    """Hide transformers' progress bar, which takes a third of a second, and its remarks on a file's content: the caller
    checks what matters, and users cannot act on the rest."""
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
    """Before torch 2.6 even ``weights_only=True`` let a prepared file run code (CVE-2025-32434)."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 6):
        raise ModelError(
            f"{file} is a pickle, which torch {torch.__version__} cannot load safely",
            f"Put {_SAFE} beside it (the published model's is at {catalog.CLIPSEG.page}), or update torch to 2.6",
        )


def _check_whole(file: Path) -> None:
    """A safetensors file tells its own length at its start."""
    safetensors = import_package("safetensors", _INSTALL, "SafetensorError", "safe_open")
    try:
        with file.open("rb"):  # safetensors reports every file it cannot open as missing
            pass
        with safetensors.safe_open(str(file), framework="pt"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise _unreadable(file, error) or ModelError(
            f"{file} ({file.stat().st_size} bytes) is incomplete or not a safetensors file: {error}",
            f"Delete it and run again, or download it once more; the published model's has "
            f"{catalog.CLIPSEG.files[-1].size} bytes",
        ) from error


def _drop_unread_vision_layers(model: CLIPSegForImageSegmentation) -> None:
    """The decoder reads the output of the layers ``extract_layers``; what comes after the last of them is unread."""
    read = model.config.extract_layers
    layers = model.clip.vision_model.encoder.layers
    if min(read) >= 0:  # counted from the end they need them all
        model.clip.vision_model.encoder.layers = layers[: max(read) + 1]
        model.config.vision_config.num_hidden_layers = len(model.clip.vision_model.encoder.layers)
