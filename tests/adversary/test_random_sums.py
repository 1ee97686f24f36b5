"""Random cohorts, survivors and who is shown them, over one model: no sums that were obtained isolate a peer.

The ledgers are real, the masks are not: a sum is obtained where so many honest peers answer that they and the
colluders can open all self masks. Colluders remember nothing, and name no other set when they agree.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import numpy as np
import pytest

from smpcfl.protocol import ledger as ledger_module
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.guarantee import withstands
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.messages import Agreement
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.survivors import check_earlier
from smpcfl.protocol.ticket import Ticket, default_threshold
from support.network import make_ticket, peer_ids
from support.unchecked import check, removed

BASE = make_ticket(8).ticket
POLICY, NOW_MS, ROUNDS = Policy(), 10**12, 5
# Up to here no third that need not agree can be a cohort of its own (docs/threat-model.md, "Not defended").
CASES = [(0, 7), (0, 9), (0, 11), (1, 8), (2, 8), (2, 9)]  # colluders, peers in all


@dataclass
class Deployment:
    """`atoms`: groups of honest peers that are in a cohort, and among its survivors, together."""

    rng: random.Random
    colluders: list[str]
    honest: list[str]
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    agreed: Counter[str] = field(default_factory=Counter)
    sums: list[set[str]] = field(default_factory=list)  # the contributors of each

    def __post_init__(self) -> None:
        self.ledgers = {name: Ledger() for name in self.honest}
        cuts = sorted(self.rng.sample(range(1, len(self.honest)), self.rng.randint(2, 4)))
        ends = zip([0, *cuts], [*cuts, len(self.honest)], strict=True)
        self.atoms = [self.honest[start:end] for start, end in ends]

    def round(self, serial: int) -> None:
        rng, few = self.rng, len(self.colluders)
        chosen = [atom for atom in self.atoms if rng.random() < 0.7]
        taking_part = [name for atom in chosen for name in atom]
        absent = sorted(set(self.honest) - set(taking_part))
        absent = rng.sample(absent, min(len(absent), rng.choice([0, 0, 0, 1, 2])))
        ticket = self._ticket(serial, [*self.colluders, *taking_part, *absent])
        if ticket is None:
            return
        here = [name for name in taking_part if self._follows(name, ticket)]
        survivors = {n for atom in chosen if rng.random() < 0.75 for n in atom if n in here}
        survivors |= {name for name in self.colluders if rng.random() < 0.6}
        least = max(ticket.threshold + 1, ticket.min_survivors)
        if len(survivors) < least:
            survivors = {*here, *self.colluders}
        failed = {rng.choice(here)} & survivors if here and rng.random() < 0.15 else set()
        if len(survivors) < least or len(survivors - failed) < ticket.min_survivors:
            return
        earlier = self._agree(ticket, here, survivors, ticket.threshold + 1 - few)
        answered = {
            name
            for name in self._answering(earlier, ticket.threshold + 1 - few)
            if self._answers(name, ticket, len(failed))
        }
        # Nobody shows its own share.
        if all(
            len(answered - {name}) + few >= ticket.threshold
            for name in survivors - set(self.colluders)
        ):
            self.sums.append(survivors - failed)

    def _ticket(self, serial: int, cohort: Iterable[str]) -> Ticket | None:
        """One that withstands these colluders, and that a peer's policy allows; else None."""
        names = tuple(sorted(cohort))
        if len(names) < POLICY.min_cohort:
            return None
        t, least = default_threshold(len(names) - 1), max(3, len(self.colluders) + 2)
        ticket = replace(
            BASE,
            cohort=names,
            threshold=t,
            min_survivors=least if self.rng.random() < 0.7 else t + 1,
            serial=serial,
        )
        return ticket if withstands(ticket) >= len(self.colluders) else None

    def _follows(self, name: str, ticket: Ticket) -> bool:
        with suppress(RemoteError):
            self.ledgers[name].check(ticket, POLICY, NOW_MS)
            self.ledgers[name].accept(ticket, NOW_MS)
            return True
        return False

    def _agree(
        self, ticket: Ticket, here: list[str], survivors: set[str], needed: int
    ) -> dict[str, bytes]:
        """Whom the aggregator shows the survivors, mostly those who agreed to little; what they name."""
        order = self.rng.sample(here, len(here))
        if self.rng.random() < 0.7:
            order.sort(key=lambda name: self.agreed[name])
        wanted, found = needed + self.rng.choice([0, 0, 0, 1, 3]), dict[str, bytes]()
        places = sorted(ticket.index(name) for name in survivors)
        for name in order:
            if len(found) == wanted:
                break
            with suppress(RemoteError):
                found[name] = self.ledgers[name].agree(ticket, places, POLICY)
                self.agreed[name] += 1
        return found

    def _answering(self, earlier: dict[str, bytes], needed: int) -> set[str]:
        """Each hears of as many as it needs, and of those that name what it can bear."""
        found = set[str]()
        for named in set(earlier.values()):
            group = [name for name, item in earlier.items() if item in (b"", named)]
            if len(group) >= needed:
                check_earlier([_says(earlier[name]) for name in group])
                found.update(group)
        return found

    def _answers(self, name: str, ticket: Ticket, failed: int) -> bool:
        with suppress(RemoteError):
            self.ledgers[name].answer(ticket, failed)
            return True
        return False

    def isolated(self) -> list[str]:
        """The honest peers whose update alone is a combination of sums, and of what colluders know."""
        if not self.sums:
            return []
        rows = np.array([[float(n in item) for n in self.honest] for item in self.sums])
        rank = np.linalg.matrix_rank(rows)
        return [
            name
            for name, own in zip(self.honest, np.eye(len(self.honest)), strict=True)
            if np.linalg.matrix_rank(np.vstack([rows, own])) == rank
        ]


def _says(earlier: bytes) -> Agreement:
    return Agreement(bytes(32), bytes(32), 0, bytes(64), earlier=earlier)


def deployments(colluders: int, peers: int, count: int) -> list[Deployment]:
    found = []
    for number in range(count):
        rng = random.Random(f"{colluders}/{peers}/{number}")
        names = rng.sample(peer_ids(peers), peers)
        one = Deployment(rng, names[:colluders], names[colluders:])
        for serial in range(1, ROUNDS + 1):
            one.round(serial)
        found.append(one)
    return found


@pytest.mark.parametrize(("colluders", "peers"), CASES)
def test_no_combination_of_sums_is_one_peers_update(colluders: int, peers: int) -> None:
    found = deployments(colluders, peers, 300)
    assert not [one for one in found if one.isolated()]
    different = Counter(len({frozenset(item) for item in one.sums}) for one in found)
    assert different[1] > 100
    assert different[2], "there was something to combine"


@pytest.mark.parametrize(("colluders", "peers"), [(0, 9), (0, 11)])
def test_where_cohorts_need_not_be_alike_some_are(colluders: int, peers: int) -> None:
    with removed(check(Ledger, "check", Reason.CONFLICTING_COHORTS)):
        found = deployments(colluders, peers, 1000)
    assert [one for one in found if one.isolated()]


@pytest.mark.parametrize(("colluders", "peers"), [(2, 8), (2, 10)])
def test_where_sets_differ_by_three_two_colluders_find_some(colluders: int, peers: int) -> None:
    with patch.object(ledger_module, "difference", lambda policy, found: policy.min_difference):
        found = deployments(colluders, peers, 300)
    assert [one for one in found if one.isolated()]
