"""What a strategy takes from the deployment that its ServerApp runs in."""

from __future__ import annotations

import pytest
from flwr.serverapp.strategy import FedAvg

from smpcfl.flower import SecureStrategy


def test_it_waits_for_as_many_peers_as_the_aggregator_says(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = FedAvg(fraction_evaluate=0.0)
    monkeypatch.delenv("SMPCFL_MIN_PEERS", raising=False)
    assert SecureStrategy(inner).settings.min_peers == 5
    monkeypatch.setenv("SMPCFL_MIN_PEERS", "8")
    assert SecureStrategy(inner).settings.min_peers == 8
    assert SecureStrategy(inner, min_peers=3).settings.min_peers == 3, (
        "the app's own word comes first"
    )
