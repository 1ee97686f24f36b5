"""Tickets on the wire: what they ask for beside the model arrives as it was signed, or not at all."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from smpc.v1 import messages_pb2 as pb
from smpcfl import __version__
from smpcfl.net import wire
from smpcfl.protocol.encoding import VERSION
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.summed_metrics import MOST_NUMBERS, MetricNames
from smpcfl.protocol.ticket import EVALUATE, SignedTicket, Ticket
from smpcfl.protocol.trailer import LENGTH
from support.network import make_ticket

TRAINING = make_ticket(5).ticket
NAMED = MetricNames((("accuracy", 0), ("f1", 3), ("verlässlich", 1)))


def over_the_wire(ticket: Ticket) -> SignedTicket:
    sent = wire.ticket_to_proto(SignedTicket(ticket, b"s" * 64)).SerializeToString()
    return wire.ticket_from_proto(pb.SignedTicket.FromString(sent))


def with_metrics(metrics: MetricNames, **changes: Any) -> Ticket:
    return replace(TRAINING, metrics=metrics, wide=metrics.words + LENGTH, **changes)


@pytest.mark.parametrize(
    "ticket",
    [
        TRAINING,
        with_metrics(NAMED),
        with_metrics(MetricNames(open=True)),
        with_metrics(NAMED, task=EVALUATE, body=0),
        with_metrics(MetricNames(tuple((f"m{i:02}", 0) for i in range(MOST_NUMBERS)))),
        with_metrics(NAMED, weighted_by="images"),
        with_metrics(NAMED, arrays=("lora_a", "lora_ü")),
    ],
    ids=["none", "named", "open", "evaluation", "64 names", "weighted by another", "a part"],
)
def test_what_a_ticket_asks_for_arrives_as_it_was_signed(ticket: Ticket) -> None:
    found = over_the_wire(ticket).ticket
    assert found == ticket
    assert found.signed_bytes == ticket.signed_bytes
    assert found.metrics.words == ticket.metrics.words


def test_every_field_of_a_ticket_is_on_the_wire() -> None:
    assert {item.name for item in fields(Ticket)} == {f.name for f in pb.Ticket.DESCRIPTOR.fields}


@pytest.mark.parametrize(
    ("version", "older"),
    [(3, "this peer"), (2**32 - 1, "this peer"), (1, "the aggregator")],
)
def test_a_ticket_of_another_version_says_who_has_to_be_upgraded(version: int, older: str) -> None:
    """Nothing else of it is looked at, which a later version may mean otherwise."""
    message = pb.SignedTicket(
        ticket=pb.Ticket(version=version, mode="mesh", cohort=["a"] * 5000, clip=float("nan"))
    )
    with pytest.raises(RemoteError) as caught:
        wire.ticket_from_proto(message)
    assert caught.value.reason is Reason.OTHER_PROTOCOL
    assert str(caught.value) == (
        f"other_protocol: this ticket is of protocol version {version}, this peer (smpcfl"
        f" {__version__}) speaks {VERSION}: upgrade {older}"
    )


def test_any_other_task_weight_or_metric_is_under_another_signature() -> None:
    one = with_metrics(NAMED, body=0)
    others = [
        replace(one, task=EVALUATE),
        replace(one, weighted_by="images"),
        replace(one, metrics=MetricNames((("accuracy", 0), ("f1", 3), ("verlässlich", 0)))),
        replace(one, metrics=MetricNames((("accuracy", 0), ("f1", 4)))),
        replace(one, arrays=("lora_a",)),
    ]
    assert len({ticket.digest for ticket in (one, *others)}) == 6


def changed(change: str) -> pb.SignedTicket:
    message = wire.ticket_to_proto(SignedTicket(with_metrics(NAMED), b"s" * 64))
    ticket = message.ticket
    if change == "no task":
        ticket.task = ""
    elif change == "no weight":
        ticket.ClearField("weighted_by")
    elif change == "no metrics, but room for them":
        ticket.ClearField("metrics")
    elif change == "open and named":
        ticket.metrics.open = True
    elif change == "too long a list":
        ticket.metrics.named[1].length = 2**32 - 1
    elif change == "a name twice":
        ticket.metrics.named[1].name = "accuracy"
    elif change == "65 names":
        ticket.metrics.named.extend(pb.Metric(name=f"x{i}") for i in range(62))
    elif change == "ten thousand names":
        ticket.metrics.named.extend([pb.Metric()] * 10**4)
    elif change == "an array twice":
        ticket.arrays.extend(["lora_a", "lora_a"])
    elif change == "ten thousand arrays":
        ticket.arrays.extend(f"a{i:05}" for i in range(10**4))
    elif change == "an evaluation with a model":
        ticket.task = EVALUATE
    return message


@pytest.mark.parametrize(
    "change",
    [
        "no task",
        "no weight",
        "open and named",
        "too long a list",
        "a name twice",
        "65 names",
        "ten thousand names",
        "an array twice",
        "ten thousand arrays",
        "an evaluation with a model",
    ],
)
def test_what_no_honest_aggregator_sends_is_malformed(change: str) -> None:
    with pytest.raises(RemoteError) as error:
        wire.ticket_from_proto(changed(change))
    assert error.value.reason is Reason.MALFORMED


def test_without_metrics_it_is_another_ticket() -> None:
    """Its vector has room for more integers then, and no model fits both."""
    found = wire.ticket_from_proto(changed("no metrics, but room for them")).ticket
    assert found.metrics == MetricNames()
    assert found.digest != with_metrics(NAMED).digest
