"""The strategy wrapper: any strategy that averages, over sums that no single update can be read from."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common.config import get_fused_config
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from ...protocol.errors import LocalError, RemoteError
from ...protocol.policy import Policy
from ...protocol.quantise import model_digest
from ...protocol.ticket import MODES, SEEDED, Deadlines
from ...protocol.trailer import Trailer
from ...reports.report import RoundRecord
from ..shared.records import content_digest, message_bytes, split_arrays, to_numpy, to_record
from .clipping import Clipping
from .nodes import PeerNodes
from .progress import arrays_of, clipping_of
from .replies import ask_all
from .secure_round import Outcome, SecureRound
from .service_link import Server

log = logging.getLogger("smpcfl.flower")
_SAY_EVERY_S = 10.0


class SecureStrategy(Strategy):
    """Wraps a Flower strategy; in mode `normal` it hands everything through.

    The inner strategy gets one reply a round, as if from a single client with all the examples: the
    weighted mean model of the survivors and their summed counters. So FedAvg, FedAvgM, FedAdam and
    others that use only the average work; those that look at single updates cannot.

    On an aggregator's SuperLink a run that is interrupted goes on after its last round: the global
    model, clip and cap are kept after each. What the inner strategy itself remembers is not, and
    starts afresh: FedAvg remembers nothing, FedAvgM and FedAdam their momentum. Only the first
    `start` of a ServerApp is kept, and its result holds the metrics since the interruption.

    `min_peers`: fewest to start a round with; `seed`: makes the rounding reproducible, where the peers'
    operators allow that; `width`: bits of a ring element. After a void round the inner strategy is asked
    for the configuration of the same round again. LocalError for a strategy or a value that cannot work.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        mode: str | None = None,
        min_peers: int = 5,
        width: int = 16,
        deadlines: Deadlines | None = None,
        grace_s: float = 20.0,
        seed: int | None = None,
        clipping: Clipping | None = None,
    ) -> None:
        self.inner = strategy
        self.mode = mode or os.environ.get("SMPCFL_MODE", SEEDED)
        self.min_peers = min_peers
        self.width = width
        self.deadlines = deadlines or Deadlines()
        self.grace_s = grace_s
        self.seed = seed
        self.clipping = clipping or Clipping()
        self.records: list[RoundRecord] = []
        self._first_try = 1  # the round that first trained on the model as it stands
        self._nodes: PeerNodes | None = None  # none before `start`, and in `normal`
        if self.mode not in MODES:
            raise LocalError(f"unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")
        own = MODES[self.mode]
        if own.secure and min_peers < own.least_peers:
            raise LocalError(
                f"min_peers is {min_peers}: a sum of two is no secret, at least {own.least_peers}"
            )
        if type(strategy).__name__ in _NEEDS_SINGLE_UPDATES:
            raise LocalError(
                f"{type(strategy).__name__} looks at single updates, which nobody sees here: use a"
                " strategy that averages, such as FedAvg"
            )
        if getattr(strategy, "fraction_evaluate", 0.0) and own.secure:
            raise LocalError(
                "fraction_evaluate must be 0: the metrics of one client would travel in the clear;"
                " evaluate the global model with evaluate_fn"
            )

    # -- Flower's Strategy ----------------------------------------------------------------------

    def summary(self) -> None:
        self.inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self.inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return self.inner.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        return self.inner.aggregate_evaluate(server_round, replies)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Runs the rounds. `evaluate_fn` may return `accuracy` and `loss`: they go in the record."""
        result = Result()
        config = train_config or ConfigRecord()
        server = Server.load(self.mode, str(grid.run.run_id))
        if server.own is not None:
            self._nodes = PeerNodes(server.own.ca, least=self.min_peers)
        done, arrays = self._resume(server, initial_arrays, num_rounds, config)
        result.arrays = arrays
        if not done and evaluate_fn and (measured := evaluate_fn(0, arrays)) is not None:
            result.evaluate_metrics_serverapp[0] = measured
        for number in range(done + 1, num_rounds + 1):
            start = time.monotonic()
            outcome = self._round(server, grid, number, arrays, config, timeout)
            if outcome.replies:
                new_arrays, metrics = self.inner.aggregate_train(number, outcome.replies)
                if new_arrays is not None:
                    self._settle(number, arrays, new_arrays, outcome.trailer)
                    result.arrays = arrays = new_arrays
                if metrics is not None:
                    result.train_metrics_clientapp[number] = metrics
            seconds = time.monotonic() - start
            measured = evaluate_fn(number, arrays) if evaluate_fn else None
            if measured is not None:
                result.evaluate_metrics_serverapp[number] = measured
            record = self._record(server, number, outcome, measured, seconds)
            if server.progress is not None:
                # Before the record goes out: one that is lost on the way is sent again from here.
                server.progress.keep(
                    number, arrays, self.clipping, self._first_try, record.to_json()
                )
            self.records.append(record)
            server.record(record)
        return result

    def _settle(
        self, number: int, old: ArrayRecord, new: ArrayRecord, trailer: Trailer | None
    ) -> None:
        """A new model has new limits. Over one that stays as it was peers take no others."""
        if trailer is not None and model_digest(to_numpy(new)) != model_digest(to_numpy(old)):
            self.clipping = self.clipping.after(trailer)
            self._first_try = number + 1

    def _resume(
        self, server: Server, initial: ArrayRecord, rounds: int, config: ConfigRecord
    ) -> tuple[int, ArrayRecord]:
        """The number of the last round that ended, and the global model after it."""
        if server.progress is None:
            server.announce(rounds, 0)
            return 0, initial
        setup = {
            "mode": self.mode,
            "width": self.width,
            "seed": self.seed,
            "config": content_digest(RecordDict({"config": config}), MessageType.TRAIN, {}).hex(),
        }
        kept = server.progress.resume(initial, self.clipping, rounds, setup)
        self.clipping = clipping_of(kept)
        self._first_try = kept.first_try
        server.announce(rounds, kept.round)
        if kept.record:
            record = RoundRecord.from_json(kept.record)
            self.records.append(record)
            server.record(record)
        return kept.round, arrays_of(kept)

    # -- one round ------------------------------------------------------------------------------

    def _round(
        self,
        server: Server,
        grid: Grid,
        number: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        timeout: float,
    ) -> Outcome:
        tries = MODES[self.mode].tries
        while True:
            peers = self._wait_for_peers(server, grid)
            if not MODES[self.mode].secure:
                messages = list(self.inner.configure_train(number, arrays, config, grid))
                return self._normal(grid, messages, timeout)
            # A round that is run again asks what the first one did: peers take one configuration a model.
            messages = list(self.inner.configure_train(self._first_try, arrays, config, grid))
            outcome = self._secure(server, grid, number, messages, peers)
            if outcome.wait_s and not outcome.replies:
                # Not a try: it would be the same for all rounds of the next hour.
                log.warning(
                    "peers take no more tickets in this hour (their SMPCFL_TICKETS_PER_HOUR): round %d is"
                    " run again in %.0f s",
                    number,
                    outcome.wait_s,
                )
                time.sleep(outcome.wait_s)
                continue
            tries -= 1
            if outcome.replies or not tries:
                return outcome
            log.warning("round %d is run again with who is there", number)

    def _wait_for_peers(self, server: Server, grid: Grid) -> dict[int, str]:
        """Peer ids by node id, once there are enough; in `normal`, nobody has to say who it is."""
        logged = -math.inf
        while True:
            if self._nodes is None:
                found = dict.fromkeys(grid.get_node_ids(), "")
            else:
                found = self._nodes.present(grid, server.probe)
            if len(found) >= self.min_peers:
                return found
            if time.monotonic() - logged >= _SAY_EVERY_S:
                log.info("waiting for peers: %d of %d are there", len(found), self.min_peers)
                logged = time.monotonic()
            time.sleep(0.5)

    def _normal(self, grid: Grid, messages: list[Message], timeout: float) -> Outcome:
        """Plain Flower: every update arrives in the clear."""
        down = sum(message_bytes(message) for message in messages)
        replies = ask_all(grid, messages, timeout, self.grace_s)
        good = [reply for reply in replies.values() if not reply.has_error()]
        for reply in replies.values():
            if reply.has_error():
                log.warning("a peer failed: %s", reply.error.reason)
        return Outcome(
            replies=good,
            reason="" if good else "no peer replied",
            cohort=len(messages),
            survivors=len(good),
            contributors=len(good),
            bytes_up=sum(message_bytes(reply) for reply in replies.values()),
            bytes_down=down,
        )

    def _secure(
        self,
        server: Server,
        grid: Grid,
        number: int,
        messages: list[Message],
        peers: dict[int, str],
    ) -> Outcome:
        messages = [m for m in messages if m.metadata.dst_node_id in peers]
        key, record = split_arrays(messages[0].content) if messages else ("", ArrayRecord())
        given = to_numpy(record)
        peers = {m.metadata.dst_node_id: peers[m.metadata.dst_node_id] for m in messages}
        if MODES[self.mode].recovers:
            asked = len(peers)
            allowed = server.ledger.apart(model_digest(given), peers.values(), Policy())
            peers = {node: peer for node, peer in peers.items() if peer in allowed}
            messages = [m for m in messages if m.metadata.dst_node_id in peers]
            if len(peers) < asked:
                log.warning(
                    "%d of %d peers sit out: over this model a sum was agreed to before, and another one has"
                    " to be over the same peers, or differ by %d",
                    asked - len(peers),
                    asked,
                    Policy().min_difference,
                )
        if len(peers) < self.min_peers:
            reason = f"{len(peers)} peers, at least {self.min_peers} are needed"
            return Outcome(reason=reason, cohort=len(peers))
        try:
            round_ = SecureRound(
                server,
                mode=self.mode,
                number=number,
                peers=peers,
                given=given,
                content_digest=content_digest(
                    messages[0].content, MessageType.TRAIN, get_fused_config(grid.run)
                ),
                app=bytes.fromhex(grid.run.fab_hash),
                width=self.width,
                clipping=self.clipping,
                deadlines=self.deadlines,
            )
        except RemoteError as error:
            log.warning("round %d is void: %s", number, error)
            server.refused(error)
            return Outcome(reason=str(error), cohort=len(peers))
        try:
            outcome = round_.run(
                grid,
                messages,
                self.seed,
                self.grace_s,
                lambda *asked: self._lost(server, grid, *asked),
            )
        except RemoteError as error:
            log.warning("round %d is void: %s", number, error)
            server.refused(error)
            return round_.void(str(error))
        finally:
            if self._nodes is not None:
                self._nodes.missed(round_.silent)
        outcome.replies = [self._reply(key, outcome)]
        return outcome

    def _lost(self, server: Server, grid: Grid, missing: set[int], late: bool) -> bool:
        """Asked while replies are awaited: new nodes can say who they are in time for the next round."""
        assert self._nodes is not None
        self._nodes.ask(grid)
        return late and self._nodes.lost(missing, server.probe)

    def _reply(self, key: str, outcome: Outcome) -> Message:
        """The survivors as one client, for the inner strategy."""
        assert outcome.trailer is not None
        weight = getattr(self.inner, "weighted_by_key", "num-examples")
        metrics = MetricRecord({weight: outcome.trailer.examples, **_means(outcome.trailer)})
        content = RecordDict({key: to_record(outcome.model), "metrics": metrics})
        return Message(content=content, message_type=MessageType.TRAIN, dst_node_id=0)

    def _record(
        self,
        server: Server,
        number: int,
        outcome: Outcome,
        measured: MetricRecord | None,
        seconds: float,
    ) -> RoundRecord:
        measured = measured or MetricRecord()
        cohort = max(outcome.cohort, 1)
        train_loss = outcome.trailer.mean_loss if outcome.trailer else None
        return RoundRecord(
            run=server.run,
            round=number,
            mode=self.mode,
            outcome="complete" if outcome.replies else "void",
            reason=outcome.reason,
            cohort=outcome.cohort,
            survivors=outcome.survivors,
            contributors=outcome.contributors,
            withstood=outcome.withstood,
            dropouts=outcome.cohort - outcome.survivors,
            accuracy=_float(measured, "accuracy"),
            loss=_float(measured, "loss"),
            train_loss=train_loss,
            bytes_up=outcome.bytes_up / cohort,
            bytes_down=outcome.bytes_down / cohort,
            bytes_p2p=outcome.bytes_p2p / cohort,
            seconds=seconds,
            phase_seconds=outcome.phase_seconds,
        )


_NEEDS_SINGLE_UPDATES = {
    "Krum",
    "MultiKrum",
    "Bulyan",
    "FedMedian",
    "FedTrimmedAvg",
    "QFedAvg",
    "FedXgbBagging",
    "FedXgbCyclic",
    "DifferentialPrivacyServerSideFixedClipping",
    "DifferentialPrivacyServerSideAdaptiveClipping",
    "DifferentialPrivacyClientSideFixedClipping",
    "DifferentialPrivacyClientSideAdaptiveClipping",
}


def _means(trailer: Trailer) -> dict[str, float]:
    return {
        "train_loss": trailer.mean_loss,
        "train_accuracy": trailer.correct / trailer.examples,
    }


def _float(metrics: MetricRecord, key: str) -> float | None:
    value = metrics.get(key)
    return float(value) if isinstance(value, int | float) else None
