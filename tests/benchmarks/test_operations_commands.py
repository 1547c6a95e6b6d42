"""Measurements that docs/operations.md names, smaller; `kills.py` is run by tests/providers/test_flights.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from providers.redis_link import URL_VARIABLE
from tests.providers.redis_door import REDIS_URL, needs_redis

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@needs_redis
@pytest.mark.timeout(900)
def test_limits_are_used_and_kept_and_a_call_has_a_price() -> None:
    """The first waits more than it works, so that the second is run beside it."""
    order = [sys.executable, str(BENCHMARKS / "limits.py"), "--minutes", "2", "--processes", "2", "--json"]
    limits = subprocess.Popen(order, stdout=subprocess.PIPE, text=True, env={**os.environ, URL_VARIABLE: REDIS_URL})
    try:
        order = [sys.executable, str(BENCHMARKS / "gateway.py"), "--quick", "--clients", "aiohttp", "colonnade_openai"]
        gateway = subprocess.run(order, capture_output=True, text=True, check=True, timeout=600).stdout
        out, _ = limits.communicate(timeout=300)
    finally:
        limits.kill()
    assert "CPU ms per call" in gateway
    assert gateway.count("colonnade_openai") == 2
    assert "a hit: " in gateway
    found = json.loads(out.splitlines()[-1])
    # After the first minute; a busy machine cannot use all of it.
    assert 0.5 < found["requests_used"] <= 1
    assert found["refused"] <= 0.02
