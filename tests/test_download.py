"""Downloads from a small local server: a file appears whole and with the right checksum, or not at all."""

from __future__ import annotations

import dataclasses
import email.utils
import errno
import hashlib
import http.server
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from maskwright.core.errors import DependencyError, InputError, ModelError
from maskwright.models import catalog, download, downloader
from maskwright.models.catalog import RemoteFile
from maskwright.models.store import check_name

ROOT = Path(__file__).resolve().parent.parent
CONTENT = bytes(range(256)) * 12_000  # about 3 MB: several chunks


class Server(http.server.ThreadingHTTPServer):
    """Answers each path with what a test put there, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Callable[[_Handler], None]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.send_error(404)
        else:
            answer(self)

    def log_message(self, *arguments: object) -> None:
        pass

    def give(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def plain_environment(isolated_model_dirs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloader, "RETRY_DELAYS", (0.0, 0.0))


class Steps:
    """A progress that adds up what it hears."""

    def __init__(self) -> None:
        self.done = 0

    def step(self, count: int = 1) -> None:
        assert count >= 0
        self.done += count


def remote(url: str, content: bytes = CONTENT, name: str = "model.bin") -> RemoteFile:
    return RemoteFile(name, url, len(content), hashlib.sha256(content).hexdigest())


def assert_fails(file: RemoteFile, folder: Path, reason: str) -> ModelError:
    """The download fails, says ``reason``, the address and where to put the file, and leaves nothing."""
    with pytest.raises(ModelError, match=reason) as caught:
        download.download(file, folder)
    assert download.resolve_url(file.url) in str(caught.value)
    assert str(folder / file.name) in str(caught.value)
    assert not folder.exists() or list(folder.iterdir()) == []
    return caught.value


def test_download_stores_the_file_and_reports_all_bytes(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(CONTENT)
    steps = Steps()
    path = download.download(remote(f"{server.url}/model.bin"), tmp_path / "new" / "folder", steps)
    assert path == tmp_path / "new" / "folder" / "model.bin"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["model.bin"]
    assert steps.done == len(CONTENT)


def test_download_uses_the_name_only_when_complete(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(CONTENT)
    listings: list[list[str]] = []

    class Look:
        def step(self, count: int = 1) -> None:
            listings.append([file.name for file in tmp_path.iterdir()])

    download.download(remote(f"{server.url}/model.bin"), tmp_path, Look())
    assert len(listings) > 1
    for names in listings:
        assert set(names) == {"model.bin.part", "model.bin.part.lock"}


def test_download_follows_redirects(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(b"", 302, Location="/elsewhere/blob")
    server.answers["/elsewhere/blob"] = lambda handler: handler.give(CONTENT)
    assert download.download(remote(f"{server.url}/model.bin"), tmp_path).read_bytes() == CONTENT


def test_download_rejects_wrong_content(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(CONTENT[::-1])
    error = assert_fails(remote(f"{server.url}/model.bin"), tmp_path, "SHA256 hash")
    assert hashlib.sha256(CONTENT[::-1]).hexdigest() in str(error)
    assert hashlib.sha256(CONTENT).hexdigest() in str(error)
    assert server.paths() == ["/model.bin"]  # asking again would not help


def test_download_rejects_a_web_page(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(b"<html>Please log in</html>")
    assert_fails(remote(f"{server.url}/model.bin"), tmp_path, f"it has 26 bytes, not {len(CONTENT)}")


def test_download_checks_md5_without_sha256(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(CONTENT)
    url, right = f"{server.url}/model.bin", hashlib.md5(CONTENT).hexdigest()
    path = download.download(RemoteFile("model.bin", url, len(CONTENT), md5=right), tmp_path / "right")
    assert path.read_bytes() == CONTENT
    assert_fails(
        RemoteFile("model.bin", url, len(CONTENT), md5="0" * 32), tmp_path / "wrong", "MD5 hash .* expected md5:000"
    )


def test_download_checks_sha256_if_both_checksums_are_known(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(CONTENT)
    md5 = hashlib.md5(CONTENT).hexdigest()
    file = dataclasses.replace(remote(f"{server.url}/model.bin"), md5=md5)
    assert_fails(dataclasses.replace(file, sha256="0" * 64), tmp_path, "SHA256 hash")
    download.download(file, tmp_path)


def test_remote_file_requires_a_checksum() -> None:
    with pytest.raises(ValueError, match=r"model\.bin has no checksum"):
        RemoteFile("model.bin", "https://example.com/model.bin", 3)


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "not announced"])
def test_download_of_unknown_size(server: Server, tmp_path: Path, announced: bool) -> None:
    def answer(handler: _Handler) -> None:
        handler.send_response(200)
        if announced:
            handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[: 2_000_000 if announced and len(server.asked) == 1 else None])

    server.answers["/model.bin"] = answer
    file = dataclasses.replace(remote(f"{server.url}/model.bin"), size=None)
    model = dataclasses.replace(model_at(server, {}), files=(file,))
    totals, steps = [], Steps()
    download.download_missing(model, tmp_path, lambda total: totals.append(total) or steps)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert totals == [1] and steps.done == len(CONTENT)


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"more"], ids=["too short", "too long"])
def test_download_rejects_a_wrong_size_without_content_length(server: Server, tmp_path: Path, content: bytes) -> None:
    def answer(handler: _Handler) -> None:
        handler.send_response(200)
        handler.end_headers()  # HTTP/1.0 without a length: the end of the connection is the end of the file
        handler.wfile.write(content)

    server.answers["/model.bin"] = answer
    assert_fails(remote(f"{server.url}/model.bin"), tmp_path, f"it has .*, not {len(CONTENT)}|more than {len(CONTENT)}")


def test_download_resumes_where_the_connection_broke(server: Server, tmp_path: Path) -> None:
    def answer(handler: _Handler) -> None:
        asked_from = handler.headers.get("Range")
        if asked_from is None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(CONTENT)))
            handler.end_headers()
            handler.wfile.write(CONTENT[:2_000_000])
        else:
            start = int(asked_from.removeprefix("bytes=").removesuffix("-"))
            handler.give(CONTENT[start:], 206, Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")

    server.answers["/model.bin"] = answer
    steps = Steps()
    assert download.download(remote(f"{server.url}/model.bin"), tmp_path, steps).read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.asked] == [None, "bytes=2000000-"]
    assert steps.done == len(CONTENT)


def test_download_restarts_if_the_server_cannot_resume(server: Server, tmp_path: Path) -> None:
    def answer(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[: 2_000_000 if len(server.asked) == 1 else None])

    server.answers["/model.bin"] = answer
    steps = Steps()
    assert download.download(remote(f"{server.url}/model.bin"), tmp_path, steps).read_bytes() == CONTENT
    assert steps.done == len(CONTENT)  # not more than all of it, though some came twice


def test_download_gives_up_after_several_attempts(server: Server, tmp_path: Path) -> None:
    def answer(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:1000])

    server.answers["/model.bin"] = answer
    with pytest.raises(ModelError, match="ended before the last byte"):
        download.download(remote(f"{server.url}/model.bin"), tmp_path)
    assert len(server.asked) == downloader.ATTEMPTS


def test_download_retries_a_busy_server(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = lambda handler: (
        handler.send_error(503) if len(server.asked) == 1 else handler.give(CONTENT)
    )
    assert download.download(remote(f"{server.url}/model.bin"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "does not have this file"), (403, "refused"), (401, "HF_TOKEN"), (410, "HTTP 410")]
)
def test_download_does_not_retry_a_refusal(server: Server, tmp_path: Path, status: int, reason: str) -> None:
    server.answers["/model.bin"] = lambda handler: handler.send_error(status)
    assert_fails(remote(f"{server.url}/model.bin"), tmp_path / "new", reason)
    assert len(server.asked) == 1
    assert not (tmp_path / "new").exists()  # an empty folder would be taken for a model that is broken


def test_download_without_a_connection(server: Server, tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url  # no server listens there any more
    assert_fails(remote(f"{url}/model.bin"), tmp_path, "no network connection")


def test_download_does_not_retry_an_untrusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = pytest.importorskip("requests")
    attempts = []

    def fail(url: str, **others: object) -> None:
        attempts.append(url)
        try:
            raise ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
        except ssl.SSLError as error:
            raise requests.exceptions.SSLError(f"Max retries exceeded ({error})")  # noqa: B904 - as requests does

    monkeypatch.setattr(requests, "get", fail)
    assert_fails(remote("https://127.0.0.1/model.bin"), tmp_path, "no network connection .*self-signed certificate")
    assert len(attempts) == 1


def test_download_gives_up_a_silent_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    server.answers["/model.bin"] = lambda handler: end.wait(20) and None
    monkeypatch.setattr(downloader, "TIMEOUT", 0.05)
    try:
        assert_fails(remote(f"{server.url}/model.bin"), tmp_path, "no data arrived for")
    finally:
        end.set()


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_download_offline_requests_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(CONTENT)
    monkeypatch.setenv(name, "1")
    assert_fails(remote(f"{server.url}/model.bin"), tmp_path / "folder", "HF_HUB_OFFLINE")
    assert server.asked == []
    assert not (tmp_path / "folder").exists()


def test_is_offline_is_false_for_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not download.is_offline()


def test_resolve_url_uses_the_mirror_for_the_hub_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert download.resolve_url("https://huggingface.co/org/model") == "https://huggingface.co/org/model"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hub/")
    assert download.resolve_url("https://huggingface.co/org/model") == "https://mirror.example/hub/org/model"
    assert download.resolve_url("https://other.example/file") == "https://other.example/file"
    monkeypatch.setenv("HF_ENDPOINT", "mirror")
    with pytest.raises(ModelError, match="HF_ENDPOINT is 'mirror'"):
        download.resolve_url("https://huggingface.co/org/model")


def test_download_uses_the_mirror(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.answers["/org/model/resolve/abc/model.bin"] = lambda handler: handler.give(CONTENT)
    download.download(remote(f"{catalog.HUB}/org/model/resolve/abc/model.bin"), tmp_path)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_download_sends_the_token_to_the_hub_only(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "not-a-real-one")
    with Server() as store:
        thread = threading.Thread(target=store.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        store.answers["/blob"] = lambda handler: handler.give(CONTENT)
        server.answers["/org/model.bin"] = lambda handler: handler.give(b"", 302, Location=f"{store.url}/blob")
        download.download(remote(f"{catalog.HUB}/org/model.bin"), tmp_path / "hub")
        download.download(remote(f"{store.url}/blob"), tmp_path / "elsewhere")
        store.shutdown()
        thread.join()
    assert [headers.get("Authorization") for _, headers in server.asked] == ["Bearer not-a-real-one"]
    assert [headers.get("Authorization") for _, headers in store.asked] == [None, None]


def test_download_uses_the_proxy_of_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.answers["http://models.invalid/model.bin"] = lambda handler: handler.give(CONTENT)
    assert download.download(remote("http://models.invalid/model.bin"), tmp_path).read_bytes() == CONTENT


class Interrupt(BaseException):
    """As the host's own interrupt on new hosts: no Exception."""


