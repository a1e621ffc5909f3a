"""One HTTP request on a thread of its own, so that the caller can react to the user's interrupt at any time.

huggingface_hub and pooch could check for an interrupt only after each large chunk, so a slow or silent server would
block ComfyUI's only worker; hence urllib and a thread.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import queue
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..core.errors import DependencyError, ModelError
from ..core.packages import import_package

TIMEOUT = 20.0  # seconds without a single byte
POLL_INTERVAL = 0.2  # seconds between checks for the user's interrupt
_PIECE = 1 << 18  # bytes
_PIECES_AHEAD = 32  # received, but not yet taken by the caller


class TransferError(Exception):
    """The network or the server failed.

    Args:
        cause: What urllib raised.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Transfer:
    """A GET request as a context manager: it starts on entry, and exit closes its connection even while the thread
    waits for data. A connection attempt in progress ends by itself within `TIMEOUT`.

    Args:
        url: The address; redirects are followed, over http and https.
        start: Offset of the first byte to request.
        secrets: Headers sent only to the server of ``url``, not to servers that it redirects to.
        idle: Called every `POLL_INTERVAL` seconds while nothing arrives. May raise to end the wait.

    Raises:
        ModelError: The certificates of Python's certifi package cannot be read.
    """

    def __init__(self, url: str, start: int, secrets: Mapping[str, str], idle: Callable[[], None]) -> None:
        self._url, self._start, self._secrets, self._idle = url, start, secrets, idle
        self._opener = _opener(self._keep)
        self._arrived: queue.Queue[Any] = queue.Queue(_PIECES_AHEAD)
        self._stopped = threading.Event()
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._receive, name="maskwright download", daemon=True)

    def __enter__(self) -> Transfer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._stopped.set()
            self._drop_connection()
        self._thread.join(POLL_INTERVAL)

    def head(self) -> tuple[int, int | None]:
        """The response's status and the number of bytes to come, None if the server does not say.

        Raises:
            TransferError: There is no response, or its status is an error.
        """
        return self._next()

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive; call `head` first.

        Raises:
            TransferError: The connection broke. If the server closes it early, the bytes just end.
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
            if isinstance(item, (OSError, http.client.HTTPException, ValueError)):
                raise TransferError(item) from item
            if isinstance(item, BaseException):
                raise item
            return item

    # On the thread

    def _receive(self) -> None:
        try:
            request = urllib.request.Request(self._url, headers={"User-Agent": "maskwright"})
            if self._start:
                request.add_header("Range", f"bytes={self._start}-")
            for name, value in self._secrets.items():
                request.add_unredirected_header(name, value)
            with self._opener.open(request, timeout=TIMEOUT) as response:
                left = response.length
                self._put((response.status, left))
                while left != 0 and not self._stopped.is_set():
                    piece = response.read1(_PIECE if left is None else min(_PIECE, left))
                    if not piece:
                        break
                    left = None if left is None else left - len(piece)
                    self._put(piece)
            self._put(b"")
        except BaseException as error:  # the caller's thread raises it
            self._put(error)
            if isinstance(error, urllib.error.HTTPError):
                error.close()

    def _put(self, item: object) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                return self._arrived.put(item, timeout=POLL_INTERVAL)

    def _keep(self, connection: socket.socket) -> None:
        """Remember the newest connection (each redirect makes another), so that the caller can close it."""
        with self._lock:
            self._drop_connection()
            if self._stopped.is_set():
                raise ConnectionAbortedError("the download was stopped")
            self._connection = connection.dup()  # TLS detaches the original socket

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):  # already closed by the server
                self._connection.shutdown(socket.SHUT_RDWR)
            self._connection.close()
            self._connection = None


class _Connection(http.client.HTTPConnection):
    """Hands its socket to ``keep`` once it is connected, before anything is sent."""

    keep: Callable[[socket.socket], None]

    def connect(self) -> None:
        super().connect()
        self.keep(self.sock)


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """In this order of base classes the socket is handed over before the TLS handshake, which may hang too."""


class _Handler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens http and https with the connections above."""

    def __init__(self, keep: Callable[[socket.socket], None], context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._keep, self._tls = keep, context

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(self._connection, _Connection), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(self._connection, _TlsConnection), request, context=self._tls)

    def _connection(self, kind: type[_Connection], host: str, **arguments: Any) -> _Connection:
        connection = kind(host, **arguments)
        connection.keep = self._keep
        return connection


def _opener(keep: Callable[[socket.socket], None]) -> urllib.request.OpenerDirector:
    # Not urlopen's, which another pack may have replaced. Without ftp, file and data.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(keep, _tls_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        certifi = import_package("certifi", "", "where")  # some Pythons on macOS have no authorities of their own
    except DependencyError:
        return context
    authorities = certifi.where()
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        raise ModelError(
            f"the file of certificate authorities {authorities}, which the Python package certifi names, cannot be "
            f"read ({error})",
            "Install that package again: python -m pip install --force-reinstall certifi",
        ) from error
    return context
