"""The tree of share hashes: every leaf leads to the root, and nothing else does."""

from __future__ import annotations

import pytest

from smpcfl.protocol import merkle
from smpcfl.protocol.encoding import digest

SIZES = range(1, 41)


def leaves_of(count: int) -> list[bytes]:
    return [digest("test leaf", number)[: merkle.NODE_BYTES] for number in range(count)]


@pytest.mark.parametrize("count", SIZES)
def test_every_leaf_verifies(count: int) -> None:
    leaves = leaves_of(count)
    root, paths = merkle.root_and_paths(leaves)
    for index, (node, path) in enumerate(zip(leaves, paths, strict=True)):
        assert len(path) == merkle.depth(count)
        assert merkle.root_from(node, index, path) == root


@pytest.mark.parametrize("count", SIZES)
def test_no_leaf_verifies_in_anothers_place(count: int) -> None:
    leaves = leaves_of(count)
    root, paths = merkle.root_and_paths(leaves)
    for index, path in enumerate(paths):
        for other, node in enumerate(leaves):
            assert (merkle.root_from(node, index, path) == root) == (other == index)


@pytest.mark.parametrize("count", [2, 3, 7, 8, 40])
def test_a_path_holds_at_its_own_index_alone(count: int) -> None:
    leaves = leaves_of(count)
    root, paths = merkle.root_and_paths(leaves)
    for index in range(1 << merkle.depth(count)):
        assert (merkle.root_from(leaves[1], index, paths[1]) == root) == (index == 1)


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_other_contents_do_not_verify(count: int) -> None:
    root, paths = merkle.root_and_paths(leaves_of(count))
    assert merkle.root_from(digest("forged"), 0, paths[0]) != root


@pytest.mark.parametrize("count", [2, 5, 40])
def test_an_inner_node_is_no_leaf(count: int) -> None:
    leaves = leaves_of(count)
    root, paths = merkle.root_and_paths(leaves)
    inner = digest("merkle node", leaves[0], leaves[1])[: merkle.NODE_BYTES]
    assert merkle.root_from(inner, 0, paths[0][1:]) == root  # as a node it does lead there,
    assert merkle.leaf(leaves[0], leaves[1]) != inner  # but no two share hashes give it


@pytest.mark.parametrize("count", [3, 5, 40])
def test_a_different_number_of_leaves_has_a_different_root(count: int) -> None:
    leaves = leaves_of(count)
    assert merkle.root_and_paths(leaves)[0] != merkle.root_and_paths(leaves[:-1])[0]


def test_a_share_hash_binds_kind_holder_and_contents() -> None:
    share = bytes(33)
    hashes = {
        merkle.share_hash("self", 1, share),
        merkle.share_hash("pair", 1, share),
        merkle.share_hash("self", 2, share),
        merkle.share_hash("self", 1, bytes(32) + b"\x01"),
    }
    assert len(hashes) == 4
