"""How many examples the property tests use: few in the usual run, 10,000 with the hypothesis profile ``deep``."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

DEEP = 10_000

settings.register_profile("deep", max_examples=DEEP, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def examples(count: int) -> settings:
    """A decorator for ``count`` examples, or more if the profile is ``deep``."""
    is_deep = settings().max_examples == DEEP
    return settings(max_examples=DEEP if is_deep else count, deadline=None)
