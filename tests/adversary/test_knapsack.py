"""A clip so small that each entry is a sign: one sum of a few peers is then a knapsack, and is solved.

Entry by entry, an update cut to a tiny clip is the sign of each entry times the number of examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Context, Message

from smpcfl.protocol import ticket as ticket_module
from smpcfl.protocol import trailer
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.quantise import ROTATED, Change, ModelShape, Quantiser, encode_update
from smpcfl.protocol.ring import Elements, RingVector, signed
from support.apps import App, Arrays, Called, Mods, fresh_model, step
from support.deployed import Deployed
from support.network import make_ticket
from support.remembering import Remembering
from support.unchecked import Check, check, removed

PEERS, INPUTS, WIDTH, CAP = 5, 60, 32, 1024
EXAMPLES = (311, 407, 500, 613, 722)
TINY = 1e-30
CLIPS = np.geomspace(2e-5, 0.5, 56)
Floats = npt.NDArray[np.float64]

RANGE = check(Policy, "check", Reason.POLICY_RANGE)
ONE_CONFIGURATION = check(Ledger, "check", Reason.SECOND_CONFIGURATION)


def cut(
    self: Quantiser, changes: list[Change], examples: int, rounding: Secret, out: Elements
) -> tuple[bool, bool]:
    """The quantiser as it was: each entry cut to the clip for itself."""
    update = np.concatenate([(new - old).ravel() for old, new in changes]).astype(np.float64)
    weight = min(examples, self.weight_cap) / (self.cohort * self.weight_cap)
    scaled = np.clip(update / self.clip, -1.0, 1.0) * (self.span * weight)
    chance = np.random.default_rng(list(rounding)).random(len(scaled))
    out[:] = np.floor(scaled + chance).astype(np.int64).astype(out.dtype)
    largest = float(np.abs(update).max(initial=0.0))
    return largest > self.clip, largest < self.clip / 2


@contextmanager
def as_it_was(*checks: Check) -> Iterator[None]:
    with patch.object(Quantiser, "encode", cut), removed(*checks):
        yield


class Federation:
    """Five honest peers with data of their own, one model, and the sums that an aggregator asks for."""

    def __init__(self, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=(INPUTS, 10))
        self.model = fresh_model(INPUTS, seed=seed)
        self.trained: list[Arrays] = []
        for count in EXAMPLES:
            x = rng.normal(size=(count, INPUTS)).astype(np.float32)
            y = (x @ truth + 4 * rng.normal(size=(count, 10))).argmax(axis=1)
            model = self.model
            for _ in range(3):
                model, _, _ = step(model, x, y)
            self.trained.append(model)
        self.ledgers: dict[str, Ledger] = {}
        self._serial = 0

    def update(self, peer: int) -> Floats:
        return np.concatenate(
            [
                (self.trained[peer][name].astype(np.float64) - value.astype(np.float64)).ravel()
                for name, value in self.model.items()
            ]
        )

    def sum(self, clip: float, width: int = WIDTH) -> tuple[Floats, int] | list[Reason]:
        """What a ticket with this clip gives: the body in units of one example at the clip, and Σ n_i.

        Why nobody follows it, if nobody does.
        """
        self._serial += 1
        count = sum(value.size for value in self.model.values())
        body = ModelShape.of(self.model).layout(width).body
        made = make_ticket(
            PEERS, width=width, body=body, serial=self._serial, clip=clip, weight_cap=CAP
        )
        net = Remembering(made, seed=self._serial, ledgers=self.ledgers)
        ticket = made.ticket
        for place, peer in enumerate(ticket.cohort):
            rng = np.random.default_rng((self._serial, place))
            net.addends[peer] = self._addend(ticket, place, Secret(rng.bytes(32)))
        net.start()
        if not net.rounds:
            return net.refusals
        for phase in (net.exchange, net.ready, net.upload):
            phase()
        total = net.unmask()
        assert total == net.expected()
        counted = trailer.decode(total.wide[-trailer.LENGTH :], PEERS)
        if width == ROTATED:
            entries, _ = ticket.quantiser.entries(total.body, count, counted.weight)
            return entries.astype(np.float64), counted.examples
        example = ticket.quantiser.span / (PEERS * CAP)
        return signed(total.body).astype(np.float64) / example, counted.examples

    def _addend(self, ticket: ticket_module.Ticket, place: int, rounding: Secret) -> RingVector:
        return encode_update(
            ticket.quantiser,
            self.model,
            self.trained[place],
            examples=EXAMPLES[place],
            rounding=rounding,
        )


def sizes(body: Floats, examples: int) -> list[int]:
    """The n_i, from Σ ±n_i for each entry; whatever these sums come to where they are none."""
    # With Σ n_i known, half the difference is the sum over those whose sign is minus.
    minus = sorted({int(value) for value in np.rint((examples - body) / 2) if value > 0})
    found: list[int] = []
    reached = {0}
    for value in minus:
        if value not in reached:
            found.append(value)
            reached |= {other + value for other in reached}
        if sum(found) >= examples:
            break
    return found


SUBSETS = [c for size in range(PEERS + 1) for c in combinations(range(PEERS), size)]
MEMBERS = np.array([[peer in subset for peer in range(PEERS)] for subset in SUBSETS])


def signs(body: Floats, examples: list[int]) -> Floats:
    """±1 for each entry and peer, shape (m, 5): the signs whose sum comes nearest."""
    choices = np.where(MEMBERS, -1.0, 1.0)
    nearest = np.abs(body[:, None] - choices @ np.array(examples)).argmin(axis=1)
    return np.asarray(choices[nearest])


def right_signs(federation: Federation, found: Floats) -> list[float]:
    """The share of entries in which each peer's sign is right."""
    return [float((found[:, i] == np.sign(federation.update(i))).mean()) for i in range(PEERS)]


