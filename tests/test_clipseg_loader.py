"""CLIPSeg models: where they are found, how they are loaded, and errors about unusable ones."""

from __future__ import annotations

import builtins
import errno
import importlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tiny_clipseg
import torch
from maskwright.core.errors import DependencyError, InputError, ModelError
from maskwright.models import catalog, clipseg_loader, clipseg_store, download
from maskwright.models.clipseg_store import DEFAULT, DEMO, ClipsegStore
from maskwright.models.store import ModelCache
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "models--CIDAS--clipseg-rd64-refined"
REVISION = catalog.CLIPSEG.revision


def load(name: str = DEFAULT, folders: Sequence[Path] = ()) -> tuple:
    return clipseg_loader.load(name, ClipsegStore(folders))


def find(name: str = DEFAULT, folders: Sequence[Path] = ()) -> Path:
    return ClipsegStore(folders).find(name).path


def locate(name: str, folders: Sequence[Path]) -> Path | None:
    found = ClipsegStore(folders).locate(name)
    return found and found.path


def available(folders: Sequence[Path]) -> list[str]:
    return ClipsegStore(folders).available()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model; copy it, do not change it."""
    return tiny_clipseg.write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def alone(isolated_model_dirs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, nothing cached, and none of this machine's models."""
    from huggingface_hub import constants

    for name in ("HF_ENDPOINT", "HF_TOKEN", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(clipseg_loader, "_loaded", ModelCache(2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ComfyUI's models/clipseg."""
    folder = tmp_path / "models" / "clipseg"
    folder.mkdir(parents=True)
    return folder


def copy(tiny: Path, target: Path) -> Path:
    shutil.copytree(tiny, target, dirs_exist_ok=True)
    return target


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def as_published(folder: Path) -> Path:
    """Give a copy the two numbers by which files without a folder of their own are recognised. It cannot be built."""
    edit_config(folder, reduce_dim=64, use_complex_transposed_convolution=True)
    return folder


def inputs(processor, texts: tuple[str, ...] = ("red circle", "sky")) -> dict[str, torch.Tensor]:
    noise = torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(1))
    image = Image.fromarray((noise * 255).byte().numpy())
    return dict(processor(text=list(texts), images=[image] * len(texts), padding=True, return_tensors="pt"))


def logits(model, values: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**values).logits


@pytest.fixture(autouse=True)
def without_the_demo_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model would be one more in every list; tests/test_demo_models.py is about that one."""
    monkeypatch.setattr(clipseg_store, "DEMO_FOLDER", tmp_path / "no demo model")


# What is built


def test_load_returns_a_model_for_inference(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "mine")
    processor, model = load("mine", [folder])
    answer = logits(model, inputs(processor))
    assert answer.shape == (2, answer.shape[1], answer.shape[1]) and answer.isfinite().all()
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_load_matches_plain_transformers(tiny: Path, folder: Path) -> None:
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    copy(tiny, folder / "mine")
    processor, model = load("mine", [folder])
    plain_processor = CLIPSegProcessor.from_pretrained(tiny, local_files_only=True)
    plain = CLIPSegForImageSegmentation.from_pretrained(tiny, local_files_only=True).eval()

    values, plain_values = inputs(processor), inputs(plain_processor)
    assert torch.equal(values["input_ids"], plain_values["input_ids"])
    # Where torchvision is installed, plain transformers resizes with it instead of Pillow: a rounding step apart.
    torch.testing.assert_close(values["pixel_values"], plain_values["pixel_values"], rtol=0, atol=0.03)
    assert torch.equal(logits(model, values), logits(plain, values))


@pytest.mark.parametrize("extract_layers", [(0, 1, 2), (0,), (1, 3), (2, 0)])
def test_load_drops_unread_layers(tmp_path: Path, folder: Path, extract_layers: tuple[int, ...]) -> None:
    from transformers import CLIPSegForImageSegmentation

    model_folder = tiny_clipseg.write(folder / "mine", extract_layers=extract_layers)
    plain = CLIPSegForImageSegmentation.from_pretrained(model_folder, local_files_only=True).eval()
    processor, model = load("mine", [folder])
    assert len(plain.clip.vision_model.encoder.layers) == tiny_clipseg.VISION_LAYERS
    assert len(model.clip.vision_model.encoder.layers) == max(extract_layers) + 1
    values = inputs(processor)
    assert torch.equal(logits(model, values), logits(plain, values))


def test_load_reads_a_saved_model_without_its_last_layers(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "mine")
    processor, model = load("mine", [folder])
    copy(tiny, folder / "saved")
    model.save_pretrained(folder / "saved")
    again = load("saved", [folder])[1]
    assert torch.equal(logits(model, inputs(processor)), logits(again, inputs(processor)))


def test_load_converts_half_precision(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "half")
    tiny_clipseg.model().half().save_pretrained(folder / "half", safe_serialization=True)
    model = load("half", [folder])[1]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_load_ignores_position_ids(tiny: Path, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy(tiny, folder / "new")
    tensors = load_file(copy(tiny, folder / "old") / "model.safetensors")
    tensors["clip.text_model.embeddings.position_ids"] = torch.arange(tiny_clipseg.MAX_TOKENS).unsqueeze(0)
    save_file(tensors, folder / "old" / "model.safetensors", metadata={"format": "pt"})
    (processor, old), (_, new) = (load(name, [folder]) for name in ("old", "new"))
    values = inputs(processor)
    assert torch.equal(logits(old, values), logits(new, values))


def test_load_reads_files_saved_by_transformers_5(tiny: Path, folder: Path) -> None:
    """transformers 5 writes tokenizer.json and processor_config.json instead of the published model's files."""
    copy(tiny, folder / "old")
    processor, model = load("old", [folder])
    processor.save_pretrained(folder / "new")
    model.save_pretrained(folder / "new")
    new_processor, new_model = load("new", [folder])
    values, new_values = inputs(processor), inputs(new_processor)
    assert torch.equal(values["pixel_values"], new_values["pixel_values"])
    assert torch.equal(values["input_ids"], new_values["input_ids"])
    assert torch.equal(logits(model, values), logits(new_model, new_values))


def test_load_reads_image_settings_of_transformers_5(tiny: Path, folder: Path) -> None:
    model_folder = copy(tiny, folder / "mine")
    settings = json.loads((model_folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (model_folder / "preprocessor_config.json").unlink()
    (model_folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}), encoding="utf-8")
    side = inputs(load("mine", [folder])[0])["pixel_values"].shape[-1]
    assert side == tiny_clipseg.IMAGE_SIZE


# Loaded once


def test_load_caches(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "mine")
    first, second = load("mine", [folder]), load("mine", [folder])
    assert first[0] is second[0] and first[1] is second[1]


def test_load_reads_replaced_weights(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "mine")
    before = load("mine", [folder])[1]
    tiny_clipseg.write(folder / "mine", seed=1)
    os.utime(folder / "mine" / "model.safetensors", (1, 1))
    after = load("mine", [folder])[1]
    assert not torch.equal(before.clip.text_projection.weight, after.clip.text_projection.weight)


# Where it is found


LAYOUTS: dict[str, str] = {
    "org--model": "CIDAS--clipseg-rd64-refined",
    "org-model": "CIDAS-clipseg-rd64-refined",
    "org_model": "CIDAS_clipseg-rd64-refined",
    "org/model": "CIDAS/clipseg-rd64-refined",
    "model": "clipseg-rd64-refined",
    "other case": "cidas--CLIPSeg-rd64-refined",
    "cache, pinned": f"{REPOSITORY}/snapshots/{REVISION}",
    "cache, another revision": f"{REPOSITORY}/snapshots/0123456789",
}


@pytest.mark.parametrize("place", LAYOUTS.values(), ids=LAYOUTS)
def test_find_knows_every_layout(tiny: Path, folder: Path, place: str) -> None:
    copy(tiny, folder / place)
    assert find(DEFAULT, [folder.parent / "none", folder]) == folder / place
    assert available([folder]) == [DEFAULT]  # listed once, under its own name
    load(DEFAULT, [folder])


@pytest.mark.parametrize("name", [REPOSITORY, "CIDAS--clipseg-rd64-refined", "clipseg-rd64-refined"])
def test_find_accepts_every_spelling_of_the_published_models_name(tiny: Path, folder: Path, name: str) -> None:
    assert clipseg_store.full_name(name) == DEFAULT
    with pytest.raises(ModelError, match=f"{DEFAULT} is not on this computer"):
        find(name, [folder])
    place = copy(tiny, folder / REPOSITORY / "snapshots" / "abc")
    assert find(name, [folder]) == locate(name, [folder]) == place


def test_find_accepts_the_name_of_a_folder_in_the_cache(tiny: Path, folder: Path, tmp_path: Path) -> None:
    place = copy(tiny, tmp_path / "hub" / "models--CIDAS--clipseg-rd16" / "snapshots" / "abc")
    assert find("models--CIDAS--clipseg-rd16", [folder]) == place
    assert clipseg_store.full_name("mine") == "mine" and clipseg_store.full_name(DEMO) == DEMO


def test_find_takes_flat_files_as_the_published_model(tiny: Path, folder: Path) -> None:
    as_published(copy(tiny, folder))
    assert find(DEFAULT, [folder]) == folder


def test_find_does_not_take_flat_files_of_another_model(tiny: Path, folder: Path) -> None:
    copy(tiny, folder)  # reduce_dim 16
    with pytest.raises(ModelError, match="is not on this computer"):
        find(DEFAULT, [folder])
    assert "clipseg" in available([folder])
    assert find("clipseg", [folder]) == folder


def test_find_searches_the_hugging_face_cache_last(tiny: Path, folder: Path, tmp_path: Path) -> None:
    cached = copy(tiny, tmp_path / "hub" / REPOSITORY / "snapshots" / "abc")
    assert find(DEFAULT, [folder]) == cached
    own = copy(tiny, folder / "CIDAS--clipseg-rd64-refined")
    assert find(DEFAULT, [folder]) == own


def test_find_knows_every_model_in_the_hugging_face_cache(tiny: Path, folder: Path, tmp_path: Path) -> None:
    cached = copy(tiny, tmp_path / "hub" / "models--CIDAS--clipseg-rd16" / "snapshots" / "abc")
    assert find("CIDAS/clipseg-rd16", [folder]) == cached


def test_find_prefers_the_pinned_snapshot_then_main_then_the_newest(tiny: Path, folder: Path) -> None:
    repository = folder / REPOSITORY
    for age, name in enumerate(["newest", "newer", "old", "main-commit", REVISION]):
        os.utime(copy(tiny, repository / "snapshots" / name), (1e9 - age, 1e9 - age))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("main-commit\n", encoding="utf-8")
    order = []
    for _ in range(5):
        order.append(find(DEFAULT, [folder]).name)
        shutil.rmtree(repository / "snapshots" / order[-1])
    assert order == [REVISION, "main-commit", "newest", "newer", "old"]


def test_find_prefers_earlier_folders(tiny: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    copy(tiny, second / "mine")
    assert find("mine", [first, second]) == second / "mine"
    copy(tiny, first / "mine")
    assert find("mine", [first, second]) == first / "mine"


def test_find_skips_incomplete_copies(
    tiny: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy(tiny, folder / REPOSITORY / "snapshots" / REVISION)
    (folder / REPOSITORY / "snapshots" / REVISION / "model.safetensors").unlink()
    whole = copy(tiny, tmp_path / "hub" / REPOSITORY / "snapshots" / "abc")
    assert find(DEFAULT, [folder]) == whole


def test_available_lists_the_published_model_first(tiny: Path, folder: Path, tmp_path: Path) -> None:
    for place in ("Zebra", "mine", "org/model", "models--a--b/snapshots/abc", "CIDAS_clipseg-rd64-refined"):
        copy(tiny, folder / place)
    edit_config(copy(tiny, folder / "bert"), model_type="bert")
    (folder / "notes").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{", encoding="utf-8")
    listed = available([folder, tmp_path / "not there"])
    assert [name for name in listed if name != DEMO] == [
        DEFAULT,
        "a/b",
        "mine",
        "org/model",
        "Zebra",
    ]
    for name in listed[1:]:
        if name != DEMO:
            assert find(name, [folder]).is_relative_to(folder)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "gone")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


ODD: dict[str, Callable[[Path], object]] = {
    "deeply nested": lambda path: path.write_text("[" * 100_000, encoding="utf-8"),
    "deeply nested objects": lambda path: path.write_text('{"a":' * 100_000, encoding="utf-8"),
    "a number of 5000 digits": lambda path: path.write_text('{"model_type": ' + "1" * 5000 + "}", encoding="utf-8"),
    "not UTF-8": lambda path: path.write_bytes(b'{"model_type": "\xff\xfe"}'),
    "UTF-16": lambda path: path.write_text('{"model_type": "clipseg"}', encoding="utf-16"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "a list as model_type": lambda path: path.write_text('{"model_type": ["clipseg"]}', encoding="utf-8"),
    "huge": lambda path: os.truncate(path, 1 << 40),
    "a folder": folder_instead,
    "a dangling link": dangling,
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path)),
    "a pipe": pipe,
}


@pytest.mark.parametrize("damage", ODD.values(), ids=ODD)
def test_available_skips_an_unreadable_config(tiny: Path, folder: Path, damage: Callable[[Path], object]) -> None:
    copy(tiny, folder / "mine")
    damage(copy(tiny, folder / "odd") / "config.json")
    assert available([folder]) == [DEFAULT, "mine"]
    with pytest.raises(ModelError, match="odd") as caught:
        load("odd", [folder])
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("kind", ["folder", "dangling link", "pipe", "name that is not text"])
def test_available_skips_other_things_in_the_folder(tiny: Path, folder: Path, kind: str) -> None:
    copy(tiny, folder / "mine")
    odd = folder / "odd"
    if kind == "folder":
        (odd / "model.safetensors").mkdir(parents=True)
    elif kind == "dangling link":
        odd.symlink_to(folder / "gone")
    elif kind == "pipe":
        os.mkfifo(odd)
    else:
        copy(tiny, folder / os.fsdecode(b"odd \xff"))
    assert available([folder]) == [DEFAULT, "mine"]
    load("mine", [folder])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", None], ids=["not text", "zero", "pipe"])
def test_available_skips_an_unreadable_reference(tiny: Path, folder: Path, content: bytes | None) -> None:
    copy(tiny, folder / "models--a--b" / "snapshots" / "abc")
    (folder / "models--a--b" / "refs").mkdir()
    main = folder / "models--a--b" / "refs" / "main"
    if content is None:
        os.mkfifo(main)
    else:
        main.write_bytes(content)
    assert available([folder]) == [DEFAULT, "a/b"]


def test_available_skips_an_unreadable_folder(
    tiny: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `stat` fails in another user's folder; the test itself may run as root."""
    copy(tiny, folder / "mine")
    copy(tiny, tmp_path / "closed" / "other")
    real = os.stat

    def refuse(path: object, *arguments: object, **others: object) -> os.stat_result:
        if str(tmp_path / "closed") + os.sep in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **others)

    monkeypatch.setattr(os, "stat", refuse)
    assert available([tmp_path / "closed", folder]) == [DEFAULT, "mine"]


def test_available_lists_the_demo_model_if_it_exists(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipseg_store, "DEMO_FOLDER", tmp_path / "demo")
    assert available([]) == [DEFAULT]
    with pytest.raises(ModelError, match="Install this node pack again"):
        load(DEMO)
    copy(tiny, tmp_path / "demo")
    assert available([]) == [DEFAULT, DEMO]
    assert load(DEMO)[1] is load(DEMO)[1]


# What is not there


def test_load_offline_names_address_folder_and_files(folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(DEFAULT, [folder])
    text = str(caught.value)
    assert f"https://huggingface.co/CIDAS/clipseg-rd64-refined/tree/{REVISION}" in text
    assert f"in {folder / 'CIDAS--clipseg-rd64-refined'}:" in text
    for file in catalog.CLIPSEG.files:
        assert file.name in text
    assert list(folder.iterdir()) == []


def test_load_reads_files_put_where_the_error_says(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "CIDAS--clipseg-rd64-refined")
    load(DEFAULT, [folder])


def test_find_without_folders_uses_the_users_cache(tiny: Path, tmp_path: Path) -> None:
    place = tmp_path / "user cache" / "maskwright" / "clipseg" / "CIDAS--clipseg-rd64-refined"
    with pytest.raises(ModelError) as caught:
        load()
    assert str(place) in str(caught.value)
    copy(tiny, place)
    assert find() == place


def test_load_continues_an_unfinished_download(tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = copy(tiny, folder / "CIDAS--clipseg-rd64-refined")
    (place / "model.safetensors").unlink()
    asked = []

    def finish(model: catalog.Model, target: Path, progress: object) -> None:
        asked.append((model.name, target))
        shutil.copy(tiny / "model.safetensors", target)

    monkeypatch.setattr(download, "download_missing", finish)
    load(DEFAULT, [folder])
    assert asked == [(DEFAULT, place)]


def test_load_names_skipped_copies_if_the_download_fails(tiny: Path, folder: Path) -> None:
    snapshot = copy(tiny, folder / REPOSITORY / "snapshots" / "abc")
    (snapshot / "merges.txt").unlink()
    with pytest.raises(ModelError) as caught:
        load(DEFAULT, [folder])
    assert f"{snapshot} is incomplete: merges.txt missing" in str(caught.value)


def test_load_of_an_unknown_model_lists_the_choices(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "mine")
    with pytest.raises(ModelError, match=r"no CLIPSeg model 'org/other'.*Choose one of: CIDAS.*mine.*org--other"):
        load("org/other", [folder])


@pytest.mark.parametrize("name", ["../secret", "/etc", "C:\\models", "D:x", "a\0b", "", "mine/../../secret", 7])
def test_load_rejects_names_that_lead_elsewhere(tiny: Path, folder: Path, name: object) -> None:
    copy(tiny, folder.parent / "secret")
    with pytest.raises(InputError, match="model is "):
        load(name, [folder])


# What is broken


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def other_shapes(folder: Path) -> None:
    edit_config(folder, projection_dim=40)


def pointer(folder: Path) -> None:
    """What a git clone without LFS leaves."""
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")


def other_tensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"some.weight": torch.zeros(3)}, folder / "model.safetensors", metadata={"format": "pt"})


def no_size(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("{}", encoding="utf-8")


def bad_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "incomplete: model.safetensors missing"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "incomplete: config.json missing"),
    "no words": (lambda folder: (folder / "vocab.json").unlink(), "incomplete: vocab.json missing"),
    "no image settings": (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    "empty image settings": (no_size, "preprocessor_config.json cannot be used: it has no settings for images"),
    "weights cut short": (lambda folder: cut(folder / "model.safetensors", 0.7), r"model.safetensors \(\d+ bytes\) is"),
    "weights cut in the header": (lambda folder: cut(folder / "model.safetensors", 0.01), "incomplete or not a"),
    "weights empty": (lambda folder: cut(folder / "model.safetensors", 0), r"model.safetensors \(0 bytes\)"),
    "a pointer": (pointer, "not a safetensors file"),
    "weights of another model": (other_tensors, "model.safetensors lacks .* of the tensors"),
    "other shapes": (other_shapes, "cannot be loaded"),
    "config cut short": (lambda folder: cut(folder / "config.json", 0.5), "config.json cannot be used"),
    "config of another kind": (lambda folder: edit_config(folder, model_type="bert"), "its config.json says 'bert'"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "it is not a JSON object"),
    "words cut short": (lambda folder: cut(folder / "vocab.json", 0.5), "cannot be loaded"),
    "parts in other folders": (bad_index, "names files outside its folder"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_load_names_broken_files(tiny: Path, folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(copy(tiny, folder / "mine"))
    with pytest.raises(ModelError, match=message) as caught:
        load("mine", [folder])
    assert str(folder / "mine") in str(caught.value)
    shutil.rmtree(folder / "mine")
    copy(tiny, folder / "mine")
    load("mine", [folder])  # nothing of the failure stays


def test_load_names_broken_weights_of_the_published_model(tiny: Path, folder: Path) -> None:
    place = copy(tiny, folder / "CIDAS--clipseg-rd64-refined")
    cut(place / "model.safetensors", 0.5)
    with pytest.raises(ModelError, match="603049496 bytes") as caught:
        load(DEFAULT, [folder])
    assert str(place / "model.safetensors") in str(caught.value)


# Errors that are not the file's fault


BAD_IMAGE_SETTINGS = {
    "two numbers": {"image_mean": [0.5, 0.5]},
    "text": {"image_std": "abc"},
    "zero": {"image_std": [0.5, 0, 0.5]},
    "not a number": {"image_mean": [0.5, float("nan"), 0.5]},
    "400 digits": {"image_mean": [0.5, 10**400, 0.5]},
    "factor": {"rescale_factor": "x"},
    "size": {"size": "large"},
    "size below 1": {"size": {"height": -3, "width": -3}},
    "size above memory": {"size": {"height": 10**9, "width": 10**9}},
    "no sides": {"size": {}},
    "a list as filter": {"resample": [2]},
}


@pytest.mark.parametrize("settings", BAD_IMAGE_SETTINGS.values(), ids=BAD_IMAGE_SETTINGS)
def test_load_names_the_file_with_unusable_image_settings(tiny: Path, folder: Path, settings: dict) -> None:
    path = copy(tiny, folder / "mine") / "preprocessor_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **settings}), encoding="utf-8")
    with pytest.raises(ModelError, match="preprocessor_config.json cannot be used: ") as caught:
        load("mine", [folder])
    assert str(path) in caught.value.problem


@pytest.mark.parametrize("kind", [SystemExit, OSError, RuntimeError, AttributeError, ImportError])
@pytest.mark.parametrize("package", ["transformers", "huggingface_hub.constants", "safetensors"])
def test_load_says_what_to_install_however_an_import_fails(
    tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, kind: type
) -> None:
    copy(tiny, folder / "mine")
    real = importlib.import_module

    def fail(name: str, *arguments: object) -> object:
        if name == package:
            raise kind("it is broken")
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", fail)
    for _ in range(2):
        with pytest.raises(DependencyError, match=rf"{package.split('.')[0]} is missing or does not work") as caught:
            load("org/other" if "hub" in package else "mine", [folder])
        assert "pip install 'transformers" in caught.value.remedy


def test_not_on_disk_without_huggingface_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The editor asks for it; an error there would hide the node."""
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", None)  # as if it could not be imported
    assert ClipsegStore([folder]).not_on_disk() == [catalog.CLIPSEG]


def test_load_names_the_folder_whose_tokenizer_file_makes_the_library_panic(tiny: Path, folder: Path) -> None:
    """The panic is no Exception, and would end ComfyUI's worker."""
    model_folder = copy(tiny, folder / "mine")
    load("mine", [folder])[0].tokenizer.save_pretrained(model_folder)
    path = model_folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    path.write_text(json.dumps(content), encoding="utf-8")
    os.utime(model_folder / "model.safetensors", (0, 0))  # another model, as far as the cache knows
    with pytest.raises(ModelError, match="mine cannot be loaded: PanicException: ") as caught:
        load("mine", [folder])
    assert type(caught.value.__cause__).__module__ == "pyo3_runtime"


def fail_to_build(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    from transformers import CLIPSegForImageSegmentation

    def fail(*arguments: object, **others: object) -> None:
        raise error

    monkeypatch.setattr(CLIPSegForImageSegmentation, "from_pretrained", fail)


@pytest.mark.parametrize("error", [ImportError("no tokenizers"), SystemExit(1)], ids=repr)
def test_load_does_not_blame_files_if_a_lazy_import_fails(
    tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    copy(tiny, folder / "mine")
    fail_to_build(monkeypatch, error)
    with pytest.raises(DependencyError, match="transformers needs does not work"):
        load("mine", [folder])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("Cannot allocate memory (os error 12)"),
    ],
    ids=repr,
)
def test_load_does_not_blame_files_for_low_memory(
    tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    copy(tiny, folder / "mine")
    fail_to_build(monkeypatch, error)
    with pytest.raises(ModelError, match="there is not enough memory to load") as caught:
        load("mine", [folder])
    assert "Delete" not in str(caught.value)
    monkeypatch.undo()


def test_load_does_not_blame_files_for_missing_permission(
    tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(tiny, folder / "mine")
    fail_to_build(monkeypatch, Exception("Permission denied (os error 13)"))
    with pytest.raises(ModelError, match="mine is not readable by the user") as caught:
        load("mine", [folder])
    assert "Delete" not in str(caught.value)


class Interrupt(BaseException):
    """As the host's own interrupt on new hosts: no Exception."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interrupt])
def test_load_passes_on_interrupts(
    tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    copy(tiny, folder / "mine")
    fail_to_build(monkeypatch, kind())
    with pytest.raises(kind):
        load("mine", [folder])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EACCES, "not readable"),
        (errno.EPERM, "not readable"),
        (errno.ENOMEM, "memory"),
        (errno.EMFILE, "cannot be read now"),
        (errno.EIO, "cannot be read now"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
@pytest.mark.parametrize("model", ["mine", DEFAULT])
def test_load_of_an_unreadable_file_does_not_suggest_deleting_it(
    tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, message: str, model: str
) -> None:
    """As `open` refuses another user; the test itself may run as root."""
    path = copy(tiny, folder / model.replace("/", "--")) / name
    for module in (builtins, io):
        real = module.open

        def refuse(file: object, *arguments: object, real: Callable = real, **others: object) -> object:
            if str(file) == str(path):
                raise OSError(code, os.strerror(code), str(file))
            return real(file, *arguments, **others)

        monkeypatch.setattr(module, "open", refuse)
    with pytest.raises(ModelError, match=message) as caught:
        load(model, [folder])
    assert str(path) in str(caught.value) and "Delete" not in str(caught.value)


# Pickles


def with_pickle(tiny: Path, folder: Path, content: object) -> Path:
    model_folder = copy(tiny, folder)
    (model_folder / "model.safetensors").unlink()
    torch.save(content, model_folder / "pytorch_model.bin")
    return model_folder


def test_load_of_a_pickle_with_tensors(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "safe")
    with_pickle(tiny, folder / "pickled", tiny_clipseg.model().state_dict())
    processor, safe = load("safe", [folder])
    values = inputs(processor)
    assert torch.equal(logits(load("pickled", [folder])[1], values), logits(safe, values))


def test_load_prefers_safetensors(tiny: Path, folder: Path) -> None:
    copy(tiny, folder / "mine")
    (folder / "mine" / "pytorch_model.bin").write_bytes(b"never read")
    load("mine", [folder])


class Harmful:
    """Makes a file when it is unpickled, as an attacker's file would do worse."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["torch", "plain"])
def test_load_rejects_a_pickle_with_code(tiny: Path, folder: Path, tmp_path: Path, form: str) -> None:
    mark = tmp_path / "it ran"
    model_folder = with_pickle(tiny, folder / "mine", {"weight": Harmful(mark)})
    if form == "plain":
        (model_folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful(mark)))
    with pytest.raises(ModelError, match="was not loaded") as caught:
        load("mine", [folder])
    assert str(model_folder) in str(caught.value)
    assert "weights_only" not in str(caught.value), "no advice to load it all the same"
    assert not mark.exists()


def test_load_rejects_pickles_under_an_old_torch(tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_pickle(tiny, folder / "mine", tiny_clipseg.model().state_dict())
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ModelError, match=r"pytorch_model.bin is a pickle.*model.safetensors"):
        load("mine", [folder])


def test_load_runs_no_code_of_a_models_folder(tiny: Path, folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    model_folder = copy(tiny, folder / "mine")
    (model_folder / "code.py").write_text(f"open({str(mark)!r}, 'w')\n", encoding="utf-8")
    edit_config(
        model_folder, auto_map={"AutoModel": "code.Model", "AutoConfig": "code.Config", "AutoProcessor": "code.P"}
    )
    for name, key in (("tokenizer_config.json", "AutoTokenizer"), ("preprocessor_config.json", "AutoImageProcessor")):
        content = json.loads((model_folder / name).read_text(encoding="utf-8"))
        reference = ["code.T", "code.T"] if key == "AutoTokenizer" else "code.I"
        (model_folder / name).write_text(json.dumps({**content, "auto_map": {key: reference}}), encoding="utf-8")
    load("mine", [folder])
    assert not mark.exists()


KERNELS = """
class AnyAttribute(type):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class Stub(metaclass=AnyAttribute):
    def __init__(self, *arguments, **others):
        pass

    def __call__(self, value=None, *arguments, **others):
        return value


def get_kernel(*arguments, **others):
    open(MARK, "w")
    raise RuntimeError("the kernel would be fetched and imported here")


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Stub
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["the model", "its vision tower", "a private key"])
def test_load_runs_no_code_that_a_config_names(tiny: Path, folder: Path, tmp_path: Path, place: str) -> None:
    """transformers fetches and imports a kernel that the config names as attention implementation."""
    mark, packages = tmp_path / "it ran", tmp_path / "packages"
    (packages / "kernels").mkdir(parents=True)
    stub = KERNELS.replace("MARK", repr(str(mark)))
    (packages / "kernels" / "__init__.py").write_text(stub, encoding="utf-8")
    (packages / "kernels-0.18.2.dist-info").mkdir()
    (packages / "kernels-0.18.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.2\n", encoding="utf-8"
    )
    model_folder = copy(tiny, folder / "mine")
    config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    kernel = {"_attn_implementation": "kernels-community/evil", "attn_implementation": "kernels-community/evil"}
    if place == "its vision tower":
        config["vision_config"].update(kernel)
    elif place == "the model":
        config.update(kernel)
    else:
        config["_attn_implementation_internal"] = "kernels-community/evil"
    (model_folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    code = f"""
import sys; sys.path[:0] = [{str(packages)!r}, {str(ROOT / "tools")!r}]
from pathlib import Path
from pack import load_pack
load_pack(Path({str(ROOT)!r}))
from maskwright.models import clipseg_loader, clipseg_store
_, model = clipseg_loader.load("mine", clipseg_store.ClipsegStore([Path({str(folder)!r})]))
print({{part._attn_implementation for part in (model.config, model.config.vision_config, model.config.text_config)}})
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() in ("{'sdpa'}", "{'eager'}")
    assert not mark.exists()


def test_load_hides_remarks_of_libraries(
    tiny: Path, folder: Path, capfd: pytest.CaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """transformers would report an unused tensor, and torch would warn about a pickle's protocol."""
    from safetensors.torch import load_file, save_file

    model_folder = copy(tiny, folder / "mine")
    save_file(
        {**load_file(model_folder / "model.safetensors"), "odd.weight": torch.zeros(2)},
        model_folder / "model.safetensors",
    )
    pickled = copy(tiny, folder / "pickled")
    tensors = load_file(pickled / "model.safetensors")
    (pickled / "model.safetensors").unlink()
    torch.save(tensors, pickled / "pytorch_model.bin", pickle_protocol=4)
    load("mine", [folder])
    with pytest.raises(ModelError):
        load("pickled", [folder])
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
