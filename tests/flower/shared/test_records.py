"""The digest of what a ClientApp is given beside its model: any difference that it could see changes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from smpcfl.flower.shared.records import RECORD, content_digest
from smpcfl.protocol.digests import config_digest

RUN = {"lr": 0.1, "epochs": 2, "quick": True, "name": "a"}
VALUES: dict[str, Any] = {
    **{"int": 1, "float": 1.5, "text": "a", "raw": b"a", "yes": True},
    **{
        "ints": [1, 2],
        "floats": [1.0],
        "texts": ["a", "b"],
        "raws": [b"a"],
        "flags": [True, False],
    },
}


def model(value: float = 0.0, name: str = "w") -> ArrayRecord:
    return ArrayRecord({name: Array(np.full(3, value, np.float32))})


def records(**values: Any) -> dict[str, Any]:
    return {
        "arrays": model(),
        "config": ConfigRecord({**VALUES, **values}),
        "metrics": MetricRecord({"a": 1}),
    }


def digest(given: dict[str, Any], kind: str = "train", run: dict[str, Any] | None = None) -> bytes:
    return content_digest(RecordDict(given), kind, RUN if run is None else run)


BASE = digest(records())


def renamed(old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: record for name, record in records().items()}


def backwards(given: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(given.items()))


OTHERS = {
    "a record's name": renamed("config", "configs"),
    "the model's name": renamed("arrays", "model"),
    "a record more": {**records(), "more": ConfigRecord({})},
    "a record fewer": {k: v for k, v in records().items() if k != "metrics"},
    "order of records": backwards(records()),
    "order of members": {**records(), "config": ConfigRecord(backwards(VALUES))},
    "a record's kind": {**records(), "metrics": ConfigRecord({"a": 1})},
    "an empty record's kind": {**records(), "metrics": MetricRecord({})},
    "a member more": records(more=1),
    "int for bool": records(yes=1),
    "bool for int": records(int=True),
    "float for int": records(int=1.0),
    "bytes for text": records(text=b"a"),
    "ints for bools": records(flags=[1, 0]),
    "bools for ints": records(ints=[True, True]),
    "a list of one": records(int=[1]),
    "order in a list": records(texts=["b", "a"]),
    "what a list breaks": records(texts=["ab"]),
    "another float": records(float=1.5000000000000002),
    "minus zero": records(floats=[-0.0]),
    "zero": records(floats=[0.0]),
}


def test_each_difference_in_a_record_changes_it() -> None:
    found = {name: digest(given) for name, given in OTHERS.items()}
    assert BASE not in found.values()
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    "run",
    [
        {},
        {**RUN, "lr": 0.2},
        {**RUN, "epochs": 2.0},
        {**RUN, "quick": 1},
        {**RUN, "quick": False},
        {**RUN, "more": 1},
        {k: v for k, v in RUN.items() if k != "name"},
        {**{k: v for k, v in RUN.items() if k != "name"}, "names": "a"},
    ],
    ids=str,
)
def test_each_difference_in_the_runs_configuration_changes_it(run: dict[str, Any]) -> None:
    assert digest(records(), run=run) != BASE


@pytest.mark.parametrize("kind", ["evaluate", "train.first", "query", "TRAIN", ""])
def test_another_type_of_message_changes_it(kind: str) -> None:
    assert digest(records(), kind) != BASE


def test_nothing_moves_from_one_part_into_another() -> None:
    assert digest({}, "train", {"a": 1}) != digest({"a": ConfigRecord({"a": 1})}, "train", {})
    one = {"a": ConfigRecord({"x": 1}), "b": ConfigRecord({})}
    two = {"a": ConfigRecord({}), "b": ConfigRecord({"x": 1})}
    assert digest(one) != digest(two)


def test_the_models_numbers_and_our_own_record_have_digests_of_their_own() -> None:
    assert digest({**records(), "arrays": model(1.0)}) == BASE
    assert digest({**records(), RECORD: ConfigRecord({"ticket": b"t"})}) == BASE


def test_the_order_of_the_runs_configuration_is_no_difference() -> None:
    """Flower keeps none."""
    assert digest(records(), run=backwards(RUN)) == BASE


def test_the_tickets_digest_binds_content_and_app() -> None:
    one, two = bytes(32), bytes([1]) * 32
    found = {config_digest(*pair) for pair in ((one, one), (one, two), (two, one), (two, two))}
    assert len(found) == 4
    assert all(len(item) == 32 for item in found)
