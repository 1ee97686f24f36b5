"""Rounds that lose peers: exact, or none."""

from __future__ import annotations

import pytest

from smpcfl.bench.round_costs import PHASES, play
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.ticket import SEEDED


@pytest.mark.parametrize("phase", PHASES)
def test_whoever_has_uploaded_counts_and_nobody_else(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[str] = []
    take = AggregatorRound.upload

    def taking(self: AggregatorRound, peer: str, upload: object) -> None:
        uploaded.append(peer)
        take(self, peer, upload)

    monkeypatch.setattr(AggregatorRound, "upload", taking)
    figures = play(SEEDED, 6, 20, lost={2: phase})  # it checks the sum itself
    cohort = list(figures.ticket.cohort)
    if phase not in ("agree", "unmask"):
        cohort.pop(2)
    assert uploaded == cohort
    assert figures.survivors == len(cohort)


def test_more_lost_than_a_round_withstands_give_no_figures() -> None:
    with pytest.raises(RemoteError):
        play(SEEDED, 6, 20, lost={0: "upload", 1: "exchange", 2: "train"})
