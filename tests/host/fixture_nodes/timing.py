"""What a run costs: how long, how much of that in ComfyUI's samplers and its VAE, and how much memory."""

from __future__ import annotations

import time

import comfy.model_management
import comfy.sample
import comfy.sd
import torch


class Watch:
    """Watches what is done in a ``with`` block. Peak memory in MB, of the GPU; 0 without one."""

    WATCHED = (
        (comfy.sample, "sample_custom", "sampling"),
        (comfy.sd.VAE, "encode", "vae"),
        (comfy.sd.VAE, "decode", "vae"),
    )

    def __enter__(self):
        self.spent = {"sampling": 0.0, "vae": 0.0}
        self.before = [getattr(owner, name) for owner, name, _ in self.WATCHED]
        for (owner, name, kind), function in zip(self.WATCHED, self.before):
            setattr(owner, name, self._timed(function, kind))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.start = self._now()
        return self

    def __exit__(self, *_):
        self.spent["total"] = self._now() - self.start
        for (owner, name, _kind), function in zip(self.WATCHED, self.before):
            setattr(owner, name, function)

    def told(self) -> dict:
        peak = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0
        return {**self.spent, "peak": peak}

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # or the work would count where somebody next waits for it
        return time.perf_counter()

    def _timed(self, function, kind):
        def timed(*given, **named):
            start = self._now()
            try:
                return function(*given, **named)
            finally:
                self.spent[kind] += self._now() - start

        return timed