class Stop:
    """A progress that raises the user's interrupt once ``asked`` is set, as a host does at the next step."""

    def __init__(self, asked: threading.Event) -> None:
        self.asked, self.done = asked, 0

    def step(self, count: int = 1) -> None:
        self.done += count
        if self.asked.is_set():
            raise Interrupt


def drip(handler: _Handler, asked: threading.Event, closed: threading.Event) -> None:
    """Send single bytes until the client closes the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    for _ in range(100):
        try:
            handler.wfile.write(b"x")
        except OSError:
            return closed.set()
        asked.set()
        time.sleep(0.05)


def say_nothing(handler: _Handler, asked: threading.Event, closed: threading.Event) -> None:
    handler.connection.settimeout(10)
    asked.set()
    if handler.connection.recv(1) == b"":
        closed.set()


def stop_in_the_middle(handler: _Handler, asked: threading.Event, closed: threading.Event) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:1000])
    say_nothing(handler, asked, closed)


@pytest.mark.parametrize("answer", [drip, say_nothing, stop_in_the_middle])
def test_download_interrupted_while_the_server_is_slow(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable
) -> None:
    monkeypatch.setattr(downloader, "TIMEOUT", 5.0)
    asked, closed = threading.Event(), threading.Event()
    server.answers["/model.bin"] = lambda handler: answer(handler, asked, closed)
    with pytest.raises(Interrupt):
        download.download(remote(f"{server.url}/model.bin"), tmp_path / "new", Stop(asked))
    assert not closed.is_set(), "the interrupt waited for the server"
    assert not (tmp_path / "new").exists()
    assert closed.wait(10), "the client did not close the connection"
    assert not (tmp_path / "new").exists()


def test_download_interrupted_while_it_connects(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, end = threading.Event(), threading.Event()

    def hang(*arguments: object, **others: object) -> None:
        asked.set()
        end.wait(10)
        raise TimeoutError

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(Interrupt):
        download.download(remote(f"{server.url}/model.bin"), tmp_path, Stop(asked))
    assert not end.is_set() and list(tmp_path.iterdir()) == []
    end.set()


def test_download_interrupted_before_the_next_attempt(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    server.answers["/model.bin"] = lambda handler: (asked.set(), handler.send_error(503))
    monkeypatch.setattr(downloader, "RETRY_DELAYS", (10.0, 10.0))
    with pytest.raises(Interrupt):
        download.download(remote(f"{server.url}/model.bin"), tmp_path, Stop(asked))
    assert len(server.asked) == 1 and list(tmp_path.iterdir()) == []


def test_download_interrupted_while_another_thread_fetches_the_same(server: Server, tmp_path: Path) -> None:
    model, asked, end = model_at(server, {"model.bin": CONTENT}), threading.Event(), threading.Event()
    server.answers["/model.bin"] = lambda handler: (asked.set(), end.wait(10), handler.give(CONTENT))
    first = threading.Thread(target=download.download_missing, args=(model, tmp_path))
    first.start()
    assert asked.wait(10)
    with pytest.raises(Interrupt):
        download.download_missing(model, tmp_path, lambda total: Stop(asked))
    assert not end.is_set()
    end.set()
    first.join(20)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT  # the other one's goes on


def test_download_reports_bytes_as_they_arrive(server: Server, tmp_path: Path) -> None:
    reported = threading.Event()

    class Watch(Steps):
        def step(self, count: int = 1) -> None:
            super().step(count)
            if self.done == 1000:
                reported.set()

    def answer(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:1000])
        if reported.wait(10):
            handler.wfile.write(CONTENT[1000:])

    server.answers["/model.bin"] = answer
    steps = Watch()
    download.download(remote(f"{server.url}/model.bin"), tmp_path, steps)
    assert reported.is_set() and steps.done == len(CONTENT) and len(server.asked) == 1


def test_download_names_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(CONTENT)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloader.os, "fsync", full)
    assert_fails(remote(f"{server.url}/model.bin"), tmp_path, "no space left in")


def test_download_names_a_folder_that_cannot_be_created(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(ModelError, match="is not writable"):
        download.download(remote(f"{server.url}/model.bin"), tmp_path / "file" / "folder")
    assert server.asked == []


def answer_ranges(handler: _Handler) -> None:
    """Send the file, or the requested end of it."""
    start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    if start >= len(CONTENT):
        handler.send_error(416)
    elif start:
        handler.give(CONTENT[start:], 206, Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
    else:
        handler.give(CONTENT)


def test_download_that_broke_is_finished_by_the_next_run(server: Server, tmp_path: Path) -> None:
    def break_off(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:2_000_000])

    server.answers["/model.bin"] = break_off
    file = remote(f"{server.url}/model.bin")
    with pytest.raises(ModelError) as caught:
        download.download(file, tmp_path)
    part = tmp_path / "model.bin.part"
    assert part.stat().st_size == 2_000_000 and not (tmp_path / "model.bin").exists()
    assert f"2.0 MB are kept in {part} for the next run" in caught.value.problem
    server.asked.clear()
    server.answers["/model.bin"] = answer_ranges
    steps = Steps()
    assert download.download(file, tmp_path, steps).read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.asked] == ["bytes=2000000-"]
    assert steps.done == len(CONTENT) and [path.name for path in tmp_path.iterdir()] == ["model.bin"]


SIZE_KNOWN: dict[str, tuple[bytes, list[str | None]]] = {
    "its beginning": (CONTENT[:500_000], ["bytes=500000-"]),
    "all of it": (CONTENT, []),
    "damaged": (b"?" + CONTENT[1:500_000], ["bytes=500000-", None]),
    "damaged and whole": (b"?" + CONTENT[1:], [None]),
    "more than there is": (CONTENT + b"more", [None]),
    "nothing": (b"", [None]),
}
SIZE_UNKNOWN = SIZE_KNOWN | {
    "all of it": (CONTENT, [f"bytes={len(CONTENT)}-"]),
    "damaged and whole": (b"?" + CONTENT[1:], [f"bytes={len(CONTENT)}-", None]),
    "more than there is": (CONTENT + b"more", [f"bytes={len(CONTENT) + 4}-", None]),
}
LEFTOVERS = [(len(CONTENT), *case) for case in SIZE_KNOWN.values()] + [(None, *case) for case in SIZE_UNKNOWN.values()]


@pytest.mark.parametrize(
    ("size", "leftover", "ranges"), LEFTOVERS, ids=[*SIZE_KNOWN, *map("{}, size unknown".format, SIZE_UNKNOWN)]
)
def test_download_resumes_what_a_killed_process_left(
    server: Server, tmp_path: Path, size: int | None, leftover: bytes, ranges: list[str | None]
) -> None:
    server.answers["/model.bin"] = answer_ranges
    file = dataclasses.replace(remote(f"{server.url}/model.bin"), size=size)
    (tmp_path / "model.bin.part").write_bytes(leftover)
    (tmp_path / "model.bin.part.lock").write_bytes(b"")
    steps = Steps()
    assert download.download(file, tmp_path, steps).read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.asked] == ranges
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]
    assert steps.done >= len(CONTENT)


PROCESS = """
import sys; sys.path.insert(0, {tools!r})
from pathlib import Path
from pack import load_pack
load_pack(Path({root!r}))
from maskwright.models import download
from maskwright.models.catalog import RemoteFile

