"""Numbers as people read them."""

import pytest

from smpcfl.reports import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.96, "1.0 kB"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1.632e6, "1.6 MB"),
        (3e9, "3.0 GB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_byte_size(count: float, text: str) -> None:
    assert units.byte_size(count) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0049, "0.00 s"), (0.254, "0.25 s"), (6.08, "6.1 s"), (152.4, "152 s")]
)
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text