def test_one_sum_under_a_tiny_clip_gives_every_number_of_examples_and_every_sign() -> None:
    with as_it_was(RANGE):
        federation = Federation()
        found = federation.sum(TINY)
    assert isinstance(found, tuple)
    body, total = found
    assert sizes(body, total) == sorted(EXAMPLES)
    assert min(right_signs(federation, signs(body, list(EXAMPLES)))) >= 0.95


def updates(sums: list[Floats], found: Floats) -> Floats:
    """Each peer's update from the sums under `CLIPS`, shape (m, 5), given the signs of all entries.

    clip · Σ n_i · min(|x_i|/clip, 1) · sign grows with the clip by the n_i of those who are beyond it.
    """
    grown = np.array([clip * body for clip, body in zip(CLIPS, sums, strict=True)])
    slopes = np.diff(grown, axis=0) / np.diff(CLIPS)[:, None]
    weights = found * np.array(EXAMPLES)  # (m, 5)
    beyond = MEMBERS @ weights.T  # what each subset comes to, (32, m)
    level = np.zeros(found.shape, np.int64)
    for slope in slopes:
        chosen = np.abs(beyond - slope).argmin(axis=0)
        level += MEMBERS[chosen]
    return np.asarray(found * np.sqrt(CLIPS[level] * CLIPS[np.minimum(level + 1, len(CLIPS) - 1)]))


def cosine(one: Floats, other: Floats) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def test_fifty_seven_tickets_that_differ_in_the_clip_give_the_updates_themselves() -> None:
    with as_it_was(RANGE, ONE_CONFIGURATION):
        federation = Federation()
        sums = [federation.sum(float(clip)) for clip in (TINY, *CLIPS)]
    assert len(sums) == 57
    bodies = [found[0] for found in sums if isinstance(found, tuple)]
    read = updates(bodies[1:], signs(bodies[0], list(EXAMPLES)))
    cosines = [cosine(read[:, i], federation.update(i)) for i in range(PEERS)]
    assert min(cosines) > 0.96


def test_no_peer_follows_a_clip_below_its_floor() -> None:
    assert Federation().sum(TINY) == [Reason.POLICY_RANGE] * PEERS


def test_no_peer_follows_a_second_clip_over_one_model() -> None:
    federation = Federation()
    assert isinstance(federation.sum(1.0), tuple)
    assert federation.sum(0.5) == [Reason.SECOND_CONFIGURATION] * PEERS
    assert isinstance(federation.sum(1.0), tuple)  # the same again is no second one


