"""The strategy wrapper: any strategy that averages, over sums that no single update can be read from."""

from __future__ import annotations

import logging
from atexit import register as at_exit
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from ...base.log_events import LogEvent, about
from ...reports.record import RoundRecord
from ..shared.records import content_digest
from .averaging import can_try, check_averages, weighted_by
from .progress import Progress, arrays_of_checkpoint, clipping_of
from .remembered import Remembered
from .secure_grid import SecureGrid
from .secure_options import Options
from .taken_over import OwnGrid, take_over

log = logging.getLogger("smpcfl.flower")
Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]


class SecureStrategy(Strategy):
    """Wraps a Flower strategy, whose own loop runs; in mode `normal` it changes nothing.

    The strategy gets one reply a round, as if from a single client with all the examples: the weighted
    mean of the survivors' models and metrics. So FedAvg, FedAvgM, FedAdam and others that use only averages
    work; one that looks at single updates is refused, with LocalError. `options`: those of `Options`.

    On an aggregator's SuperLink a run that is interrupted goes on after its last round, from the same
    global model, limits and what the strategy remembers, such as momentum. Flower's log then counts from 1
    again. Only the first `start` of a ServerApp is kept, and its result holds the metrics since the
    interruption.
    """

    def __init__(self, strategy: Strategy, **options: Any) -> None:
        options.setdefault("weighted_by", weighted_by(strategy))
        self.inner = strategy
        self.settings = Options(**options)
        self.records: list[RoundRecord] = []
        self._grid: SecureGrid | None = None
        self._checked = not self.settings.secure
        if can_try():
            self._check()

    def __getattr__(self, name: str) -> Any:
        """What the wrapped strategy has beside Flower's own methods, such as `set_save_path`."""
        # `inner` is not there while this is copied; a strategy that has a `strategy` is one around another.
        if name.startswith("_") or name in ("inner", "strategy"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """What is not ours is the wrapped strategy's, which would not see it here."""
        if name.startswith("_") or name in ("inner", "settings", "records"):
            super().__setattr__(name, value)
        else:
            setattr(self.inner, name, value)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Evaluate | None = None,
        **more: Any,
    ) -> Result:
        """Runs the strategy's own `start`, to which `more` goes as it is.

        `evaluate_fn` may return an accuracy and a loss: they go in the record.
        """
        self._check()
        secure = self._secured(grid)
        secure.evaluated_later = evaluate_fn is not None
        run = _Run(self.inner, secure, secure.server.progress)
        config = train_config or ConfigRecord()
        arrays = run.resume(initial_arrays, num_rounds, config)
        with run.attached():
            result = self.inner.start(
                grid=secure,
                initial_arrays=arrays,
                num_rounds=num_rounds - run.done,
                timeout=timeout,
                train_config=config,
                evaluate_config=evaluate_config,
                evaluate_fn=run.watched(evaluate_fn),
                **more,
            )
            secure.flush()
        if run.done and not result.arrays:
            result.arrays = run.arrays  # no round since has made another one
        return result

    def _check(self) -> None:
        if not self._checked:
            check_averages(self.inner)
            self._checked = True

    def _secured(self, grid: Grid) -> SecureGrid:
        """The one SecureGrid of this strategy."""
        if isinstance(grid, SecureGrid):
            return grid
        if self._grid is None:
            self._grid = SecureGrid(OwnGrid(grid), self.settings)
            self.records = self._grid.records
        return self._grid

    # -- for a strategy around this one -----------------------------------------------------------

    def summary(self) -> None:
        self.inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        secure = self._secured(grid)
        if secure is not grid:
            take_over(grid, secure)
        return self.inner.configure_train(server_round, arrays, config, secure)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return self.inner.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self.inner.configure_evaluate(server_round, arrays, config, self._secured(grid))

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        return self.inner.aggregate_evaluate(server_round, replies)


