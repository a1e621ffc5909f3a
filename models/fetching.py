"""Downloads one file into an open file: with progress and checksums, and resumed after a broken connection."""

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

from ..core.engine import Progress
from .catalog import RemoteFile
from .transfer import POLL_INTERVAL, TIMEOUT, Transfer, TransferError

logger = logging.getLogger(__name__)

ATTEMPTS = 3
RETRY_DELAYS = (1.0, 3.0)  # seconds before the second and the third attempt
LONGEST_DELAY = 30.0  # seconds, even if the server asks for more
_CHUNK = 1 << 20  # bytes after which progress is reported, at the latest after `POLL_INTERVAL` seconds
_WORTH_RETRYING = {408, 429, 500, 502, 503, 504}  # HTTP statuses that may be temporary
_RANGE_NOT_SATISFIABLE = 416


class WrongContent(Exception):
    """The server has a different file; a retry would not help."""


class Download:
    """The download of one file: the bytes received, their checksums and the reported progress.

    Args:
        url: Address of the file.
        file: Its size and checksums.
        out: Open for reading and writing. Bytes that an earlier run left in it are used.
        secrets: See `Transfer`.
        progress: ``step`` gets the bytes as they arrive, and 0 several times a second while none arrive; may raise to
            stop.
    """

    def __init__(
        self, url: str, file: RemoteFile, out: BinaryIO, secrets: Mapping[str, str], progress: Progress
    ) -> None:
        self._url, self._out, self._secrets, self._progress = url, out, secrets, progress
        self._expected, self._size = file.checksums, file.size
        self._reported, self._reported_at = 0, 0.0
        self._done, self._digests = 0, self._new_digests()

    def run(self) -> None:
        """Download until the file is complete and its checksums match.

        Raises:
            TransferError: The network or the server failed, in every attempt if a retry was worthwhile.
            WrongContent: The server has a different file.
        """
        self._read_earlier_bytes()
        earlier_size = self._done
        if not earlier_size or self._wrong_checksum():
            self._receive()
        if earlier_size and self._wrong_checksum():  # the earlier bytes were damaged
            self._restart()
            self._receive()
        if wrong := self._wrong_checksum():
            raise WrongContent(wrong)
        self._report()

    def _new_digests(self) -> dict[str, hashlib._Hash]:
        # MD5 only detects corruption here; Pythons built for FIPS need the flag.
        return {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in self._expected}

    def _wrong_checksum(self) -> str | None:
        for algorithm, digest in self._expected.items():
            actual = self._digests[algorithm].hexdigest()
            if actual != digest:
                return f"its {({'sha256': 'SHA-256', 'md5': 'MD5'})[algorithm]} is {actual}, not {digest}"
        return None

    def _read_earlier_bytes(self) -> None:
        """Count the bytes that an earlier run left, and drop them if they are too many."""
        self._out.seek(0)
        while piece := self._out.read(_CHUNK):
            self._count(piece)
        if self._size is not None and self._done > self._size:
            self._restart()
        if self._done:
            logger.info("%s: resuming after %.1f MB from an earlier run", self._url, self._done / 1e6)

    def _restart(self) -> None:
        self._out.seek(0)
        self._out.truncate()
        self._done, self._digests = 0, self._new_digests()

    def _count(self, piece: bytes) -> None:
        self._done += len(piece)
        for digest in self._digests.values():
            digest.update(piece)
        if self._done - self._reported >= _CHUNK or time.monotonic() - self._reported_at >= POLL_INTERVAL:
            self._report()

    def _report(self) -> None:
        """Report the new bytes to the progress bar, each byte once even after a restart. May raise to stop."""
        new = max(0, self._done - self._reported)
        self._reported, self._reported_at = self._reported + new, time.monotonic()
        self._progress.step(new)

    def _receive(self) -> None:
        """Request the missing bytes, in several attempts if need be."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._request()
            except TransferError as error:
                beyond_end = getattr(error.cause, "code", None) == _RANGE_NOT_SATISFIABLE and self._done > 0
                if attempt == ATTEMPTS or not (beyond_end or _is_worth_retrying(error.cause, self._done)):
                    raise
                logger.warning(
                    "%s: %s after %d of %s bytes; trying again",
                    self._url,
                    reason(error.cause),
                    self._done,
                    self._size or "unknown",
                )
                if beyond_end:  # an earlier run left more bytes than the file has
                    self._restart()
                delay = max(RETRY_DELAYS[attempt - 1], _requested_delay(error.cause))
            self._wait(delay)

    def _request(self) -> None:
        with Transfer(self._url, self._done, self._secrets, self._report) as transfer:
            status, announced = transfer.head()
            if self._done and status != http.HTTPStatus.PARTIAL_CONTENT:
                self._restart()  # this server always sends the whole file
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
            time.sleep(min(left, POLL_INTERVAL))
            self._report()


def _is_worth_retrying(error: Exception, done: int) -> bool:
    """Whether a retry may succeed: the server is busy, or an established connection broke."""
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
    return done > 0  # the network itself went down, as when a laptop sleeps


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
    """Explain a network error to the user."""
    if isinstance(error, urllib.error.HTTPError):
        meaning = {
            401: "the server requires authentication (set HF_TOKEN)",
            403: "the server refused access",
            404: "the server does not have this file",
            429: "the server got too many requests from this address",
        }.get(error.code, "the server failed")
        return f"{meaning} (HTTP {error.code} {error.reason})"
    if isinstance(error, urllib.error.URLError):
        return f"no network connection ({error.reason})"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended before the last byte"
    if isinstance(error, TimeoutError):
        return f"no data arrived for {TIMEOUT:g} seconds"
    if isinstance(error, (http.client.InvalidURL, ValueError)):
        return f"the server's redirect, or a proxy variable such as https_proxy, is not a valid address ({error})"
    return f"the connection broke ({type(error).__name__}: {error})"
