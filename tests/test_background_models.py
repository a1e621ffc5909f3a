"""models/background_models.py: which models there are, and where their files are found."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from maskwright.core.errors import InputError, ModelError
from maskwright.models import background_models, catalog, download
from maskwright.models.background_models import BackgroundStore
from maskwright.models.catalog import RemoteFile
from maskwright.models.store import LocalModel, quote
from test_download import CONTENT, Server, server  # noqa: F401 - the fixture

OLD_NAMES = [
    "u2net",
    "u2netp",
    "u2net_human_seg",
    "u2net_cloth_seg",
    "silueta",
    "isnet-general-use",
    "isnetis",
    "modnet-p",
    "modnet-w",
]


@pytest.fixture(autouse=True)
def no_demo(isolated_model_dirs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_models, "DEMO_FILE", tmp_path / "demo" / "salient.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ComfyUI's models/rembg."""
    folder = tmp_path / "models" / "rembg"
    folder.mkdir(parents=True)
    return folder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


# Names


def test_available_starts_with_the_names_of_saved_workflows() -> None:
    listed = BackgroundStore([]).available()
    assert listed[:9] == OLD_NAMES
    assert listed[9:] == [
        "birefnet-general",
        "birefnet-general-lite",
        "birefnet-portrait",
        "birefnet-dis",
        "birefnet-hrsod",
        "birefnet-cod",
        "birefnet-massive",
        "bria-rmbg",
    ]


def test_available_lists_own_files(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    files = {name: touch(folder / name) for name in ("mine.onnx", "sub/other.onnx", "Zebra.onnx")}
    files["late.onnx"] = touch(second / "late.onnx")
    touch(second / "mine.onnx")  # of the same name as one before it
    touch(folder / "notes.txt")
    folders = [folder, second, tmp_path / "not there"]
    listed = BackgroundStore(folders).available()
    assert listed[len(catalog.BACKGROUND) :] == ["late.onnx", "mine.onnx", "sub/other.onnx", "Zebra.onnx"]
    for name, path in files.items():
        assert BackgroundStore(folders).find(name) == LocalModel(name, path, None)
    assert BackgroundStore(folders).find("mine").path == files["mine.onnx"]


def test_available_lists_files_of_published_models_once(folder: Path) -> None:
    for name in ("u2net.onnx", "isnet-anime.onnx", "isnetis.onnx", "BiRefNet-DIS-epoch_590.onnx", "u2net/u2net.onnx"):
        touch(folder / name)
    assert BackgroundStore([folder]).available() == list(catalog.BACKGROUND)


def test_available_lists_the_demo_model_if_it_exists(folder: Path) -> None:
    assert background_models.DEMO not in BackgroundStore([folder]).available()
    with pytest.raises(ModelError, match="Install this node pack again"):
        BackgroundStore([folder]).find(background_models.DEMO)
    touch(background_models.DEMO_FILE)
    assert BackgroundStore([folder]).available()[-1] == background_models.DEMO
    assert BackgroundStore().find(background_models.DEMO).path == background_models.DEMO_FILE


def test_available_follows_links_to_folders(folder: Path, tmp_path: Path) -> None:
    touch(folder / "real" / "one.onnx")
    touch(tmp_path / "drive" / "my.onnx")
    touch(tmp_path / "drive" / "deep" / "other.onnx")
    (folder / "linked").symlink_to(tmp_path / "drive")
    own = BackgroundStore([folder]).available()[len(catalog.BACKGROUND) :]
    assert own == ["linked/deep/other.onnx", "linked/my.onnx", "real/one.onnx"]
    assert BackgroundStore([folder]).find("linked/my.onnx").path == folder / "linked" / "my.onnx"
    assert BackgroundStore([tmp_path / "drive"]).find("my").path == tmp_path / "drive" / "my.onnx"


def test_available_searches_cyclic_links_once(folder: Path, tmp_path: Path) -> None:
    touch(folder / "z" / "one.onnx")
    (folder / "a link to z").symlink_to(folder / "z")  # sorts before it, and takes no name away
    (folder / "z" / "up").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    touch(tmp_path / "other" / "two.onnx")
    (tmp_path / "other" / "back").symlink_to(folder)
    (folder / "other").symlink_to(tmp_path / "other")
    (tmp_path / "through a link").symlink_to(folder)
    for place in (folder, tmp_path / "through a link"):
        own = BackgroundStore([place]).available()[len(catalog.BACKGROUND) :]
        assert own == ["other/two.onnx", "z/one.onnx"]


def test_available_skips_non_files(folder: Path) -> None:
    touch(folder / "mine.onnx")
    (folder / "folder.onnx").mkdir()
    (folder / "dangling.onnx").symlink_to(folder / "gone")
    os.mkfifo(folder / "pipe.onnx")
    touch(folder / os.fsdecode(b"not text \xff.onnx"))
    assert BackgroundStore([folder]).available()[len(catalog.BACKGROUND) :] == ["mine.onnx"]


def test_available_skips_unreadable_folders(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system refuses another user; the test itself may run as root."""
    touch(folder / "mine.onnx")
    closed = tmp_path / "closed"
    touch(closed / "other.onnx")
    for name in ("stat", "scandir"):
        real = getattr(os, name)

        def refuse(path: object, *arguments: object, real: Callable = real, **others: object) -> object:
            if str(path).startswith(str(closed)):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *arguments, **others)

        monkeypatch.setattr(os, name, refuse)
    assert BackgroundStore([closed, folder]).available()[len(catalog.BACKGROUND) :] == ["mine.onnx"]
    assert BackgroundStore([closed, folder]).locate("u2net") is None
    assert len(BackgroundStore([closed, folder]).not_on_disk()) == len(catalog.BACKGROUND)


def test_not_on_disk_lists_each_folder_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The editor asks often, and folders may be on a slow network."""
    touch(folder / "u2net.onnx")
    touch(folder / "silueta" / "silueta.onnx")
    (folder / "u2netp.onnx").mkdir()
    listed, looked_at = [], []
    list_folder, is_file = os.listdir, os.path.isfile
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or list_folder(path))
    monkeypatch.setattr(os.path, "isfile", lambda path: looked_at.append(path) or is_file(path))
    missing = [model.name for model in BackgroundStore([folder, tmp_path / "not there"]).not_on_disk()]
    assert missing == [name for name in catalog.BACKGROUND if name not in ("u2net", "silueta")]
    assert len(listed) == len(set(listed))
    assert len(looked_at) < 10


def test_locate_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: str) -> str:
        return path  # as for a user that the system does not know

    monkeypatch.setattr(os.path, "expanduser", no_home)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert BackgroundStore().locate("u2net") is None
    with pytest.raises(ModelError, match="no home folder"):
        BackgroundStore().find("u2net")


