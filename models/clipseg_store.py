"""Finds CLIPSeg models. Each is a folder in the format of transformers."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core.errors import DependencyError, ModelError
from ..core.packages import import_package
from . import catalog, download
from .clipseg_files import check_complete, describe_fault, is_clipseg, may_be_published
from .store import LocalModel, ModelStore, check_name, is_unicode

logger = logging.getLogger(__name__)

DEFAULT = catalog.CLIPSEG.name
DEMO = "demo: coloured shapes (bundled)"
DEMO_FOLDER = Path(__file__).resolve().parent / "demo" / "clipseg"
INSTALL = "Install it into ComfyUI's Python: python -m pip install 'transformers>=4.50.3'"
_CACHE_PREFIX = "models--"  # prefix of model folders in a Hugging Face cache


class ClipsegStore(ModelStore):
    """CLIPSeg models.

    Each of ``folders`` is searched for, in this order: a folder with the model's name (``org--model``, ``org-model``,
    ``org_model``, ``org/model`` and ``model`` mean ``org/model``), a Hugging Face cache, the files themselves. Then the
    user's Hugging Face cache is searched. Incomplete copies are skipped.
    """

    KINDS = ("clipseg", "clip_seg")  # the second is used by another pack

    def available(self) -> list[str]:
        names = {name for folder in self.folders for name, path in _models_in(folder) if is_clipseg(path)}
        own = [name for name in names if not _is_spelling(DEFAULT, name) and is_unicode(name)]
        return [DEFAULT, *sorted(own, key=str.casefold), *([DEMO] if DEMO_FOLDER.is_dir() else [])]

    def locate(self, name: str = DEFAULT) -> LocalModel | None:
        name = full_name(name)
        folders = [DEMO_FOLDER] if name == DEMO else _candidates(name, self.folders)
        return next((_local_model(name, folder) for folder in folders if describe_fault(folder) is None), None)

    def find(self, name: str = DEFAULT) -> LocalModel:
        name = full_name(name)
        if name == DEMO:
            check_complete(DEMO, DEMO_FOLDER, "Install this node pack again")
            return _local_model(DEMO, DEMO_FOLDER)
        faults = {}
        for folder in _candidates(name, self.folders):
            fault = describe_fault(folder)
            if fault is None:
                return _local_model(name, folder)
            faults[folder] = fault
        target = self.download_folder() / name.replace("/", "--")
        if name != DEFAULT:
            raise self._not_found(name, faults, target)
        faults.pop(target, None)  # an unfinished download continues there
        self._download(target, "; ".join(f"{folder} {fault}" for folder, fault in faults.items()))
        return _local_model(DEFAULT, target)

    def not_on_disk(self) -> list[catalog.Model]:
        try:
            return [] if self.locate(DEFAULT) else [catalog.CLIPSEG]
        except DependencyError:  # without huggingface_hub; loading a model raises the error
            return [catalog.CLIPSEG]

    def _download(self, target: Path, skipped: str) -> None:
        if skipped:
            logger.warning("Skipped while looking for %s: %s", DEFAULT, skipped)
        try:
            download.download_missing(catalog.CLIPSEG, target, self.progress)
        except ModelError as error:
            also = f" (skipped: {skipped})" if skipped else ""
            raise ModelError(error.problem + also, error.remedy) from error
        # Files that existed before the download may be wrong.
        check_complete(DEFAULT, target, "Delete that folder and run again")

    def _not_found(self, name: str, faults: dict[Path, str], target: Path) -> ModelError:
        if faults:
            reasons = "; ".join(f"{folder} {fault}" for folder, fault in faults.items())
            return ModelError(
                f"the CLIPSeg model {name!r} cannot be loaded: {reasons}",
                "Put a complete copy of the model there, or choose another one",
            )
        searched = ", ".join(str(folder) for folder in (*self.folders, _hub_cache()))
        return ModelError(
            f"there is no CLIPSeg model {name!r} in {searched}",
            f"Choose one of: {', '.join(self.available())}; or put its files in {target}",
        )


def full_name(name: str) -> str:
    """Normalize a model's name: ``models--org--model``, its folder in a Hugging Face cache, becomes ``org/model``, and
    every spelling of the published model becomes `DEFAULT`.

    Raises:
        InputError: ``name`` is not a valid name.
    """
    if name == DEMO:
        return DEMO
    check_name(name, "model")
    if name.startswith(_CACHE_PREFIX):
        name = _name_in_cache(name)
    return DEFAULT if _is_spelling(DEFAULT, name) else name


def _local_model(name: str, folder: Path) -> LocalModel:
    return LocalModel(name, folder, catalog.CLIPSEG if name == DEFAULT else None)


def _candidates(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """The folders that may contain the model called ``name``, best first, whether complete or not.

    Names are compared with existing ones, never joined to a path, so no name leads out of ``folders``.
    """
    for folder in folders:
        for model_name, path in _models_in(folder):
            if _is_spelling(name, model_name) and path != folder:
                yield path
        is_flat = os.path.isfile(folder / "config.json")
        if is_flat and (name == folder.name or (name == DEFAULT and may_be_published(folder))):
            yield folder
    organization, _, model = name.partition("/")
    if organization and model and "/" not in model:
        yield from _snapshots(_hub_cache() / f"{_CACHE_PREFIX}{organization}--{model}")


def _models_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of everything in ``folder`` that could be a model's folder."""
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


def _is_spelling(name: str, folder: str) -> bool:
    """Whether a folder called ``folder`` may contain the model called ``name``."""
    name, folder = name.casefold(), folder.casefold()
    return folder in {name, name.rpartition("/")[2], *(name.replace("/", joint) for joint in ("--", "-", "_"))}


def _snapshots(repository: Path) -> list[Path]:
    """The snapshots in a Hugging Face cache's folder ``models--org--name``: the pinned one, main, then the newest.

    huggingface_hub itself finds only snapshots that a reference names, or reads the whole cache, which may be large.
    """
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

    return sorted(_subfolders(repository / "snapshots"), key=order)


def _hub_cache() -> Path:
    """The user's Hugging Face cache, according to ``HF_HOME`` and ``HF_HUB_CACHE``."""
    return Path(import_package("huggingface_hub.constants", INSTALL, "HF_HUB_CACHE").HF_HUB_CACHE)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if os.path.isdir(child))
    except OSError:  # missing or unreadable
        return []
