"""A peer's node config: what Flower's own reader makes of it, and nothing passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.common.config import parse_config_args

from smpcfl.base.config import ConfigError, Settings, load
from smpcfl.base.node_config import parse, write

EVERYTHING: dict[str, Any] = {
    "partition-id": 3,
    "rate": 1e-05,
    "far": float("inf"),
    "fast": True,
    "data": '/data/a "b" \\ é\x7f\n.csv',
    "model.size": "large",
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "partition-id=1 num-partitions=5",
        "rate=0.1 fast=true data=\"/data/a b.csv\" other='x=1 y'",
        "model.size=3 model.name='m'",
        '  spaced="a"   twice=2  ',
    ],
)
def test_it_is_read_as_flower_reads_it(text: str) -> None:
    assert parse(text) == parse_config_args([text])


def test_a_file_is_read_as_flower_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('partition-id = 4\n[data]\npath = "/data"\nrows = 7\n')
    assert parse(str(path)) == {"partition-id": 4, "data.path": "/data", "data.rows": 7}
    assert parse(str(path)) == parse_config_args([str(path)])


def test_what_the_supernode_is_given_is_what_was_parsed(tmp_path: Path) -> None:
    path = write(tmp_path / "node.toml", EVERYTHING)
    assert parse_config_args([str(path)]) == EVERYTHING == parse(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partition-id", "'partition-id' is no key=value"),
        ("a=1, b", "'b' is no key=value"),
        ("a=1,", "a = 1,|Expected newline"),
        ("name=alice", "Invalid value"),
        ("a=1 a=2", "Cannot overwrite a value"),
        ("a=[1,2]", r"a is \[1, 2\]: a number, a text, true or false"),
        ("missing.toml", "cannot read missing.toml"),
    ],
)
def test_anything_else_is_refused_where_the_peer_starts(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Settings(node_config=text)
    assert "--node-config (SMPCFL_NODE_CONFIG): " in str(caught.value)


def test_the_option_and_the_variable_are_the_same() -> None:
    variable = load({"SMPCFL_NODE_CONFIG": "a=1"}, {})
    assert variable == load({}, {"node_config": "a=1"})