@pytest.mark.parametrize(
    "name",
    [
        "sam",
        "withoutbg",
        "atlascloud",
        "u2net_custom",
        "../secret",
        "",
        "a" * 10_000,
        "\ud800",
        None,
        3,
        10**5000,
        ["a"],
    ],
    ids=lambda name: repr(name)[:20] if isinstance(name, str) else type(name).__name__,
)
def test_find_rejects_unknown_names_with_a_list(folder: Path, name: object) -> None:
    touch(folder.parent / "secret.onnx")
    touch(folder / "mine.onnx")
    with pytest.raises(InputError) as caught:
        BackgroundStore([folder]).find(name)
    text = str(caught.value)
    assert f"model is {quote(name)}, which is not a" in text and str(folder) in text
    assert len(text.encode("utf-8")) < 2000
    assert "u2net, " in text and "mine.onnx" in text


# Places

PLACES: dict[str, tuple[str, str]] = {
    "models/rembg": ("isnetis", "models/rembg/isnet-anime.onnx"),
    "models/rembg, a folder": ("isnetis", "models/rembg/isnet-anime/isnet-anime.onnx"),
    "models/rembg, our name": ("isnetis", "models/rembg/isnetis.onnx"),
    "models/rembg, downloaded by hand": ("birefnet-cod", "models/rembg/BiRefNet-COD-epoch_125.onnx"),
    "models/onnx": ("u2net", "models/onnx/u2net.onnx"),
    "U2NET_HOME": ("u2net", "u2net home/u2net.onnx"),
    "U2NET_HOME, new": ("u2net", "u2net home/models/u2net/u2net.onnx"),
    "REMBG_HOME": ("u2net", "rembg home/models/u2net/u2net.onnx"),
    "~/.u2net": ("u2net", "home/.u2net/u2net.onnx"),
    "~/.u2net, new": ("u2net", "home/.u2net/models/u2net/u2net.onnx"),
    "~/.rembg": ("u2net", "home/.rembg/models/u2net/u2net.onnx"),
    "MODNet": ("modnet-p", "models/rembg/modnet_photographic_portrait_matting.ckpt"),
    "MODNet, ~/.u2net": ("modnet-w", "home/.u2net/modnet_webcam_portrait_matting.ckpt"),
}


