"""Clip and weight cap from round to round: up for one peer without room, down only if all have ample room."""

from __future__ import annotations

import pytest

from smpcfl.flower.server.clipping import Clipping
from smpcfl.protocol.ticket import LARGEST_CAP, LARGEST_CLIP, LEAST_CAP, LEAST_CLIP
from smpcfl.protocol.trailer import Trailer

CAP = 100
START = Clipping(clip=1.0, weight_cap=CAP)


def counted(contributors: int = 5, failed: int = 0, weight: int = CAP, **counts: int) -> Trailer:
    """Of a round in which each contributor had `weight` examples, of which the cap lets pass its own."""
    return Trailer(
        peers=contributors + failed,
        contributors=contributors,
        weight=contributors * min(weight, CAP),
        examples=contributors * weight,
        **counts,
    )


@pytest.mark.parametrize(
    ("counts", "clip"),
    [
        ({"clipped": 1, "roomy": 4}, 2.0),
        ({"clipped": 5}, 2.0),
        ({"roomy": 5}, 0.75),
        ({"roomy": 4}, 1.0),
        ({}, 1.0),
    ],
)
def test_the_clip_goes_up_for_one_peer_and_down_for_all(
    counts: dict[str, int], clip: float
) -> None:
    assert START.after(counted(**counts)) == Clipping(clip, CAP)


@pytest.mark.parametrize(
    ("counts", "cap"),
    [
        ({"capped": 1, "weight": CAP}, 2 * CAP),
        ({"capped": 1, "weight": 1}, 2 * CAP),
        ({"weight": 24}, CAP // 2),
        ({"weight": 25}, CAP),
        ({"weight": CAP}, CAP),
    ],
)
def test_the_cap_goes_up_for_one_peer_and_down_if_the_mean_uses_less_than_a_quarter(
    counts: dict[str, int], cap: int
) -> None:
    assert START.after(counted(**counts)) == Clipping(1.0, cap)


@pytest.mark.parametrize(("weight", "cap"), [(5, 32), (4, 32), (3, 16), (100, 512)])
def test_a_cap_far_too_large_comes_down_at_once_to_what_nobody_can_exceed(
    weight: int, cap: int
) -> None:
    """Of five peers with so many examples each, one may have all."""
    found = Clipping(1.0, 1024).after(
        Trailer(peers=5, contributors=5, weight=5 * weight, examples=5 * weight)
    )
    assert found.weight_cap == cap


def test_clip_and_cap_go_their_own_ways() -> None:
    assert START.after(counted(clipped=1, weight=20)) == Clipping(2.0, CAP // 2)
    assert START.after(counted(roomy=5, capped=1)) == Clipping(0.75, 2 * CAP)


def test_peers_whose_training_failed_do_not_keep_the_clip_wide() -> None:
    """They count as nothing but peers: neither roomy nor of any weight."""
    assert START.after(counted(contributors=3, failed=2, roomy=3)).clip == 0.75
    assert START.after(counted(contributors=3, failed=2, roomy=2)).clip == 1.0
    assert START.after(counted(contributors=3, failed=2, weight=30)).weight_cap == CAP


def test_both_stay_within_what_peers_accept() -> None:
    widest = narrowest = START
    for _ in range(100):
        widest = widest.after(counted(clipped=1, capped=1))
        narrowest = narrowest.after(counted(roomy=5, weight=1))
    assert widest == Clipping(LARGEST_CLIP, LARGEST_CAP)
    assert narrowest == Clipping(LEAST_CLIP, LEAST_CAP)


def test_from_the_bounds_it_finds_back() -> None:
    assert Clipping(LEAST_CLIP, LEAST_CAP).after(counted(clipped=1, capped=1)) == Clipping(
        2 * LEAST_CLIP, 2 * LEAST_CAP
    )
    assert Clipping(LARGEST_CLIP, LARGEST_CAP).after(counted(roomy=5)) == Clipping(
        0.75 * LARGEST_CLIP,
        512,  # five peers of a hundred examples
    )


def test_what_a_run_starts_with_is_within_the_bounds() -> None:
    first = Clipping()
    assert LEAST_CLIP < first.clip < LARGEST_CLIP
    assert LEAST_CAP < first.weight_cap < LARGEST_CAP
