"""A downloader for pooch that resumes broken downloads and reacts to the user's interrupt within a second.

The downloaders of pooch and huggingface_hub read in blocking calls. While a server is slow or silent, they notice no
interrupt and update no progress bar, and ComfyUI's only worker hangs. Here a thread reads, and the caller checks
several times a second what has arrived.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import logging
import os
import queue
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.engine import Progress

if TYPE_CHECKING:
    from requests import Response

logger = logging.getLogger(__name__)

TIMEOUT = 20.0  # seconds without a byte
POLL_INTERVAL = 0.2  # seconds between checks for the user's interrupt
ATTEMPTS = 3
RETRY_DELAYS = (1.0, 3.0)  # seconds before the second and the third attempt
LONGEST_DELAY = 30.0  # seconds, whatever the server requests
_PIECE = 1 << 18  # bytes
_PIECES_AHEAD = 32  # received, but not yet written
_TEMPORARY = {408, 429, 500, 502, 503, 504}  # HTTP statuses that may be temporary


class WrongContent(Exception):
    """The server has a different file; a retry would not help."""


class TransferError(Exception):
    """The network or the server failed.

    Args:
        cause: The error of requests or urllib3.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(_reason(cause))
        self.status: int | None = getattr(getattr(cause, "response", None), "status_code", None)
        self.retry_after = _retry_after(cause)
        root = _root(cause)
        self.is_connection_lost = isinstance(root, TimeoutError) or not _is_unreachable(root)


class Downloader:
    """Downloads one file into ``part``, and hands it to pooch when it is complete. pooch checks its content.

    Continues after the bytes that an earlier run left in ``part``. After an error, the caller removes ``part`` or keeps
    it for the next run.

    Args:
        part: The partial file, next to the final one. Only this process may write it.
        size: Size of the file in bytes, None if unknown.
        headers: Sent only to the server of the URL, not to servers that it redirects to.
        progress: ``step`` is called with the number of bytes as they arrive, and with 0 several times a second while
            none arrive; it may raise to stop.
    """

    def __init__(self, part: Path, size: int | None, headers: Mapping[str, str], progress: Progress) -> None:
        self._part, self._size, self._headers, self._progress = part, size, headers, progress
        self._done = part_size(part)
        self._reported, self._reported_at = 0, 0.0

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download ``url`` to ``output_file``, as pooch calls it.

        Raises:
            TransferError: The network or the server failed, on every attempt if retries made sense.
            WrongContent: The file has the wrong size.
        """
        os.unlink(output_file)  # pooch creates it empty; remove it, so that a killed process leaves only the part
        if self._part.is_symlink():
            self._part.unlink()
        with self._part.open("r+b" if self._part.exists() else "xb") as self._out:
            self._out.seek(0, os.SEEK_END)
            if self._size is not None and self._done > self._size:
                self._restart()
            if self._done:
                logger.info("%s: resuming after %.1f MB from an earlier run", url, self._done / 1e6)
            if self._done != self._size:
                self._receive(url)
            self._report()
            self._out.flush()
            os.fsync(self._out.fileno())
        os.replace(self._part, output_file)

    def _receive(self, url: str) -> None:
        """Request the missing bytes, in several attempts if necessary."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._request(url)
            except TransferError as error:
                if attempt == ATTEMPTS or not self._is_worth_retrying(error):
                    raise
                size = self._size or "unknown"
                logger.warning("%s: %s after %d of %s bytes; trying again", url, error, self._done, size)
                delay = max(RETRY_DELAYS[attempt - 1], error.retry_after)
            self._wait(delay)

    def _is_worth_retrying(self, error: TransferError) -> bool:
        if error.status is not None:
            return error.status in _TEMPORARY
        return self._done > 0 or error.is_connection_lost

    def _request(self, url: str) -> None:
        headers = {**self._headers, **({"Range": f"bytes={self._done}-"} if self._done else {})}
        with _Request(url, headers, self._report) as request:
            status, announced = request.head()
            if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # the part has all bytes, or wrong ones: the checksum decides
            if self._done and status != http.HTTPStatus.PARTIAL_CONTENT:
                self._restart()  # this server always sends the whole file
            total = self._size if announced is None else self._done + announced
            if self._size not in (None, total):
                raise WrongContent(f"it has {total} bytes, not {self._size}")
            for piece in request.pieces():
                if total is not None and self._done + len(piece) > total:
                    raise WrongContent(f"it has more than {total} bytes")
                self._out.write(piece)
                self._done += len(piece)
                if time.monotonic() - self._reported_at > POLL_INTERVAL:
                    self._report()
        if total is not None and self._done < total:
            if announced is None:
                raise WrongContent(f"it has {self._done} bytes, not {total}")
            raise TransferError(http.client.IncompleteRead(b"", total - self._done))

    def _restart(self) -> None:
        self._out.seek(0)
        self._out.truncate()
        self._done = 0

    def _report(self) -> None:
        """Report the new bytes, each byte once even after a restart. May raise to stop."""
        new = max(0, self._done - self._reported)
        self._reported, self._reported_at = self._reported + new, time.monotonic()
        self._progress.step(new)

    def _wait(self, delay: float) -> None:
        end = time.monotonic() + delay
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, POLL_INTERVAL))
            self._report()


