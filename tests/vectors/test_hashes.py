"""Encodings, digests and Merkle trees of known answers, by the code and by the protocol's text once more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from smpcfl.flower.shared.records import content_digest
from smpcfl.protocol import merkle
from smpcfl.protocol.digests import config_digest
from smpcfl.protocol.encoding import canonical, digest
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ledger import configuration
from smpcfl.protocol.quantise import model_digest
from smpcfl.protocol.ticket import pack_bitmap, unpack_bitmap
from vectors import reference
from vectors.files import Json, bad, good
from vectors.reading import (
    arrays,
    raw,
    raws,
    real,
    refuses,
    ticket,
    ticket_fields,
    whole,
)

GOOD = ("given", "found")
BAD = ("given", "reason")


def item_of(tagged: Json) -> Any:
    ((kind, value),) = tagged.items()
    readers: dict[str, Any] = {
        "int": whole,
        "float": real,
        "bytes": raw,
        "str": str,
        "bool": bool,
        "list": lambda parts: [item_of(part) for part in parts],
    }
    return readers[kind](value)


@pytest.mark.parametrize(GOOD, good("encoding", "canonical"))
def test_what_is_signed_and_hashed(given: Json, found: Json) -> None:
    items = [item_of(item) for item in given["items"]]
    for encode, hash_ in ((canonical, digest), (reference.canonical, reference.digest)):
        assert encode(given["domain"], *items).hex() == found["bytes"]
        assert hash_(given["domain"], *items).hex() == found["digest"]


@pytest.mark.parametrize(GOOD, good("encoding", "bitmap"))
def test_bitmaps_in_both_directions(given: Json, found: Json) -> None:
    members, size = given["members"], given["size"]
    assert pack_bitmap(members, size).hex() == found["bytes"]
    assert reference.bitmap(members, size).hex() == found["bytes"]
    assert list(unpack_bitmap(raw(found["bytes"]), size)) == members


@pytest.mark.parametrize(BAD, bad("encoding", "bitmap"))
def test_bitmaps_that_are_refused(given: Json, reason: str) -> None:
    refuses(reason, lambda: unpack_bitmap(raw(given["bytes"]), given["size"]))


@pytest.mark.parametrize(GOOD, good("digests", "model"))
def test_the_digest_of_a_model(given: Json, found: Json) -> None:
    assert model_digest(arrays(given["arrays"])).hex() == found["digest"]
    parts = [[i["name"], i["dtype"], i["shape"], raw(i["bytes"])] for i in given["arrays"]]
    assert reference.digest("model", parts).hex() == found["digest"]


def plain(value: Any) -> Any:
    """Section 5 on values of a record: a flag is a list of the word bool and 0 or 1."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return ["bool", int(value)] if isinstance(value, bool) else value


@pytest.mark.parametrize(GOOD, good("digests", "content"))
def test_the_digest_of_what_a_client_app_sees(given: Json, found: Json) -> None:
    def values(settings: list[Json]) -> dict[str, Any]:
        return {setting["key"]: item_of(setting["value"]) for setting in settings}

    kinds: dict[str, Any] = {
        "ArrayRecord": lambda names: ArrayRecord({name: Array(np.zeros(2)) for name in names}),
        "ConfigRecord": lambda settings: ConfigRecord(values(settings)),
        "MetricRecord": lambda settings: MetricRecord(values(settings)),
    }
    records = {i["name"]: kinds[i["kind"]](i["contents"]) for i in given["records"]}
    config = values(given["run_config"])
    assert (
        content_digest(RecordDict(records), given["message_type"], config).hex() == found["digest"]
    )
    ordered = [[key, plain(config[key])] for key in sorted(config)]
    listed = [
        [
            i["name"],
            i["kind"],
            i["contents"]
            if i["kind"] == "ArrayRecord"
            else [[k, plain(v)] for k, v in values(i["contents"]).items()],
        ]
        for i in given["records"]
        if i["name"] != "smpcfl"
    ]
    whole_ = reference.digest("content", given["message_type"], ordered, listed)
    assert whole_.hex() == found["digest"]


@pytest.mark.parametrize(GOOD, good("digests", "config"))
def test_the_digest_of_content_and_app(given: Json, found: Json) -> None:
    parts = raw(given["content_digest"]), raw(given["app"])
    assert config_digest(*parts).hex() == found["digest"]
    assert reference.digest("config", *parts).hex() == found["digest"]


@pytest.mark.parametrize(GOOD, good("digests", "configuration"))
def test_the_digest_that_a_ledger_keeps(given: Json, found: Json) -> None:
    assert configuration(ticket(given["ticket"])).hex() == found["digest"]
    fields = ticket_fields(given["ticket"])
    parts = (
        raw(fields["config_digest"]),
        real(fields["clip"]),
        fields["weight_cap"],
        fields["width"],
        fields["weighted_by"],
        fields["arrays"],
    )
    assert reference.digest("configuration", *parts).hex() == found["digest"]


@pytest.mark.parametrize(GOOD, good("merkle", "share_hash"))
def test_the_hash_of_a_share(given: Json, found: Json) -> None:
    parts = given["kind"], given["holder"], raw(given["share"])
    assert merkle.share_hash(*parts).hex() == found["hash"]
    assert reference.share_hash(*parts).hex() == found["hash"]


@pytest.mark.parametrize(GOOD, good("merkle", "leaf"))
def test_a_leaf(given: Json, found: Json) -> None:
    for leaf in (merkle.leaf, reference.leaf):
        assert leaf(raw(given["self"]), raw(given["pair"])).hex() == found["hash"]


@pytest.mark.parametrize(GOOD, good("merkle", "tree"))
def test_roots_and_paths(given: Json, found: Json) -> None:
    leaves, paths = raws(given["leaves"]), [raws(path) for path in found["paths"]]
    root, ours = merkle.root_and_paths(leaves)
    assert (root.hex(), [list(path) for path in ours]) == (found["root"], paths)
    assert reference.root(leaves).hex() == found["root"]
    for index, (leaf, path) in enumerate(zip(leaves, paths, strict=True)):
        assert len(path) == merkle.depth(len(leaves))
        for climb in (merkle.root_from, reference.climb):
            assert climb(leaf, index, path).hex() == found["root"]


@pytest.mark.parametrize(BAD, bad("merkle", "climb"))
def test_paths_that_lead_elsewhere(given: Json, reason: str) -> None:
    assert reason == Reason.BAD_SHARE
    for climb in (merkle.root_from, reference.climb):
        found = climb(raw(given["leaf"]), given["index"], raws(given["path"]))
        assert found.hex() != given["root"]
