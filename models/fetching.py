"""The bytes of one file, from the network into an open file: counted, checked, taken up again after a break."""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import logging
import re
import ssl
import time
import urllib.error
from collections.abc import Mapping
from typing import BinaryIO

from ..core.interfaces import Progress
from .catalog import RemoteFile
from .transfer import LOOK, TIMEOUT, Transfer, TransferError

logger = logging.getLogger(__name__)

ATTEMPTS = 3
RETRY_DELAYS = (1.0, 3.0)  # seconds before the second and the third attempt
LONGEST_DELAY = 30.0  # seconds, however long the server asks to wait
_CHUNK = 1 << 20  # bytes after which progress is reported, where they come faster than every `LOOK` seconds
_WORTH_RETRYING = {408, 429, 500, 502, 503, 504}  # HTTP: the server is busy or failed, and may not be next time
_RANGE_NOT_SATISFIABLE = 416


class WrongContent(Exception):
    """What the server has is not what was expected; asking again would not change that."""


class Download:
    """One file on its way to the disk: what has come, its checksums, and what the progress bar was told.

    Args:
        url: Where the file is.
        file: Its size and checksums.
        out: Open for reading and writing. What an earlier run left in it is gone on with.
        secrets: See `Transfer`.
        progress: ``step`` gets the bytes as they arrive, and 0 several times a second while none do; may raise to stop.
    """

    def __init__(
        self, url: str, file: RemoteFile, out: BinaryIO, secrets: Mapping[str, str], progress: Progress
    ) -> None:
        self._url, self._out, self._secrets, self._progress = url, out, secrets, progress
        self._expected, self._size = file.checksums, file.size
        self._reported, self._reported_at = 0, 0.0
        self._done, self._digests = 0, self._new_digests()

    def run(self) -> None:
        """Until the file is whole and right.

        Raises:
            TransferError: The network or the server failed, for good.
            WrongContent: The server has another file.
        """
        self._read_kept()
        kept = self._done
        if not kept or self._wrong_checksum():
            self._receive()
        if kept and self._wrong_checksum():  # what an earlier run left was damaged
            self._restart()
            self._receive()
        if wrong := self._wrong_checksum():
            raise WrongContent(wrong)
        self._report()

    def _new_digests(self) -> dict[str, hashlib._Hash]:
        # MD5 tells a wrong file from the right one here and guards no secret; Pythons built for FIPS ask for that word.
        return {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in self._expected}

    def _wrong_checksum(self) -> str | None:
        for algorithm, digest in self._expected.items():
            found = self._digests[algorithm].hexdigest()
            if found != digest:
                return f"its {({'sha256': 'SHA-256', 'md5': 'MD5'})[algorithm]} is {found}, not {digest}"
        return None

    def _read_kept(self) -> None:
        """Take in what an earlier run left in the part."""
        self._out.seek(0)
        while piece := self._out.read(_CHUNK):
            self._count(piece)
        if self._size is not None and self._done > self._size:
            self._restart()
        if self._done:
            logger.info("%s: going on after the %.1f MB of an earlier run", self._url, self._done / 1e6)

    def _restart(self) -> None:
        self._out.seek(0)
        self._out.truncate()
        self._done, self._digests = 0, self._new_digests()

    def _count(self, piece: bytes) -> None:
        self._done += len(piece)
        for digest in self._digests.values():
            digest.update(piece)
        if self._done - self._reported >= _CHUNK or time.monotonic() - self._reported_at >= LOOK:
            self._report()

    def _report(self) -> None:
        """Tell the progress bar what is new, never more than all of it, and let the user's interrupt pass."""
        new = max(0, self._done - self._reported)
        self._reported, self._reported_at = self._reported + new, time.monotonic()
        self._progress.step(new)

    def _receive(self) -> None:
        """Request what is missing, in several attempts if need be."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._request()
            except TransferError as error:
                beyond_end = getattr(error.cause, "code", None) == _RANGE_NOT_SATISFIABLE and self._done > 0
                if attempt == ATTEMPTS or not (beyond_end or _may_go_better(error.cause, self._done)):
                    raise
                logger.warning(
                    "%s: %s after %d of %s bytes; trying again",
                    self._url,
                    reason(error.cause),
                    self._done,
                    self._size or "unknown",
                )
                if beyond_end:  # an earlier run left more than there is
                    self._restart()
                delay = max(RETRY_DELAYS[attempt - 1], _requested_delay(error.cause))
            self._wait(delay)

    def _request(self) -> None:
        with Transfer(self._url, self._done, self._secrets, self._report) as transfer:
            status, announced = transfer.head()
            if self._done and status != http.HTTPStatus.PARTIAL_CONTENT:
                self._restart()  # a server that always sends all of it
            size = self._size
            if announced is not None:
                size = self._done + announced
                if self._size not in (None, size):
                    raise WrongContent(f"it has {size} bytes, not {self._size}")
            for piece in transfer.pieces():
                if size is not None and self._done + len(piece) > size:
                    raise WrongContent(f"it has more than {size} bytes")
                self._out.write(piece)
                self._count(piece)
        if size is None or self._done == size:
            return
        if announced is None:
            raise WrongContent(f"it has {self._done} bytes, not {size}")
        raise TransferError(http.client.IncompleteRead(b"", size - self._done))

    def _wait(self, delay: float) -> None:
        end = time.monotonic() + delay
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK))
            self._report()


def _may_go_better(error: Exception, done: int) -> bool:
    """Whether it is worth asking once more: the server is busy, or a connection that stood has broken."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _WORTH_RETRYING
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, (ssl.SSLCertVerificationError, http.client.InvalidURL, ValueError)):
        return False
    if isinstance(error, ConnectionRefusedError):
        return done > 0
    if isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)):
        return True
    return done > 0  # the network itself went away, as when a laptop sleeps


def _requested_delay(error: Exception) -> float:
    """How many seconds the server asks to wait before the next request (Retry-After), at most `LONGEST_DELAY`."""
    value = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        delay = float(value)
    else:
        try:
            delay = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            delay = 0.0
    return min(max(0.0, delay), LONGEST_DELAY)


def reason(error: Exception) -> str:
    """What an error of the network means to the user."""
    if isinstance(error, urllib.error.HTTPError):
        meaning = {
            401: "the server wants to know who asks (set HF_TOKEN)",
            403: "the server refused it",
            404: "the server does not have it",
            429: "the server had too many requests from this address",
        }.get(error.code, "the server failed")
        return f"{meaning} (HTTP {error.code} {error.reason})"
    if isinstance(error, urllib.error.URLError):
        return f"there is no connection ({error.reason})"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended before the last byte"
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:g} seconds"
    if isinstance(error, (http.client.InvalidURL, ValueError)):
        return f"the server's redirect, or a proxy variable such as https_proxy, is not a valid address ({error})"
    return f"the connection broke ({type(error).__name__}: {error})"