def part_size(part: Path) -> int:
    """The size of a partial file in bytes; 0 if there is none."""
    return part.stat().st_size if part.is_file() and not part.is_symlink() else 0


class _Request:
    """A GET request on a thread, as a context manager. After exit the thread stops at the next byte or after `TIMEOUT`.

    Args:
        idle: Called several times a second while nothing arrives. May raise to end the wait.
    """

    def __init__(self, url: str, headers: Mapping[str, str], idle: Callable[[], None]) -> None:
        self._url, self._headers, self._idle = url, headers, idle
        self._arrived: queue.Queue[Any] = queue.Queue(_PIECES_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="maskwright download", daemon=True)

    def __enter__(self) -> _Request:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()

    def head(self) -> tuple[int, int | None]:
        """The response's status and the number of bytes to come, None if the server does not say.

        Raises:
            TransferError: No response, or its status is an error.
        """
        return self._next()

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive; call `head` first. If the server closes the connection early, they just end.

        Raises:
            TransferError: The connection broke.
        """
        while piece := self._next():
            yield piece

    def _next(self) -> Any:
        while True:
            try:
                item = self._arrived.get(timeout=POLL_INTERVAL)
            except queue.Empty:
                self._idle()
                continue
            if isinstance(item, Exception):
                raise TransferError(item) from item
            return item

    # The methods below run on the thread.

    def _receive(self) -> None:
        import requests

        headers = {"User-Agent": "maskwright", "Accept-Encoding": "identity", **self._headers}
        try:
            with requests.get(self._url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                if response.status_code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    response.raise_for_status()
                length = response.headers.get("Content-Length", "")
                self._put((response.status_code, int(length) if length.isdigit() else None))
                self._read(response)
            self._put(b"")
        except Exception as error:  # the caller's thread raises it
            self._put(error)

    def _read(self, response: Response) -> None:
        read = getattr(response.raw, "read1", response.raw.read)  # urllib3 1 has only `read`, which waits for all bytes
        while not self._stopped.is_set() and (piece := read(_PIECE)):
            self._put(piece)

    def _put(self, item: object) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                return self._arrived.put(item, timeout=POLL_INTERVAL)


def _root(error: BaseException) -> BaseException:
    """The error of the system or of TLS that requests and urllib3 wrap."""
    while (inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        error = inner
    return error


def _is_unreachable(root: BaseException) -> bool:
    """Whether the connection could not be established."""
    if isinstance(root, (ConnectionRefusedError, ssl.SSLCertVerificationError)):
        return True
    return isinstance(root, OSError) and not isinstance(root, (ConnectionError, ssl.SSLError))


def _retry_after(error: Exception) -> float:
    """Seconds that the server asks to wait before the next request, at most `LONGEST_DELAY`."""
    value = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        delay = float(value)
    else:
        try:
            delay = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            delay = 0.0
    return min(max(0.0, delay), LONGEST_DELAY)


def _reason(error: Exception) -> str:
    """Explain an error of requests or urllib3 to the user."""
    response, root = getattr(error, "response", None), _root(error)
    if response is not None:
        meaning = {
            401: "the server requires authentication (set HF_TOKEN)",
            403: "the server refused access",
            404: "the server does not have this file",
            429: "the server received too many requests from this address",
        }.get(response.status_code, "the server failed")
        return f"{meaning} (HTTP {response.status_code} {response.reason})"
    if "IncompleteRead" in f"{type(root).__name__} {error}":
        return "the connection ended before the last byte"
    if isinstance(error, ValueError):
        return f"the server's redirect, or a proxy variable such as https_proxy, is not a valid address ({error})"
    if isinstance(root, TimeoutError):
        return f"no data arrived for {TIMEOUT:g} seconds"
    if _is_unreachable(root):
        return f"no network connection ({root})"
    return f"the connection broke ({type(root).__name__}: {root})"
