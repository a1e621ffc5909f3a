"""One line on the terminal about what goes on."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Self


class ProgressLine:
    """One line about what goes on, for anything that takes more than a second.

    On a terminal the line is redrawn in place (by tqdm where it is installed and there is a count); elsewhere, such
    as in a log file, a line is written for a step that takes more than a second, and then every ten seconds. Within
    a `with` block the line keeps ticking by itself, also while nothing is reported.
    """

    PATIENCE = 1.0
    REPEAT = 10.0

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._terminal = stream.isatty()
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._began = self._since = clock()
        self._step: tuple[str, int | None, int | None] | None = None
        self._written = ("", 0.0)
        self._drawn = 0
        self._bar = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep_ticking, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._finished.set()

    def show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Tell what goes on now: a text, and `done` of `total` where there is a count."""
        with self._lock:
            if self._step is None or self._step[0] != text:
                self._close_bar()
                self._since = self._clock()
            self._step = (text, done, total)
        self.tick()

    def tick(self) -> None:
        """Bring the line up to date, once it is time to show one."""
        with self._lock:
            now = self._clock()
            if self._step is None or now - (self._began if self._terminal else self._since) < self.PATIENCE:
                return
            text, done, total = self._step
            if not self._terminal:
                self._write_line(text, done, total, now)
            elif total and _tqdm() is not None:
                self._draw_bar(text, done or 0, total)
            else:
                self._draw(self._sentence(text, done, total, now))

    def end(self) -> None:
        """Leave a clean line behind, until something is shown again. Safe to call twice."""
        with self._lock:
            self._step = None
            self._close_bar()
            self._wipe()

    def _keep_ticking(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # Signals are the main thread's: one that is delivered to this thread does not wake that one as it waits.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        while not self._finished.wait(0.25):
            self.tick()

    def _sentence(self, text: str, done: int | None, total: int | None, now: float) -> str:
        count = f" {done or 0}/{total}" if total else ""
        return f"{text}{count} ({now - self._since:.0f} s)"

    def _write_line(self, text: str, done: int | None, total: int | None, now: float) -> None:
        if self._written[0] == text and now - self._written[1] < self.REPEAT:
            return
        self._written = (text, now)
        self._stream.write(self._sentence(text, done, total, now) + "\n")
        self._stream.flush()

    def _draw(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + line.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(line)

    def _wipe(self) -> None:
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0

    def _draw_bar(self, text: str, done: int, total: int) -> None:
        if self._bar is None or self._bar.total != total:
            self._close_bar()
            self._wipe()
            self._bar = _tqdm()(total=total, desc=text, file=self._stream, leave=False)
        self._bar.n = done
        self._bar.refresh()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _tqdm() -> type | None:
    if importlib.util.find_spec("tqdm") is None:
        return None
    from tqdm import tqdm

    return tqdm
