"""The phase table: what is not in it is refused, and the docs show exactly it."""

from __future__ import annotations

from itertools import product

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.phases import TRANSITIONS, Event, Phase, step
from support.diagram import documented, mermaid

LEGAL = [(phase, event) for phase, events in TRANSITIONS.items() for event in events]
ILLEGAL = [pair for pair in product(Phase, Event) if pair not in LEGAL]


def test_every_phase_has_a_row() -> None:
    assert set(TRANSITIONS) == set(Phase)


@pytest.mark.parametrize(("phase", "event"), LEGAL)
def test_legal_pairs_lead_where_the_table_says(phase: Phase, event: Event) -> None:
    assert step(phase, event) is TRANSITIONS[phase][event]


@pytest.mark.parametrize(("phase", "event"), ILLEGAL)
def test_every_other_pair_is_refused(phase: Phase, event: Event) -> None:
    with pytest.raises(RemoteError) as error:
        step(phase, event)
    closed = phase is Phase.CLOSED
    assert error.value.reason is (Reason.ROUND_CLOSED if closed else Reason.WRONG_PHASE)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.CLOSED])
def test_every_phase_can_close(phase: Phase) -> None:
    assert step(phase, Event.CLOSE) is Phase.CLOSED


def _reachable(start: Phase) -> set[Phase]:
    found: set[Phase] = set()
    waiting = [start]
    while waiting:
        phase = waiting.pop()
        if phase not in found:
            found.add(phase)
            waiting += TRANSITIONS[phase].values()
    return found


def test_every_phase_is_reachable() -> None:
    assert _reachable(Phase.EXCHANGE) == set(Phase)


@pytest.mark.parametrize("phase", [Phase.AGREED, Phase.ANSWERED, Phase.ABSTAINED])
def test_nothing_is_masked_or_uploaded_after_a_decision(phase: Phase) -> None:
    assert not _reachable(phase) & {Phase.MASKED, Phase.UPLOADED}


def test_the_docs_show_the_table() -> None:
    block = documented()
    if block is None:
        pytest.skip("docs/protocol.md has no phases:begin and phases:end markers yet")
    assert block == mermaid(), "run python -m support.diagram and paste its output"
