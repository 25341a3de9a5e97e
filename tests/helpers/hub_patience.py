"""Waits of the hub's client, noted and not waited for."""

import time
from types import SimpleNamespace

import pytest


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that would have been waited between tries, of which there are three."""
    from sae_stitching.hub import patience

    waits: list[float] = []
    clock = SimpleNamespace(sleep=waits.append, time=time.time)
    monkeypatch.setattr(patience, "time", clock)
    monkeypatch.setattr(patience, "WAITS", (1.0, 2.0))
    return waits
