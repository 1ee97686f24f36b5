"""The mask of one update: pair masks cancel between two peers, and no mask prints itself."""

from __future__ import annotations

import numpy as np
import pytest

from smpcfl.protocol import kernels
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret, expand
from smpcfl.protocol.masks import AdditiveMasks, SeededMasks
from smpcfl.protocol.ring import WIDTHS, Layout
from support.network import random_addend

LAYOUT = Layout(16, 10, 8)
A, B, PAIR, OTHER = (Secret(bytes([number]) * 32) for number in range(1, 5))
ADDEND = random_addend(LAYOUT, np.random.default_rng(0))


def test_it_is_the_self_mask_and_those_of_the_pairs_with_their_signs() -> None:
    masked = SeededMasks(A, plus=(PAIR,), minus=(OTHER,)).apply(ADDEND.copy())
    expected = ADDEND + expand(A, LAYOUT) + expand(PAIR, LAYOUT) - expand(OTHER, LAYOUT)
    assert masked.tobytes() == expected.tobytes()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("beyond", [-1, 0, 1, 7])
def test_a_keystream_goes_on_from_block_to_block(width: int, beyond: int) -> None:
    words = 2 * kernels.BLOCK * 8 // width + beyond
    layout = Layout(width, words, kernels.BLOCK // 8 + 3)
    addend = random_addend(layout, np.random.default_rng(0))
    masked = SeededMasks(A, plus=(PAIR,), minus=(OTHER,)).apply(addend.copy())
    expected = addend + expand(A, layout) + expand(PAIR, layout) - expand(OTHER, layout)
    assert masked.tobytes() == expected.tobytes()


def test_what_two_peers_share_cancels_in_their_sum() -> None:
    lower = SeededMasks(A, plus=(PAIR,), minus=()).apply(ADDEND.copy())
    higher = SeededMasks(B, plus=(), minus=(PAIR,)).apply(ADDEND.copy())
    left = lower + higher - expand(A, LAYOUT) - expand(B, LAYOUT)
    assert left.tobytes() == (ADDEND + ADDEND).tobytes()


def test_an_additive_mask_is_added_whole_or_refused() -> None:
    mask = expand(A, LAYOUT)
    masked = AdditiveMasks(mask.tobytes()).apply(ADDEND.copy())
    assert masked.tobytes() == (ADDEND + mask).tobytes()
    with pytest.raises(RemoteError) as error:
        AdditiveMasks(mask.tobytes()[:-1]).apply(ADDEND.copy())
    assert error.value.reason is Reason.WRONG_LENGTH


def test_no_mask_prints_itself() -> None:
    assert "x01" not in repr(SeededMasks(A, (A,), (A,))) + repr(AdditiveMasks(bytes(A)))
