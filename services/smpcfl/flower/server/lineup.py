"""Who takes part in a round: the peers that are there, and over whom a sum may be taken."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from flwr.serverapp import Grid

from ...base.log_events import LogEvent, about
from ...base.waiting import Reminder
from ...net import versions
from ...net.versions import Spoken
from ...protocol.policy import Policy
from .service_link import Server

log = logging.getLogger("smpcfl.flower")


class Chosen(NamedTuple):
    """Who is asked, by node; the ticket's cohort, where some may be missing; who alone may survive."""

    peers: dict[int, str]
    cohort: tuple[str, ...]
    within: frozenset[str] | None = None

    @classmethod
    def of(cls, peers: dict[int, str]) -> Chosen:
        return cls(peers, tuple(sorted(peers.values())))


class Lineup:
    """`secure`: nodes have to show which peers they are; `recovers`: a sum can be over fewer than all."""

    def __init__(self, grid: Grid, server: Server, least: int, *, recovers: bool) -> None:
        self._grid = grid
        self._server = server
        self._least = least
        self._recovers = recovers
        self._nodes = server.nodes(least)
        self._raised = False
        self._others: dict[str, Spoken] = {}
        self._names: dict[int, str] = {}
        self._trips: list[float] = []

    def present(self) -> dict[int, str]:
        """Peer ids by node id, once there are enough; in `normal`, nobody has to say who it is."""
        reminder = Reminder()
        while True:
            if self._nodes is None:
                found = dict.fromkeys(self._grid.get_node_ids(), "")
            else:
                found = self._understood(self._nodes.present(self._grid, self._server.probe))
            if len(found) >= self._least:
                return found if self._nodes is not None else self._named(found)
            if reminder.is_due():
                log.info(
                    "waiting for peers: %d of %d are there",
                    len(found),
                    self._least,
                    extra=about(LogEvent.WAITING_FOR_PEERS),
                )
            time.sleep(0.5)

    def _understood(self, found: dict[int, str]) -> dict[int, str]:
        """Without the peers that speak another protocol: they would refuse the ticket."""
        told = self._server.other_protocols()
        others = {peer: told[peer] for peer in found.values() if peer in told}
        if others and others != self._others:
            log.warning(
                "left out, as they speak another protocol than this aggregator (%s): %s",
                versions.OWN,
                versions.named(others),
                extra=about(LogEvent.OTHER_PROTOCOL),
            )
        self._others = others
        return {node: peer for node, peer in found.items() if peer not in others}

    @property
    def flower_seconds(self) -> float | None:
        """What Flower took for a message that brought nothing to do, at most; None before any."""
        if self._nodes is not None:
            return self._nodes.trip_s
        return min(self._trips, default=None)

    def names(self, nodes: Collection[int]) -> dict[int, str]:
        """In `normal`: who they are, as far as they said so."""
        return {node: self._names[node] for node in nodes if self._names.get(node)}

    def _named(self, nodes: Collection[int]) -> dict[int, str]:
        """New ones are asked, once, before a round: nobody has to say it here."""
        if new := set(nodes) - self._names.keys():
            found, trips = self._server.names(self._grid, new)
            self._names |= {**dict.fromkeys(new, ""), **found}
            self._trips += trips
        return {node: self._names[node] for node in nodes}

    def to_train(self, sampled: Collection[int], model_digest: bytes) -> Chosen:
        """Of the nodes that the strategy sampled, and more where those are too few.

        Over a model that was summed before, only peers whose new sum tells nobody's update by subtraction.
        """
        present = self.present()
        found = {node: present[node] for node in sampled if node in present}
        if (missing := self._least - len(found)) > 0:
            if not self._raised and len(sampled) < self._least:
                log.warning(
                    "the strategy samples %d clients: raised to min_peers, which is %d, in every round",
                    len(sampled),
                    self._least,
                )
                self._raised = True
            others = sorted(present.keys() - found.keys())
            found |= {node: present[node] for node in random.sample(others, missing)}
        if not self._recovers:
            return Chosen.of(found)
        reminder = Reminder()
        while (chosen := self._once_more(model_digest, found)) is None:
            if reminder.is_due():
                log.warning(
                    "a sum over this model was agreed to, and came to nothing; peers take part in another one"
                    " over the same peers, or over others enough: waiting for %s",
                    ", ".join(self._server.ledger.missing(model_digest, found.values())),
                    extra=about(LogEvent.WAITING_FOR_PEERS),
                )
            time.sleep(0.5)
            found = self.present()
        if (out := len(found) - len(chosen.within or chosen.peers)) > 0:
            log.warning(
                "%d of %d peers sit out: over this model a sum was agreed to before",
                out,
                len(found),
                extra=about(LogEvent.SITS_OUT),
            )
        return chosen

    def _once_more(self, model_digest: bytes, found: Mapping[int, str]) -> Chosen | None:
        """All that are there, or as many as peers agree to over this model; None if that are too few."""
        ledger = self._server.ledger
        allowed = ledger.apart(model_digest, found.values(), Policy())
        if len(allowed) < self._least:
            found = self.present()
            allowed = ledger.apart(model_digest, found.values(), Policy())
        if len(allowed) >= self._least:
            return Chosen.of({node: peer for node, peer in found.items() if peer in allowed})
        if (before := ledger.again(model_digest, found.values())) is None:
            return None
        cohort, survivors = before
        peers = {node: peer for node, peer in found.items() if peer in cohort}
        return Chosen(peers, tuple(sorted(cohort)), survivors)

    def to_evaluate(self) -> Chosen:
        """All that are there; over whom metrics may be summed, which may be nobody."""
        present = Chosen.of(self.present())
        if not self._recovers:
            return present
        return present._replace(within=self._server.ledger.evaluators(present.cohort, Policy()))

    def lost(self, missing: set[int], late: bool) -> bool:
        """Asked while replies are awaited: new nodes can say who they are in time for the next round."""
        assert self._nodes is not None
        self._nodes.ask(self._grid)
        return late and self._nodes.lost(missing, self._server.probe)

    def missed(self, silent: set[int]) -> None:
        """These nodes did not reply in the round that ended."""
        if self._nodes is not None:
            self._nodes.missed(silent)
