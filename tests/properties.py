"""How many examples the property tests use: 100 by default, 10,000 with the hypothesis profile ``deep``."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("default_100", max_examples=100, deadline=None)
settings.register_profile("deep", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default_100")
