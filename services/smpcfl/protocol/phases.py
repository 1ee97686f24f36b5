"""A peer's way through one round.

1. Nothing is masked before READY, and masks are given out once.
2. From AGREED on nothing is masked or uploaded any more, and one survivor set is final.
Whatever is not in the table is refused, and leaves the phase as it is.
"""

from __future__ import annotations

from enum import StrEnum

from .errors import Reason, RemoteError


class Phase(StrEnum):
    EXCHANGE = "exchange"
    READY = "ready"
    MASKED = "masked"
    UPLOADED = "uploaded"
    ABSTAINED = "abstained"
    AGREED = "agreed"
    ANSWERED = "answered"
    CLOSED = "closed"


class Event(StrEnum):
    CONFIRMED = "confirmed"
    MASK = "mask"
    FREEZE = "freeze"
    ABSTAIN = "abstain"
    SURVIVORS = "survivors"
    ANSWER = "answer"
    CLOSE = "close"


TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    Phase.EXCHANGE: {
        Event.CONFIRMED: Phase.READY,
        Event.ABSTAIN: Phase.ABSTAINED,
        Event.SURVIVORS: Phase.AGREED,
        Event.CLOSE: Phase.CLOSED,
    },
    Phase.READY: {
        Event.MASK: Phase.MASKED,
        Event.ABSTAIN: Phase.ABSTAINED,
        Event.SURVIVORS: Phase.AGREED,
        Event.CLOSE: Phase.CLOSED,
    },
    Phase.MASKED: {
        Event.FREEZE: Phase.UPLOADED,
        Event.ABSTAIN: Phase.ABSTAINED,
        Event.SURVIVORS: Phase.AGREED,
        Event.CLOSE: Phase.CLOSED,
    },
    Phase.UPLOADED: {Event.SURVIVORS: Phase.AGREED, Event.CLOSE: Phase.CLOSED},
    Phase.ABSTAINED: {Event.SURVIVORS: Phase.AGREED, Event.CLOSE: Phase.CLOSED},
    Phase.AGREED: {Event.ANSWER: Phase.ANSWERED, Event.CLOSE: Phase.CLOSED},
    Phase.ANSWERED: {Event.CLOSE: Phase.CLOSED},
    Phase.CLOSED: {},
}


def step(phase: Phase, event: Event) -> Phase:
    """The next phase; RemoteError(WRONG_PHASE or ROUND_CLOSED) for an illegal pair."""
    try:
        return TRANSITIONS[phase][event]
    except KeyError:
        reason = Reason.ROUND_CLOSED if phase is Phase.CLOSED else Reason.WRONG_PHASE
        raise RemoteError(reason, f"{event} in phase {phase}") from None
