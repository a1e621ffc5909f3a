"""Calls the hooks that other packs plug into the detailer. Missing methods are no-ops."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..checks import check_number, check_whole_number, describe
from ..engine import Host
from ..errors import PackError


class Hooks:
    """The methods of `engine.Hook` with checked results. A method that the hook lacks changes nothing.

    Args:
        hook: A hook object, or None.
        host: Recognizes interrupts and out-of-memory errors, which propagate unchanged. Other errors become a
            `PackError` that names the hook's class and method.
    """

    def __init__(self, hook: object | None, host: Host) -> None:
        self._hook, self._host = hook, host

    @property
    def exist(self) -> bool:
        """Whether there is a hook."""
        return self._hook is not None

    def touch_scaled_size(self, width: int, height: int) -> tuple[int, int]:
        size = self._call("touch_scaled_size", width, height, default=(width, height))
        try:
            width, height = (check_whole_number(length, "size", low=1) for length in size)
        except (TypeError, ValueError):
            raise self._wrong_result("touch_scaled_size", size, "a width and a height in whole pixels") from None
        return width, height

    def post_upscale(self, pixels: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        method = self._method("post_upscale")
        if method is None:
            return pixels
        args = (pixels, mask) if _accepts(method, pixels, mask) else (pixels,)
        return self._pixels("post_upscale", self._call("post_upscale", *args))

    def get_skip_sampling(self) -> bool:
        result = self._call("get_skip_sampling", default=False)
        try:
            return bool(result)
        except (RuntimeError, ValueError):  # a tensor or an array of several values
            raise self._wrong_result("get_skip_sampling", result, "true or false") from None

    def post_encode(self, latent: dict[str, Any]) -> dict[str, Any]:
        return self._latent("post_encode", latent)

    def get_custom_sampler(self) -> Any:
        return self._call("get_custom_sampler", default=None)

    def set_steps(self, cycle: int, cycles: int) -> None:
        self._call("set_steps", (cycle, cycles), default=None)

    def cycle_latent(self, latent: dict[str, Any]) -> dict[str, Any]:
        return self._latent("cycle_latent", latent)

    def pre_ksample(self, *args: Any) -> tuple[Any, ...]:
        """Return the hook's ten values. A ``denoise`` of (almost) 0 skips the cycle."""
        result = self._call("pre_ksample", *args, default=args)
        try:
            model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise = result
            steps = check_whole_number(int(steps), "steps", low=1)
            cfg, denoise = check_number(cfg, "cfg"), check_number(denoise, "denoise")
            seed = int(seed)
        except (TypeError, ValueError, OverflowError):
            expected = "model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent and denoise"
            raise self._wrong_result("pre_ksample", result, expected) from None
        return model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise

    def get_custom_noise(self, seed: int, samples: torch.Tensor) -> torch.Tensor | None:
        """The hook's noise for ``samples``; None for the usual noise."""
        if self._method("get_custom_noise") is None:
            return None
        zeros = torch.zeros(samples.shape)  # on the CPU, where the host generates noise
        result = self._call("get_custom_noise", seed, zeros, is_touched=False)
        try:
            noise, is_touched = result
            if not is_touched or not noise.any():  # a combined hook may report untouched zeros as touched
                return None
            fits = noise.shape == samples.shape and bool(torch.isfinite(noise).all())
        except (TypeError, ValueError, AttributeError):
            fits = False
        if not fits:
            expected = f"finite noise of shape {list(samples.shape)}, and whether it is touched"
            raise self._wrong_result("get_custom_noise", result, expected)
        return noise

    def pre_decode(self, latent: dict[str, Any]) -> dict[str, Any]:
        return self._latent("pre_decode", latent)

    def post_decode(self, pixels: torch.Tensor) -> torch.Tensor:
        if self._method("post_decode") is None:
            return pixels
        return self._pixels("post_decode", self._call("post_decode", pixels))

    def post_paste(self, image: torch.Tensor, low: float, high: float) -> torch.Tensor:
        """``[1,H,W,C]`` -> the same shape, or without alpha, clamped to ``low`` .. ``high``. The hook may change
        ``image`` in place."""
        if self._method("post_paste") is None:
            return image
        changed = self._pixels("post_paste", self._call("post_paste", image), image.shape[-1], low, high)
        if changed.shape[:3] != image.shape[:3]:
            raise self._wrong_result("post_paste", changed, f"an image of shape {list(image.shape)}")
        return changed

    def _method(self, name: str) -> Callable | None:
        method = getattr(self._hook, name, None)
        return method if callable(method) else None

    def _call(self, name: str, *args: Any, default: Any = None, **options: Any) -> Any:
        method = self._method(name)
        if method is None:
            return default
        try:
            return method(*args, **options)
        except Exception as error:
            if self._host.is_interrupt(error) or self._host.is_out_of_memory(error):
                raise
            raise PackError(
                f"The detailer hook {self._full_name(name)} failed: {type(error).__name__}: {error}",
                "Remove the hook, or check its settings",
                code="hook failed",
            ) from error

    def _latent(self, name: str, latent: dict[str, Any]) -> dict[str, Any]:
        changed = self._call(name, latent, default=latent)
        if not isinstance(changed, Mapping) or not isinstance(changed.get("samples"), torch.Tensor):
            raise self._wrong_result(name, changed, "a latent")
        for part in ("samples", "noise_mask"):  # check here: later, the sampler or the VAE would be blamed
            values = changed.get(part)
            if isinstance(values, torch.Tensor) and not torch.isfinite(values).all():
                raise self._wrong_result(name, values, f"a latent without NaN or infinite values in {part}")
        return dict(changed)

    def _pixels(self, name: str, changed: Any, channels: int = 3, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Check a hook's image, keep only its first ``channels``, and clamp it to ``low`` .. ``high``. Return the same
        tensor if nothing changes."""
        shape = changed.shape if isinstance(changed, torch.Tensor) else ()
        if len(shape) != 4 or shape[0] != 1 or shape[-1] < 3 or 0 in shape:
            raise self._wrong_result(name, changed, "one image [1, height, width, channels]")
        changed = (changed[..., :channels] if shape[-1] > channels else changed).float()
        lowest, highest = (bound.item() for bound in changed.aminmax())  # NaN makes both NaN
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise self._wrong_result(name, changed, "an image without NaN or infinite values")
        return changed if lowest >= low and highest <= high else changed.clamp(low, high)

    def _full_name(self, method: str) -> str:
        return f"{type(self._hook).__name__}.{method}"

    def _wrong_result(self, method: str, result: Any, expected: str) -> PackError:
        return PackError(
            f"The detailer hook {self._full_name(method)} returned {describe(result)}, not {expected}",
            "Remove the hook, or ask its author",
            code="hook result",
        )


def _accepts(method: Callable, *args: Any) -> bool:
    """Whether ``method`` can be called with ``args``; True if it has no signature to check."""
    try:
        inspect.signature(method).bind(*args)
    except TypeError:
        return False
    except ValueError:
        return True
    return True