def secure(grid: Grid, **options: Any) -> SecureGrid:
    """What to pass as `grid` to a strategy's `start` instead of wrapping the strategy.

    Nothing is resumed then, and no strategy refused: one that looks at single updates sees their mean.
    `options`: those of `Options`.
    """
    found = SecureGrid(grid, Options(**options))
    at_exit(found.flush)  # nobody says when a loop of the app's own is over
    return found


class _Run:
    """One `start` of a strategy, from where a checkpoint left it. `done`: rounds before."""

    def __init__(self, strategy: Strategy, grid: SecureGrid, progress: Progress | None) -> None:
        self.strategy: Any = strategy
        self.grid = grid
        self.progress = progress
        self.done = 0
        self._remembered = Remembered(strategy)
        self.arrays = ArrayRecord()
        self._first_try = 0  # the round that trained on this model in vain, before the interruption

    def resume(self, initial: ArrayRecord, rounds: int, config: ConfigRecord) -> ArrayRecord:
        """The global model to go on with."""
        grid, settings, server = self.grid, self.grid.settings, self.grid.server
        self.arrays = initial
        if self.progress is None:
            server.announce(rounds, 0)
            return initial
        setup = {
            "mode": settings.mode,
            "width": settings.width,
            "seed": settings.seed,
            "config": content_digest(RecordDict({"config": config}), MessageType.TRAIN, {}).hex(),
        }
        if settings.arrays:
            setup["arrays"] = list(settings.arrays)
        kept = self.progress.resume(initial, grid.clipping, rounds, setup)
        self.done, self.arrays = kept.round, arrays_of_checkpoint(kept)
        self._first_try = kept.first_try if kept.first_try <= kept.round else 0
        grid.resume(
            kept.round, clipping_of(kept), kept.first_try, kept.metrics, initial, self.arrays
        )
        self._remembered.restore(kept.strategy)
        server.announce(rounds, kept.round)
        if kept.record:
            record = RoundRecord.from_json(kept.record, newer=True)
            grid.records.append(record)
            server.record(record)
        if self.done:
            log.info(
                "goes on after round %d of %d: Flower's log counts from there",
                self.done,
                rounds,
                extra=about(LogEvent.RUN_STARTED),
            )
        return self.arrays

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The strategy tells us of each model that it makes, and counts rounds from the run's first."""
        configure, aggregate = self.strategy.configure_train, self.strategy.aggregate_train

        def configure_train(server_round: int, *rest: Any, **named: Any) -> Iterable[Message]:
            self.grid.flush()
            # A round that is run again asks what the first one did.
            number = self._first_try or server_round + self.done
            return configure(number, *rest, **named)  # type: ignore[no-any-return]

        def aggregate_train(server_round: int, replies: Iterable[Message]) -> Any:
            found = aggregate(server_round + self.done, replies)
            if found[0] is not None:
                self.arrays, self._first_try = found[0], 0
                self.grid.settle(found[0])
            return found

        def shifted(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(server_round: int, *rest: Any, **named: Any) -> Any:
                return method(server_round + self.done, *rest, **named)

            return call

        wrapped = {
            "configure_train": configure_train,
            "aggregate_train": aggregate_train,
            "configure_evaluate": shifted(self.strategy.configure_evaluate),
            "aggregate_evaluate": shifted(self.strategy.aggregate_evaluate),
        }
        self.grid.on_record = self._keep
        vars(self.strategy).update(wrapped)
        try:
            yield
        finally:
            for name in wrapped:
                del vars(self.strategy)[name]

    def watched(self, evaluate: Evaluate | None) -> Evaluate | None:
        if evaluate is None:
            return None

        def evaluated(number: int, arrays: ArrayRecord) -> MetricRecord | None:
            found = evaluate(number + self.done, arrays)
            if number:
                self.grid.evaluated(found)
            return found

        return evaluated

    def _keep(self, record: RoundRecord) -> None:
        # Before the record goes out: one that is lost on the way is sent again from here.
        if self.progress is not None:
            self.progress.keep(self.grid, self.arrays, self._remembered.keep(), record)