class Bar:
    done = 0
    def step(self, count=1):
        self.done += count
        if self.done:
            print("ready", flush=True)

download.download(RemoteFile("model.bin", {url!r}, {size}, {sha256!r}), Path({folder!r}), Bar())
"""


def test_download_waits_for_another_process_and_resumes_if_it_is_killed(server: Server, tmp_path: Path) -> None:
    end = threading.Event()

    def stop_in_the_middle(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:1_000_000])
        end.wait(20)

    server.answers["/model.bin"] = stop_in_the_middle
    file = remote(f"{server.url}/model.bin")
    code = PROCESS.format(
        tools=str(ROOT / "tools"),
        root=str(ROOT),
        url=file.url,
        size=file.size,
        sha256=file.sha256,
        folder=str(tmp_path),
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    waits, part = [], tmp_path / "model.bin.part"

    class Wait(Steps):
        def step(self, count: int = 1) -> None:
            super().step(count)
            waits.append(count)
            if len(waits) >= 3 and part.exists() and part.stat().st_size and other.poll() is None:
                assert len(server.asked) == 1, "it did not wait"
                server.answers["/model.bin"] = answer_ranges
                other.kill()

    try:
        assert other.stdout.readline() == "ready\n"
        download.download(file, tmp_path, Wait())
    finally:
        end.set()
        other.kill()
        other.communicate()
    assert waits[:3] == [0, 0, 0]
    assert len(server.asked) == 2 and re.fullmatch("bytes=[1-9][0-9]+-", server.asked[1][1]["Range"])
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_download_by_another_process_is_not_repeated(server: Server, tmp_path: Path) -> None:
    filelock = pytest.importorskip("filelock")
    lock = filelock.FileLock(tmp_path / "model.bin.part.lock")
    lock.acquire()

    class Finish(Steps):
        def step(self, count: int = 1) -> None:
            (tmp_path / "model.bin").write_bytes(CONTENT)
            lock.release()

    download.download(remote(f"{server.url}/model.bin"), tmp_path, Finish())
    assert server.asked == [] and [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_download_does_not_write_through_links(server: Server, tmp_path: Path) -> None:
    server.answers["/model.bin"] = answer_ranges
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.bin.part").symlink_to(secret)
    download.download(remote(f"{server.url}/model.bin"), tmp_path / "folder")
    assert secret.read_bytes() == b"x"


def test_download_names_a_folder_with_the_name_of_the_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model.bin").mkdir()
    with pytest.raises(ModelError, match=r"model\.bin is a folder"):
        download.download(remote(f"{server.url}/model.bin"), tmp_path)
    assert server.asked == []


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        ssl.SSLError(1, "bad record mac"),
        ConnectionResetError(104, "reset"),
        TimeoutError("timed out"),
        socket.gaierror(-2, "Name or service not known"),
        OSError(101, "Network is unreachable"),
    ],
    ids=repr,
)
def test_download_resumes_after_a_broken_connection(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    server.answers["/model.bin"] = answer_ranges

    class Breaking(downloader._Request):
        def pieces(self) -> Iterator[bytes]:
            for number, piece in enumerate(super().pieces()):
                if number == 1 and len(server.asked) == 1:
                    raise downloader.TransferError(error)
                yield piece

    monkeypatch.setattr(downloader, "_Request", Breaking)
    assert download.download(remote(f"{server.url}/model.bin"), tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2 and server.asked[1][1].get("Range")


def test_download_retries_if_connecting_takes_too_long(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/model.bin"] = answer_ranges
    connect, tries = socket.getaddrinfo, []

    def slow(*arguments: object, **others: object) -> list:
        tries.append(arguments)
        if len(tries) == 1:
            raise TimeoutError("timed out")
        return connect(*arguments, **others)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert download.download(remote(f"{server.url}/model.bin"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("7", 7.0), ("100000", downloader.LONGEST_DELAY), ("9" * 5000, 0.0), ("soon", 0.0), ("-5", 0.0)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_download_waits_as_long_as_the_server_asks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, asked: str, expected: float
) -> None:
    def answer(handler: _Handler) -> None:
        if len(server.asked) == 1:
            handler.give(b"", status, Retry_After=asked)
        else:
            handler.give(CONTENT)

    waits = []
    monkeypatch.setattr(downloader.Downloader, "_wait", lambda self, delay: waits.append(delay))
    server.answers["/model.bin"] = answer
    assert download.download(remote(f"{server.url}/model.bin"), tmp_path).read_bytes() == CONTENT
    assert waits == [expected]


def test_download_understands_a_date_in_retry_after(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    server.answers["/model.bin"] = lambda handler: (
        handler.give(b"", 503, Retry_After=date) if len(server.asked) == 1 else handler.give(CONTENT)
    )
    waits = []
    monkeypatch.setattr(downloader.Downloader, "_wait", lambda self, delay: waits.append(delay))
    download.download(remote(f"{server.url}/model.bin"), tmp_path)
    assert waits == [downloader.LONGEST_DELAY]


@pytest.mark.parametrize("token", ["s3cr3t\nv4lue", "s3cr3t v4lue", "s3cr3t\u2026v4lue", "s3cr3t\x7f"])
def test_download_never_shows_a_malformed_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, token: str
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", token)
    model = model_at(server, {"model.bin": CONTENT})
    file = dataclasses.replace(model.files[0], url=f"{catalog.HUB}/model.bin")
    with pytest.raises(ModelError, match="HF_TOKEN contains") as caught:
        download.download_missing(dataclasses.replace(model, files=(file,)), tmp_path / "new")
    report = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "s3cr3t" not in report and "v4lue" not in report
    assert server.asked == [] and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "endpoint", ["http://[::1", "mirror", "http://", "https://mirror:port", "http://a b", "http://a\nb", "ftp://mirror"]
)
def test_resolve_url_rejects_an_invalid_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    file = remote(f"{catalog.HUB}/org/model.bin")
    model = dataclasses.replace(model_at(server, {}), files=(file,), page=f"{catalog.HUB}/org")
    with pytest.raises(ModelError, match="HF_ENDPOINT is .*, which is not a valid address") as caught:
        download.download_missing(model, tmp_path / "new")
    assert f"from {catalog.HUB}/org by hand" in caught.value.remedy
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "place", ["http://[::1", "http://" + "a" * 70 + ".b/", "ftp://127.0.0.1/x", "file:///etc/passwd"]
)
def test_download_names_a_redirect_to_an_invalid_address(server: Server, tmp_path: Path, place: str) -> None:
    server.answers["/model.bin"] = lambda handler: handler.give(b"", 302, Location=place)
    assert_fails(remote(f"{server.url}/model.bin"), tmp_path / "new", "could not be downloaded")


def test_download_names_an_invalid_proxy(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", "http://proxy:port")
    assert_fails(remote(f"{server.url}/model.bin"), tmp_path / "new", "https_proxy")


@pytest.mark.parametrize("content", [None, b"no certificates"], ids=["gone", "damaged"])
def test_download_names_unreadable_certificates(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    authorities = tmp_path / "cacert.pem"
    if content is not None:
        authorities.write_bytes(content)
    module = types.ModuleType("certifi")
    module.where = lambda: str(authorities)
    monkeypatch.setitem(sys.modules, "certifi", module)
    with pytest.raises(ModelError, match="certifi") as caught:
        download.download(remote(f"{server.url}/model.bin"), tmp_path / "new")
    assert str(authorities) in caught.value.problem and "is not writable" not in str(caught.value)
    assert server.asked == [] and not (tmp_path / "new").exists()


def test_download_without_pooch_says_what_to_install(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)  # as if it could not be imported
    with pytest.raises(DependencyError, match="pooch is missing.*pip install pooch"):
        download.download(remote(f"{server.url}/model.bin"), tmp_path / "new")
    assert server.asked == [] and not (tmp_path / "new").exists()


def test_download_logs_once_and_prints_nothing(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    """pooch has a log handler of its own, which prints to stderr."""
    server.answers["/model.bin"] = lambda handler: handler.give(CONTENT)
    caplog.set_level("INFO", logger="maskwright")
    download.download(remote(f"{server.url}/model.bin"), tmp_path)
    assert caplog.messages == [f"Downloading {server.url}/model.bin to {tmp_path / 'model.bin'} (3.1 MB)"]
    assert capfd.readouterr() == ("", "")


def model_at(server: Server, contents: dict[str, bytes]) -> catalog.Model:
    for name, content in contents.items():
        server.answers[f"/{name}"] = lambda handler, content=content: handler.give(content)
    files = tuple(remote(f"{server.url}/{name}", content, name) for name, content in contents.items())
    return catalog.Model("org/model", f"{server.url}/page", "abc", "MIT", 8, (0, 0, 0), (1, 1, 1), files)


def test_download_missing_keeps_existing_files(server: Server, tmp_path: Path) -> None:
    model = model_at(server, {"config.json": b"{}", "model.bin": CONTENT})
    (tmp_path / "config.json").write_text("the user's own", encoding="utf-8")
    totals, steps = [], Steps()
    download.download_missing(model, tmp_path, lambda total: totals.append(total) or steps)
    assert (tmp_path / "config.json").read_text(encoding="utf-8") == "the user's own"
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert totals == [len(CONTENT)] and steps.done == len(CONTENT)
    download.download_missing(model, tmp_path, lambda total: pytest.fail("a progress bar, and nothing to fetch"))
    assert server.paths() == ["/model.bin"]


def test_download_missing_names_page_folder_and_missing_files(server: Server, tmp_path: Path) -> None:
    model = model_at(server, {"config.json": b"{}", "vocab.json": b"[]", "model.bin": CONTENT})
    del server.answers["/vocab.json"]
    with pytest.raises(ModelError) as caught:
        download.download_missing(model, tmp_path)
    assert f"{server.url}/vocab.json" in caught.value.problem
    assert "HTTP 404" in caught.value.problem
    assert f"{server.url}/page" in caught.value.remedy
    assert caught.value.remedy.endswith(f"put them in {tmp_path}: vocab.json, model.bin")
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]  # whole, and not fetched a second time


def test_download_missing_from_several_threads_downloads_once(server: Server, tmp_path: Path) -> None:
    model = model_at(server, {"model.bin": CONTENT})
    threads = [threading.Thread(target=download.download_missing, args=(model, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert server.paths() == ["/model.bin"]
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_download_missing_checks_free_space_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_at(server, {"model.bin": CONTENT})
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match=r"3 MB are needed, 1 MB are free"):
        download.download_missing(model, tmp_path / "not" / "there")
    assert server.asked == [] and list(tmp_path.iterdir()) == []


def test_download_missing_if_forbidden_names_the_files_and_touches_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_at(server, {"config.json": b"{}", "model.bin": CONTENT})
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)

    def forbid(total: int) -> Steps:
        assert total == len(CONTENT) + 2
        raise ModelError("ComfyUI was started with --offline, which forbids downloads", "Start it without --offline")

    with pytest.raises(ModelError) as caught:
        download.download_missing(model, tmp_path / "new", forbid)
    assert str(caught.value) == (
        "org/model is not on this computer, and ComfyUI was started with --offline, which forbids downloads. Start it "
        f"without --offline, or download these files from {server.url}/page by hand and put them in "
        f"{tmp_path / 'new'}: config.json, model.bin."
    )
    assert server.asked == [] and list(tmp_path.iterdir()) == []


def test_download_missing_needs_no_space_for_kept_bytes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_at(server, {"model.bin": CONTENT})
    server.answers["/model.bin"] = answer_ranges
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:-1000])
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    download.download_missing(model, tmp_path)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["model", "org/model", "My model (v2.1)", "\u6a21\u578b"])
def test_check_name_accepts_plain_names(name: str) -> None:
    assert check_name(name, "model") == name


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../x",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "/etc",
        "~/x",
        "C:",
        "C:\\x",
        "a\\b",
        "a\0b",
        "a\n",
        "",
        " ",
        "half \ud800",
        "../" + "a" * 10_000,
        None,
        3,
        10**400,
        10**5000,
        ["model"],
    ],
    ids=lambda name: type(name).__name__,
)
def test_check_name_rejects_names_that_lead_elsewhere(name: object) -> None:
    with pytest.raises(InputError, match="model is ") as caught:
        check_name(name, "model")
    assert len(str(caught.value).encode("utf-8")) < 500


def test_catalog_pins_clipseg() -> None:
    model = catalog.CLIPSEG
    assert re.fullmatch(r"[0-9a-f]{40}", model.revision)
    assert model.files[-1].name == "model.safetensors" and model.files[-1].size == max(f.size for f in model.files)
    for file in model.files:
        assert file.url == f"https://huggingface.co/{model.name}/resolve/{model.revision}/{file.name}"
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0