@pytest.mark.parametrize(("name", "place"), PLACES.values(), ids=PLACES)
def test_find_searches_every_place(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "u2net home"))
    monkeypatch.setenv("REMBG_HOME", str(tmp_path / "rembg home"))
    environment = dict(os.environ)
    path = touch(tmp_path / place)
    found = BackgroundStore([folder], [folder.parent / "onnx"]).find(name)
    assert found == LocalModel(name, path, catalog.BACKGROUND[name])
    assert dict(os.environ) == environment
    others = [model.name for model in BackgroundStore([folder], [folder.parent / "onnx"]).not_on_disk()]
    assert others == [other for other in catalog.BACKGROUND if other != name]


def test_find_searches_places_in_order(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "u2net home"))
    wanted = [
        "models/rembg/u2net.onnx",
        "second/u2net.onnx",
        "models/onnx/u2net.onnx",
        "u2net home/u2net.onnx",
        "home/.u2net/u2net.onnx",
        "home/.rembg/models/u2net/u2net.onnx",
    ]
    paths = [touch(tmp_path / place) for place in wanted]
    for path in paths:
        found = BackgroundStore([folder, tmp_path / "second"], [folder.parent / "onnx"]).find("u2net")
        assert found.path == path
        path.unlink()


def test_find_accepts_names_of_rembg(folder: Path) -> None:
    path = touch(folder / "isnet-anime.onnx")
    assert BackgroundStore([folder]).find("isnet-anime").path == path
    assert background_models.published_model("isnet-anime") is background_models.published_model("isnetis")


# What is not there


@pytest.mark.parametrize("name", ["u2net", "birefnet-dis", "modnet-w"])
def test_find_offline_names_address_folder_and_file(folder: Path, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        BackgroundStore([folder]).find(name)
    file = catalog.BACKGROUND[name].files[0]
    assert str(caught.value).startswith(f"{name} is not on this computer")
    assert file.url in caught.value.problem and "HF_HUB_OFFLINE" in caught.value.problem
    assert file.url in caught.value.remedy
    assert caught.value.remedy.endswith(f"put them in {folder}: {file.name}")
    assert list(folder.iterdir()) == []


def test_find_downloads_into_the_first_folder(
    server: Server,  # noqa: F811
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    server.answers["/u2net.onnx"] = lambda handler: handler.give(CONTENT)
    file = RemoteFile("u2net.onnx", f"{server.url}/u2net.onnx", None, md5=hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setitem(catalog.BACKGROUND, "u2net", dataclasses.replace(catalog.BACKGROUND["u2net"], files=(file,)))
    found = BackgroundStore([folder, tmp_path / "second"]).find("u2net")
    assert found.path == folder / "u2net.onnx" and found.path.read_bytes() == CONTENT
    assert BackgroundStore([folder]).find("u2net").path == found.path
    assert server.paths() == ["/u2net.onnx"]


def test_find_without_folders_uses_the_users_cache(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        BackgroundStore().find("u2netp")
    place = tmp_path / "user cache" / "maskwright" / "rembg"
    assert str(place) in caught.value.remedy
    touch(place / "u2netp.onnx")
    assert BackgroundStore().find("u2netp").path == place / "u2netp.onnx"


# Facts


def test_catalog_states_address_checksum_and_licence() -> None:
    digits = {"sha256": 64, "md5": 32}
    for name, model in catalog.BACKGROUND.items():
        assert model.name == name and model.license and model.note and model.source.startswith("https://")
        (file,) = model.files
        assert file.url.startswith("https://") and model.page == file.url
        algorithm, digest = file.checksum.split(":")
        assert re.fullmatch(rf"[0-9a-f]{{{digits[algorithm]}}}", digest)
        assert (algorithm == "sha256") == bool(file.sha256)
    assert "commercial" in catalog.BACKGROUND["bria-rmbg"].note
    assert catalog.rembg_name(catalog.BACKGROUND["isnetis"]) == "isnet-anime"


def test_catalog_has_the_modnet_of_the_open_model_zoo() -> None:
    base = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.2"
    for name, model in (
        ("modnet-p", "modnet-photographic-portrait-matting"),
        ("modnet-w", "modnet-webcam-portrait-matting"),
    ):
        assert catalog.MODNET[name].files[0].url == f"{base}/{model}/{model.replace('-', '_')}.ckpt"
        assert catalog.MODNET[name].files[0].sha256
    assert download.resolve_url(catalog.MODNET["modnet-p"].page).startswith(base)
