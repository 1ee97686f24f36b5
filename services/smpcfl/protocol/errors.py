"""What can go wrong in a round: our own misuse, or something that another party did.

Any other exception that leaves `protocol/` is a bug; the fuzzers hold it to that.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial

_LONGEST = 300  # characters of an error's text


class Reason(StrEnum):
    """Why a message, ticket or round was refused. Bounded: it labels `smpcfl_rejected_total`."""

    MALFORMED = "malformed"
    OTHER_PROTOCOL = "other_protocol"
    WRONG_LENGTH = "wrong_length"
    BAD_SIGNATURE = "bad_signature"
    NOT_IN_COHORT = "not_in_cohort"
    NOT_A_NEIGHBOUR = "not_a_neighbour"
    UNKNOWN_TICKET = "unknown_ticket"
    STALE_SERIAL = "stale_serial"
    FUTURE_SERIAL = "future_serial"
    POLICY_MODE = "policy_mode"
    POLICY_COHORT = "policy_cohort"
    POLICY_THRESHOLD = "policy_threshold"
    POLICY_SURVIVORS = "policy_survivors"
    POLICY_RANGE = "policy_range"
    POLICY_MEMBERS = "policy_members"
    TOO_MANY_TICKETS = "too_many_tickets"
    SECOND_CONFIGURATION = "second_configuration"
    CONFLICTING_COHORTS = "conflicting_cohorts"
    NO_DRAW = "no_draw"
    UNKNOWN_DRAW = "unknown_draw"
    STALE_DRAW = "stale_draw"
    EXPIRED_DRAW = "expired_draw"
    TOO_MANY_LEFT_OUT = "too_many_left_out"
    NOT_THE_GROUP = "not_the_group"
    WRONG_KEY = "wrong_key"
    SECOND_DRAW = "second_draw"
    SECOND_TRAINING = "second_training"
    SECOND_EVALUATION = "second_evaluation"
    MODEL_MISMATCH = "model_mismatch"
    CONFIG_MISMATCH = "config_mismatch"
    EQUIVOCATION = "equivocation"
    BAD_SHARE = "bad_share"
    BAD_COMMITMENT = "bad_commitment"
    BAD_RECEIPT = "bad_receipt"
    WRONG_PHASE = "wrong_phase"
    MASKS_SPENT = "masks_spent"
    TOO_FEW_COUNTING = "too_few_counting"
    TOO_FEW_SURVIVORS = "too_few_survivors"
    TOO_FEW_CONTRIBUTORS = "too_few_contributors"
    TOO_FEW_AGREEMENTS = "too_few_agreements"
    TOO_FEW_ANSWERS = "too_few_answers"
    BAD_HEADER = "bad_header"
    ONE_SIDED_PAIR = "one_sided_pair"
    ISOLATED_SURVIVOR = "isolated_survivor"
    SECOND_SURVIVOR_SET = "second_survivor_set"
    CONFLICTING_SURVIVORS = "conflicting_survivors"
    BAD_TRAILER = "bad_trailer"
    ROUND_CLOSED = "round_closed"
    DEADLINE = "deadline"
    ROLE = "role"
    BAD_TOKEN = "bad_token"
    RATE_LIMITED = "rate_limited"
    REVOKED = "revoked"
    NAME_TAKEN = "name_taken"
    NOT_REGISTERED = "not_registered"


class ProtocolError(Exception):
    """Base of the two declared families."""


class LocalError(ProtocolError):
    """Misuse by our own side: a bad update, a call out of turn, a configuration out of range."""


class RemoteError(ProtocolError):
    """Another party's message was refused, or a round could not be completed because of it.

    `peer` is the party at fault where it is known, `expected` and `found` what was compared.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        peer: str = "",
        expected: object = None,
        found: object = None,
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.peer = peer
        self.expected = expected
        self.found = found
        text = reason.value + (f": {detail}" if detail else "")
        if peer:
            text += f" (peer {peer})"
        if expected is not None or found is not None:
            text += f"; expected {expected}, found {found}"
        super().__init__(clean(text))

    def __reduce__(self) -> tuple[partial[RemoteError], tuple[()]]:
        """For `pickle`, which would call it with the text alone."""
        return partial(
            RemoteError,
            self.reason,
            self.detail,
            peer=self.peer,
            expected=self.expected,
            found=self.found,
        ), ()


def clean(text: str) -> str:
    """What another party sent, or a text that quotes it, for logs: one line of bounded length."""
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])
