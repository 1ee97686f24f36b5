"""Whether a strategy needs only averages: tried out, on made-up replies, before anything is trained."""

from __future__ import annotations

import copy
import gc
import logging
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore.task_identity import TaskIdentity

from ...protocol.errors import LocalError
from ...protocol.ticket import EXAMPLES, TRAIN

# Of the clients that are made up. So many, because MultiKrum averages all if it is to keep more.
_EXAMPLES = (1, 2, 3, 4) * 32
_VALUES = (0.0, 1.0, 0.0, 1.0) * 32  # of every metric of theirs; weighted they have another mean
_FUNCTIONS = ("train_metrics_aggr_fn", "evaluate_metrics_aggr_fn")
_INSTEAD = "use a strategy that averages, such as FedAvg"


def can_try() -> bool:
    """Whether this is a ServerApp's process, in which Flower makes messages."""
    try:
        return TaskIdentity.run_id is not None
    except RuntimeError:
        return False


def check_averages(strategy: Strategy) -> None:
    """LocalError for a strategy to which the mean of the updates is not as good as the updates.

    Tried out is what Flower's own code does with replies, and functions that aggregate metrics. Other code of
    the user's may write files or plot: it is not run here, and will see one reply a round, the mean.
    """
    for layer in layers(strategy):
        for name in _FUNCTIONS:
            _check_metrics(layer, name)
        if getattr(layer, "accountant", None) is not None:
            raise LocalError(
                f"{type(layer).__name__} with an accountant has to see that all clients have one weight, and"
                " nobody here sees single weights: leave `accountant` out"
            )
        if (theirs := _flowers(type(layer), "aggregate_train")) is not None:
            _check_aggregation(layer, theirs)


def layers(strategy: Strategy) -> Iterator[Strategy]:
    """The strategy, and those that it wraps."""
    found: Any = strategy
    while isinstance(found, Strategy):
        yield found
        found = getattr(found, "strategy", None)


def _flowers(kind: type, method: str) -> Any:
    """This method of the first class that has it from Flower."""
    for base in kind.__mro__:
        if method in vars(base) and base.__module__.startswith("flwr."):
            return vars(base)[method]
    return None


def _check_aggregation(layer: Strategy, theirs: Any) -> None:
    name, key = type(layer).__name__, weighted_by(layer)
    rng = np.random.default_rng(1)
    updates = [rng.normal(size=(3, 4)) * 10.0 ** (i % 4) for i in range(len(_EXAMPLES))]
    mean = np.average(updates, axis=0, weights=_EXAMPLES)
    try:
        with _alone():
            single = _aggregated(layer, theirs, [_reply(mean, sum(_EXAMPLES), _mean_value(), key)])
        with _alone():
            replies = map(_reply, updates, _EXAMPLES, _VALUES, repeat(key))
            each = _aggregated(layer, theirs, list(replies))
    except Exception as error:
        raise LocalError(
            f"{name} does not take means of numbers (on made-up ones: {type(error).__name__}: {error}),"
            f" and nothing else arrives here (docs/porting.md says why of each strategy): {_INSTEAD}"
        ) from error
    for key in single.keys() | each.keys():
        if not np.allclose(single.get(key, np.nan), each.get(key, np.nan), rtol=1e-4, atol=1e-4):
            raise LocalError(
                f"{name} looks at single updates, which nobody sees here: of their mean it makes another"
                f" {key} than of the updates; {_INSTEAD}"
            )


def _aggregated(
    layer: Strategy, theirs: Any, replies: list[Message]
) -> dict[str, npt.NDArray[Any] | float]:
    """What Flower's code makes of these replies: the model, and numbers that it remembers."""
    trial: Any = copy.deepcopy(layer)
    if isinstance(getattr(trial, "strategy", None), Strategy):
        # The one inside has a trial of its own.
        trial.strategy = FedAvg(weighted_by_key=weighted_by(layer))
    # They are tried out by themselves, and may know the app's records, which we do not.
    for function in _FUNCTIONS:
        if hasattr(trial, function):
            setattr(trial, function, lambda records, key: MetricRecord())
    arrays = ArrayRecord({"model": Array(np.zeros((3, 4), np.float32))})
    least = (getattr(trial, f"min_{what}_nodes", 0) for what in ("available", "train"))
    grid = cast(Grid, _Nodes(max(len(_EXAMPLES), *least)))
    configure = _flowers(type(layer), "configure_train")
    list(configure(trial, 1, arrays, ConfigRecord(), grid))
    found = theirs(trial, 1, replies)[0]
    numbers: dict[str, npt.NDArray[Any] | float] = {
        name: item for name, item in vars(trial).items() if isinstance(item, float)
    }
    if found is not None:
        numbers["model"] = found["model"].numpy()
    return numbers


def _check_metrics(layer: Strategy, name: str) -> None:
    """A function that averages by the number of examples gives of the mean what it gives of all."""
    function = getattr(layer, name, None)
    key = weighted_by(layer)
    if function is None:
        return
    update = np.zeros((3, 4))
    try:
        with _alone():
            each = function(
                [
                    _reply(update, n, v, key).content
                    for n, v in zip(_EXAMPLES, _VALUES, strict=True)
                ],
                key,
            )
        with _alone():
            single = function([_reply(update, sum(_EXAMPLES), _mean_value(), key).content], key)
        same = each.keys() == single.keys() and all(
            np.allclose(each[item], single[item]) for item in each if item != key
        )
    except Exception:
        return  # it knows the app's records, which we do not
    if not same:
        raise LocalError(
            f"{name}={getattr(function, '__qualname__', function)!s} looks at the metrics of single clients,"
            " which nobody sees here: of their weighted mean it makes something else. Leave it out, and the"
            " weighted means of all metrics arrive"
        )


def weighted_by(layer: Strategy) -> str:
    """What the innermost strategy weighs by."""
    found = [getattr(item, "weighted_by_key", "") for item in layers(layer)]
    return next((str(key) for key in found if key), EXAMPLES)


def _mean_value() -> float:
    return float(np.average(_VALUES, weights=_EXAMPLES))


def _reply(update: npt.NDArray[Any], examples: int, value: float, key: str) -> Message:
    arrays = ArrayRecord({"model": Array(update.astype(np.float32))})
    metrics = _Anything({key: examples, "loss": value}, value)
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), 0, TRAIN)


class _Anything(MetricRecord):
    """Has every metric that it is asked for."""

    def __init__(self, values: dict[str, Any], value: float) -> None:
        super().__init__(values)
        self._value = value

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key) if key in self.keys() else self._value

    def __contains__(self, key: object) -> bool:
        return True

    def get(self, key: str, default: Any = None) -> Any:
        return self[key]


class _Nodes:
    """As much of a Grid as a strategy samples from."""

    def __init__(self, count: int) -> None:
        self._count = count

    def get_node_ids(self) -> Iterable[int]:
        return range(1, self._count + 1)


@contextmanager
def _alone() -> Iterator[None]:
    """The same random numbers each time, none of which the app misses, and no log.

    Flower collects garbage after each array that it reads: with all that is there frozen, that takes no time.
    """
    kept, ours = np.random.get_state(), random.getstate()
    logger = logging.getLogger("flwr")
    level, logger.disabled = logger.disabled, True
    gc.freeze()
    try:
        np.random.seed(1)
        random.seed(1)
        yield
    finally:
        gc.unfreeze()
        logger.disabled = level
        np.random.set_state(kept)
        random.setstate(ours)
