"""Settings whose values are checked when they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any


def setting(default: Any, check: Callable[[object, str], Any], **limits: float) -> Any:
    """A field of `Settings` whose value becomes ``check(value, name, **limits)``."""
    return dataclasses.field(default=default, metadata={"check": partial(check, **limits)})


class Settings:
    """Base of frozen dataclasses with fields made by `setting`."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):  # pyright: ignore[reportArgumentType] - subclasses are dataclasses
            value = each.metadata["check"](getattr(self, each.name), each.name)
            object.__setattr__(self, each.name, value)
