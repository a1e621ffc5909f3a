"""What a run costs: how long, how much of that in ComfyUI's samplers and its VAE, and how much memory."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import comfy.model_management
import comfy.sample
import comfy.sd
import torch

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Watch:
    """Watches what is done in a ``with`` block; on a GPU through events of its stream, so that nothing waits for the
    clock on the way.

    Args:
        memory: Also find out how much memory is held at most. On a CPU all that is held unused is given back for that,
            which makes the run a little slower: not to be done where time counts.
    """

    WATCHED = (
        (comfy.sample, "sample_custom", "sampling"),
        (comfy.sd.VAE, "encode", "vae"),
        (comfy.sd.VAE, "decode", "vae"),
    )

    def __init__(self, memory: bool = False) -> None:
        self.cuda = comfy.model_management.get_torch_device().type == "cuda"
        self.memory = _Memory(self.cuda) if memory else None
        self.marks: list[tuple] = []  # what it was, when it began and ended

    def __enter__(self):
        self.before = [getattr(owner, name) for owner, name, _ in self.WATCHED]
        for (owner, name, kind), function in zip(self.WATCHED, self.before):
            setattr(owner, name, self._timed(function, kind))
        if self.cuda:
            torch.cuda.synchronize()
        if self.memory:
            self.memory.begin()
        self.start = self._now()
        return self

    def __exit__(self, *_):
        self.marks.append(("total", self.start, self._now()))
        if self.cuda:
            torch.cuda.synchronize()
        self.peak = self.memory.end() if self.memory else None
        for (owner, name, _kind), function in zip(self.WATCHED, self.before):
            setattr(owner, name, function)

    def results(self) -> dict:
        """Seconds, and the peak of additional bytes; None if it was not requested or is unknown."""
        spent = {"sampling": 0.0, "vae": 0.0, "total": 0.0}
        for kind, start, end in self.marks:
            spent[kind] += start.elapsed_time(end) / 1e3 if self.cuda else end - start
        return {**spent, "peak": self.peak}

    def _now(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _timed(self, function, kind):
        def timed(*given, **named):
            start = self._now()
            try:
                return function(*given, **named)
            finally:
                self.marks.append((kind, start, self._now()))

        return timed


class _Memory:
    """On a GPU, PyTorch's allocations; otherwise Linux's count for this process; nothing if there is none."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda

    def begin(self) -> None:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        self.before = None
        if not STATUS.exists():
            return
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # else what earlier runs gave back would be used again and not be seen
            libc.malloc_trim(0)
        try:
            FORGET.write_text("5", encoding="ascii")  # the peak of before
            self.before = self._resident("VmRSS")
        except OSError:
            pass

    def end(self) -> int | None:
        if self.cuda:
            return torch.cuda.max_memory_allocated() - self.before
        return None if self.before is None else max(0, self._resident("VmHWM") - self.before)

    @staticmethod
    def _resident(kind: str) -> int:
        return int(STATUS.read_text(encoding="ascii").split(f"{kind}:")[1].split()[0]) * 1024
