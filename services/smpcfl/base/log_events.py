"""What a line of the log is about: its event by a stable name, and the run, round and peer.

A call says so itself: `log.info("...", extra=about(LogEvent.ROUND_ENDED, round=3))`. What holds for a
while is said once: `with during(run=7, round=3): ...`, also for the tasks that are begun within.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from enum import StrEnum

FIELDS = {
    "run": "number of the training run",
    "round": "number of the round that was open",
    "peer": "id of the peer that it is about; where a call was refused, of who called",
}
_context: ContextVar[Mapping[str, int | str]] = ContextVar("about", default={})  # noqa: B039


class LogEvent(StrEnum):
    """The events that matter, by the name that the JSON log has; docs/observability.md lists them."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> LogEvent:
        event = str.__new__(cls, name)
        event._value_ = name
        event.meaning = meaning
        return event

    # Of every service.
    SERVICE_READY = "service_ready", "the service listens, under this name and address"
    SERVICE_FAILED = "service_failed", "a part of the service failed, and so it ends"
    WAITING = "waiting", "the service cannot go on before another one is there"
    REFUSED = "refused", "a message, ticket or enrolment was refused, with its reason"
    NOT_DELIVERED = "not_delivered", "who asked for metrics or targets did not wait for them"
    HELD_BACK = "held_back", "a caller calls too often, and is answered late or not at all"
    STORAGE_FAILED = "storage_failed", "a file of the state folder cannot be written or read"
    CERTIFICATE_RENEWED = "certificate_renewed", "a certificate was renewed"
    CERTIFICATE_NOT_RENEWED = (
        "certificate_not_renewed",
        "the renewal failed; it is tried again until the certificate expires",
    )
    CERTIFICATE_UNFIT = "certificate_unfit", "the certificate that was kept cannot be used, and why"
    REVOKED = "revoked", "a peer is excluded from now on"
    OTHER_PROTOCOL = (
        "other_protocol",
        "peers and the aggregator are of versions that do not understand one another's rounds, and who",
    )
    CLOCK_OFF = "clock_off", "this clock is too far from the registry's or the SuperLink's"
    KEY_DIFFERS = "key_differs", "a peer shows another key than SMPCFL_MEMBERS pins"
    DRAWN = "drawn", "the deployment was cut into groups, or this service learnt of it"
    NOT_DRAWN = "not_drawn", "there is no draw, or this peer is not in it"
    CHILD_RESTARTED = "child_restarted", "one of Flower's daemons ended, and is started again"
    # Of the registry.
    ENROLLED = "enrolled", "a service got its first certificate, or a new one by a token"
    TOKEN_USED = "token_used", "a peer came with the join folder's token: how many ids that made"
    TOKEN_WITHDRAWN = "token_withdrawn", "the registry is given a join token that counts no more"
    REGISTERED = "registered", "a peer is in the roster, with this address"
    LEFT = "left", "a peer signed off"
    # Of a peer.
    REGISTRY_AWAY = "registry_away", "the registry does not answer; rounds go on without it"
    REGISTRY_BACK = "registry_back", "the registry answers again"
    NETWORK_CHANGED = "network_changed", "this peer has another address now"
    MDNS_FAILED = "mdns_failed", "a peer cannot be announced by mDNS, or has no address there"
    MDNS_SILENT = "mdns_silent", "mDNS is off or hears nobody: peers are found by the registry"
    MDNS_NAME_TAKEN = "mdns_name_taken", "another host answers to this peer's name by mDNS"
    ROUND_OPENED = "round_opened", "a ticket was accepted: cohort, threshold, deadlines, guarantee"
    ROUND_CLOSED = "round_closed", "the round is over here, and its secrets are gone"
    ROUND_BROKEN = "round_broken", "a round or a call of it failed by a fault of this program"
    CALL_REFUSED = "call_refused", "another peer refused a call of this one"
    TRAINING_FAILED = "training_failed", "training failed here, and a masked zero is sent"
    METRICS_WITHHELD = "metrics_withheld", "a round has no metrics, or this peer sends none"
    # Of the aggregator.
    WAITING_FOR_PEERS = "waiting_for_peers", "fewer peers are there than a round needs"
    RUN_STARTED = "run_started", "a training run starts, was submitted, or goes on"
    RUN_CUT_OFF = "run_cut_off", "a run's ServerApp or SuperLink ended before the run did"
    RUN_NOT_TAKEN = "run_not_taken", "a run cannot be submitted yet"
    RUN_ENDED = "run_ended", "a run is complete, was stopped, or failed"
    ROUND_ENDED = "round_ended", "the line of a round: outcome, survivors, accuracy, bytes, seconds"
    ROUND_VOID = "round_void", "a round or an evaluation came to nothing, with the reason"
    ROUND_AGAIN = "round_again", "a round is run again"
    GROUP_VOID = "group_void", "one group's part of a round came to nothing"
    NOT_UPLOADED = "not_uploaded", "peers of the cohort sent no upload, with their reason"
    UPLOAD_LEFT_OUT = "upload_left_out", "an upload cannot count, with the reason"
    NOT_UNMASKED = "not_unmasked", "a peer does not answer the unmask, or not as it should"
    PEER_AWAY = "peer_away", "a peer does not answer, and is left out of cohorts"
    PEER_BACK = "peer_back", "a peer has started again"
    PEERS_REFUSE = "peers_refuse", "connected peers refuse to take part, with their reason"
    SITS_OUT = "sits_out", "peers that are there cannot take part in this round"
    SUSPECTED = "suspected", "a peer's groups keep ending void while others complete"
    NO_CHECKPOINT = "no_checkpoint", "a round's checkpoint is not kept, is damaged, or does not fit"


def about(
    event: LogEvent | None,
    *,
    run: int | None = None,
    round: int | None = None,
    peer: str | None = None,
) -> dict[str, int | str]:
    """For `extra` of a call."""
    return {**({"event": event} if event else {}), **_given(run, round, peer)}


@contextlib.contextmanager
def during(
    *, run: int | None = None, round: int | None = None, peer: str | None = None
) -> Iterator[None]:
    token = _context.set({**_context.get(), **_given(run, round, peer)})
    try:
        yield
    finally:
        _context.reset(token)


def fields_of(record: logging.LogRecord) -> dict[str, int | str]:
    """What is known of FIELDS; what the call said goes before what holds for a while."""
    known = {**_context.get(), **record.__dict__}
    return {name: known[name] for name in FIELDS if name in known}


def _given(run: int | None, round: int | None, peer: str | None) -> dict[str, int | str]:
    """Zero and the empty name are what protobuf has for unknown."""
    return {
        name: value for name, value in (("run", run), ("round", round), ("peer", peer)) if value
    }