def assert_nothing_read(federation: Federation, body: Floats, total: int) -> None:
    """Neither a number of examples nor a peer's signs are in the sum."""
    assert not set(sizes(body, total)) & set(EXAMPLES)
    # No better than whoever takes the sum's own sign for everybody's.
    everybody = right_signs(federation, np.repeat(np.sign(body)[:, None], PEERS, axis=1))
    solved: Any = right_signs(federation, signs(body, list(EXAMPLES)))
    assert max(solved) < 0.9
    assert sum(solved) <= sum(everybody)


def test_scaled_as_a_whole_a_tiny_clip_gives_neither_numbers_nor_signs() -> None:
    """Where nothing but the scaling is left: floor and ledger are out."""
    with removed(RANGE, ONE_CONFIGURATION):
        federation = Federation()
        found = federation.sum(TINY)
    assert isinstance(found, tuple)
    body, total = found
    assert_nothing_read(federation, body, total)


def test_of_eight_bits_no_clip_gives_neither_numbers_nor_signs() -> None:
    """There the limit is one on the norm, and what is beyond it weighs the same, whatever its n_i."""
    with removed(RANGE, ONE_CONFIGURATION):
        federation = Federation()
        found = federation.sum(2.0**-40, width=ROTATED)
    assert isinstance(found, tuple)
    body, total = found
    directions = [federation.update(i) / np.linalg.norm(federation.update(i)) for i in range(PEERS)]
    # What is summed is their directions, once each, and much of it wraps around.
    assert 0.3 < cosine(body, np.sum(directions, axis=0)) < 0.9
    body *= total / np.abs(body).max()
    assert_nothing_read(federation, body, total)


def test_of_eight_bits_no_peer_follows_a_clip_below_its_floor() -> None:
    assert Federation().sum(2.0**-25, width=ROTATED) == [Reason.POLICY_RANGE] * PEERS


# -- through the mod and real agents ------------------------------------------------------------------------


class Trained(App):
    """An app whose training comes to a given model."""

    result: Arrays

    def __call__(self, message: Message, context: Context) -> Message:
        self.runs += 1
        return self.reply(message, self.result, 1.0, 0)


def apps_of(federation: Federation, net: Deployed) -> dict[str, Trained]:
    found = {}
    for place, name in enumerate(net.cohort):
        found[name] = Trained(np.zeros((0, 1), np.float32), np.zeros(EXAMPLES[place], np.int64))
        found[name].result = federation.trained[place]
    return found


async def asked(net: Deployed, mods: Mods, clip: float) -> tuple[Federation, dict[str, Called]]:
    federation = Federation()
    apps = apps_of(federation, net)
    signed_ticket = mods.ticket(federation.model, width=WIDTH, clip=clip, weight_cap=CAP)
    message = mods.message(signed_ticket, federation.model)
    called = await mods.train(signed_ticket, apps, lambda name: message)
    assert sum(app.runs for app in apps.values()) == len(net.uploads)
    return federation, called


@pytest.mark.sockets
async def test_real_peers_follow_no_tiny_clip_and_run_nothing(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            _, called = await asked(net, mods, TINY)
    assert [item.refusal.split(":")[0] for item in called.values()] == ["policy_range"] * PEERS
    assert not net.uploads


@pytest.mark.sockets
async def test_the_upload_of_real_peers_as_they_were_gives_numbers_and_signs(
    tmp_path: Path,
) -> None:
    with as_it_was(RANGE):
        async with Deployed(tmp_path, PEERS) as net:
            with Mods(net) as mods:
                federation, _ = await asked(net, mods, TINY)
                total = await net.finish()
    counted = trailer.decode(total.wide[-trailer.LENGTH :], PEERS)
    example = net.ticket.quantiser.span / (PEERS * CAP)
    body = signed(total.body).astype(np.float64) / example
    assert sizes(body, counted.examples) == sorted(EXAMPLES)
    assert min(right_signs(federation, signs(body, list(EXAMPLES)))) >= 0.95
