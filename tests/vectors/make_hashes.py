"""Known answers of encodings, digests and Merkle trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from smpcfl.flower.shared.records import content_digest
from smpcfl.protocol import merkle
from smpcfl.protocol.digests import config_digest
from smpcfl.protocol.encoding import canonical, digest
from smpcfl.protocol.ledger import configuration
from smpcfl.protocol.quantise import model_digest
from smpcfl.protocol.ticket import pack_bitmap
from vectors.files import (
    Json,
    case,
    hexes,
    number,
    refused,
    topic,
)
from vectors.given import (
    APP,
    CONTENT,
    arrays_json,
    five,
    model,
    part,
    some,
)


def _tagged(item: Any) -> Json:
    if isinstance(item, int):
        return {"int": number(item)}
    if isinstance(item, float):
        return {"float": item.hex()}
    if isinstance(item, bytes):
        return {"bytes": item.hex()}
    if isinstance(item, str):
        return {"str": item}
    return {"list": [_tagged(part) for part in item]}


def encoding() -> Json:
    cases: dict[str, tuple[str, list[Any]]] = {
        "no items": ("empty", []),
        "small integers": ("example", [0, 1, -1, 255, 256]),
        "the largest and the least integer": ("example", [2**71 - 1, -(2**71)]),
        "floats": ("example", [0.0, -0.0, 1.0, -0.1, 2.0**-1074, 1.7976931348623157e308]),
        "bytes": ("example", [b"", b"\0", bytes(range(20))]),
        "strings": ("example", ["", "smpcfl", "Zürich 東京"]),
        "lists": ("example", [[], [1, b"a"], [[b"", "x"], [0.5]]]),
        "another domain": ("example/2", [1]),
        "1, and not 1.0": ("example", [1]),
        "1.0, and not 1": ("example", [1.0]),
        "two items, and not one": ("example", ["a", "b"]),
        "one item, and not two": ("example", ["ab"]),
    }
    vectors = [
        case(
            "canonical",
            name,
            {"domain": domain, "items": [_tagged(item) for item in items]},
            {"bytes": canonical(domain, *items).hex(), "digest": digest(domain, *items).hex()},
        )
        for name, (domain, items) in cases.items()
    ]
    bitmaps = [((), 5), ((0,), 3), ((0, 2, 4), 5), ((7,), 8), ((0, 8), 9), ((1, 9, 15), 17)]
    vectors += [
        case(
            "bitmap",
            f"{len(members)} of {size}",
            {"members": list(members), "size": size},
            {"bytes": pack_bitmap(members, size).hex()},
        )
        for members, size in bitmaps
    ]
    bad = [
        refused("bitmap", "a byte too short", {"bytes": "01", "size": 9}, "malformed"),
        refused("bitmap", "a byte too long", {"bytes": "0100", "size": 8}, "malformed"),
        refused("bitmap", "a bit beyond the cohort", {"bytes": "20", "size": 5}, "malformed"),
    ]
    return topic("What is signed and hashed; sets of peers as bitmaps.", "2", vectors, bad)


def digests() -> Json:
    empty: dict[str, np.ndarray] = {}
    other = {"x": np.arange(6, dtype="<u2").reshape(2, 3), "flag": np.array([True, False])}
    scalars = {"count": np.array(3, "<i4"), "none": np.zeros((0, 4), "<f4")}
    vectors = [
        case("model", name, {"arrays": arrays_json(arrays)}, {"digest": model_digest(arrays).hex()})
        for name, arrays in {
            "floats and integers": model(),
            "small dtypes": other,
            "a scalar and an empty array": scalars,
            "no arrays": empty,
        }.items()
    ]
    vectors += [_content(), _content_of_nothing()]
    vectors.append(
        case(
            "config",
            "content and app",
            {"content_digest": CONTENT.hex(), "app": APP.hex()},
            {"digest": config_digest(CONTENT, APP).hex()},
        )
    )
    for name, signed in {"five peers": five(), "a part of the model": part()}.items():
        digest = configuration(signed.ticket).hex()
        vectors.append(
            case("configuration", f"of the ticket: {name}", {"ticket": name}, {"digest": digest})
        )
    return topic("Digests of a model and of all else that a ClientApp sees.", "5", vectors)


def _content() -> Json:
    from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

    run_config = {"zeta": True, "alpha": 0.25, "name": "mnist", "epochs": 2}
    config = {"lr": 0.1, "flags": [True, False], "key": b"\x01\x02", "steps": [1, 2], "on": False}
    metrics = {"seen": 12, "losses": [0.5, 0.25]}
    arrays = {"layer.weight": Array(np.zeros(3)), "layer.bias": Array(np.ones(1))}
    content = RecordDict(
        {
            "model": ArrayRecord(arrays),
            "config": ConfigRecord(config),
            "smpcfl": ConfigRecord({"left": "out"}),
            "metrics": MetricRecord(metrics),
        }
    )
    plain = [
        {"name": "model", "kind": "ArrayRecord", "contents": list(arrays)},
        {"name": "config", "kind": "ConfigRecord", "contents": _settings(config)},
        {"name": "smpcfl", "kind": "ConfigRecord", "contents": _settings({"left": "out"})},
        {"name": "metrics", "kind": "MetricRecord", "contents": _settings(metrics)},
    ]
    return case(
        "content",
        "every kind of record and value",
        {"message_type": "train", "run_config": _settings(run_config), "records": plain},
        {"digest": content_digest(content, "train", run_config).hex()},  # type: ignore[arg-type]
    )


def _content_of_nothing() -> Json:
    from flwr.app import RecordDict

    return case(
        "content",
        "no records",
        {"message_type": "evaluate", "run_config": [], "records": []},
        {"digest": content_digest(RecordDict(), "evaluate", {}).hex()},
    )


def _settings(values: dict[str, Any]) -> list[Json]:
    def plain(value: Any) -> Json:
        if isinstance(value, bool):
            return {"bool": value}
        if isinstance(value, list):
            return {"list": [plain(item) for item in value]}
        return _tagged(value)

    return [{"key": key, "value": plain(value)} for key, value in values.items()]


def merkle_() -> Json:
    vectors = []
    for kind in ("self", "pair"):
        share = some(f"share {kind}", 33)
        vectors.append(
            case(
                "share_hash",
                kind,
                {"kind": kind, "holder": 2, "share": share.hex()},
                {"hash": merkle.share_hash(kind, 2, share).hex()},
            )
        )
    one, two = some("self hash", 32), some("pair hash", 32)
    vectors.append(
        case(
            "leaf",
            "of two share hashes",
            {"self": one.hex(), "pair": two.hex()},
            {"hash": merkle.leaf(one, two).hex()},
        )
    )
    for count in (1, 2, 3, 4, 5, 8):
        leaves = [some(f"leaf {place}", 16) for place in range(count)]
        root, paths = merkle.root_and_paths(leaves)
        vectors.append(
            case(
                "tree",
                f"{count} leaves",
                {"leaves": hexes(leaves)},
                {"root": root.hex(), "paths": [hexes(path) for path in paths]},
            )
        )
    leaves = [some(f"leaf {place}", 16) for place in range(5)]
    root, paths = merkle.root_and_paths(leaves)
    right = {
        "leaf": leaves[3].hex(),
        "index": 3,
        "path": hexes(paths[3]),
        "root": root.hex(),
    }
    flipped = bytes([paths[3][0][0] ^ 1]) + paths[3][0][1:]
    bad = [
        refused("climb", name, right | change, "bad_share")
        for name, change in {
            "another index": {"index": 2},
            "another leaf": {"leaf": leaves[2].hex()},
            "a flipped bit in the path": {"path": hexes([flipped, *paths[3][1:]])},
            "a path too short": {"path": hexes(paths[3][:-1])},
            "a path in another order": {"path": hexes(reversed(paths[3]))},
        }.items()
    ]
    return topic(
        "Merkle trees over the hashes of shares; paths from leaf to root.", "6", vectors, bad
    )


TOPICS = {"encoding": encoding, "digests": digests, "merkle": merkle_}
