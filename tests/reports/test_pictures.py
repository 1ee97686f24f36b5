"""What the aggregator sees of one peer, as pictures."""

import base64
import json
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smpcfl.reports import pictures
from smpcfl.reports.pictures import SUM, UPDATE, UPLOAD, Picture


def grey(picture: Picture) -> list[list[int]]:
    return [list(base64.b64decode(tile)) for tile in picture.tiles]


def test_a_change_is_grey_from_black_to_white_each_row_by_itself() -> None:
    rows = np.array([[-2.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, -1e-9], [0.0, 0.0, 0.0, 0.0]])
    picture = Picture.of(UPDATE, "p", 1, "w", rows)
    assert (picture.height, picture.width) == (2, 2)
    assert grey(picture) == [[0, 127, 190, 254], [127, 127, 127, 0], [127] * 4]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_of_a_word_of_the_ring_the_high_byte_is_shown(dtype: type[np.unsignedinteger]) -> None:
    shift = 8 * np.dtype(dtype).itemsize - 8
    words = (np.array([[0, 1, 128, 255]], np.uint64) << np.uint64(shift)).astype(dtype)
    assert grey(Picture.of(UPLOAD, "p", 1, "w", words)) == [[0, 1, 128, 255]]


def test_a_row_is_padded_to_a_rectangle() -> None:
    picture = Picture.of(SUM, "", 1, "w", np.ones((1, 5)))
    assert (picture.height, picture.width) == (2, 3)
    assert grey(picture) == [[254] * 5 + [127]]


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"w": (128, 784), "b": (128,)}, ("w", 0, (8, 784))),
        ({"conv": (6, 1, 5, 5), "fc": (10, 256)}, ("fc", 150, (8, 256))),
        ({"b": (3,), "w": (2, 3)}, ("b", 0, (1, 3))),
        ({"scale": ()}, ("scale", 0, (1, 1))),
        ({}, None),
    ],
)
def test_shown_is_the_first_array_with_long_rows(shapes: dict[str, Any], expected: Any) -> None:
    model = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    model |= {"n": np.zeros((4, 999), np.int64), "none": np.zeros((0, 99), np.float32)}
    assert pictures.shown_rows(model) == expected


def test_rows_are_cut_where_they_are_in_the_vector() -> None:
    flat = np.arange(100)
    assert pictures.cut(flat, 10, (2, 3)).tolist() == [[10, 11, 12], [13, 14, 15]]


def test_a_tile_is_a_png() -> None:
    picture = Picture.of(UPLOAD, "p", 1, "w", np.arange(6, dtype=np.uint8)[None])
    (png,) = picture.pngs()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", png[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(kind + data)
        found[kind] = data
        at += 12 + length
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (3, 2, 8, 0, 0, 0, 0)
    assert zlib.decompress(found[b"IDAT"]) == bytes([0, 0, 1, 2, 0, 3, 4, 5])


def test_pictures_are_kept_and_read_again(tmp_path: Path) -> None:
    picture = Picture.of(UPLOAD, "p", 1, "w", np.arange(6, dtype=np.uint8)[None])
    path = tmp_path / "seen.json"
    assert pictures.load(path) == []
    pictures.keep(path, [picture])
    assert pictures.load(path) == [picture]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change", [{"kind": "other"}, {"height": 0}, {"height": 9}, {"tiles": [3]}, {"more": 1}]
)
def test_what_is_no_picture_is_left_out(change: dict[str, Any], tmp_path: Path) -> None:
    picture = Picture.of(UPLOAD, "p", 1, "w", np.arange(6, dtype=np.uint8)[None])
    path = tmp_path / "seen.json"
    path.write_text(json.dumps([{**asdict(picture), **change}]))
    assert pictures.load(path) == []
