"""The table of attacks in docs/threat-model.md names tests that exist, and all files of this suite."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from smpcfl.protocol.errors import Reason

HERE = Path(__file__).parent
TEXT = (HERE.parents[1] / "docs" / "threat-model.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if "::test_" in line]
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXT)


def test_every_row_has_its_four_columns_and_a_test() -> None:
    assert len(ROWS) > 40
    assert all(len(row) == 4 for row in ROWS)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_tests_exist(file: str, name: str) -> None:
    tree = ast.parse((HERE / file).read_text())
    assert name in {getattr(node, "name", None) for node in tree.body}


def test_no_file_is_left_out() -> None:
    about_itself = {"test_table.py", "test_unchecked.py"}
    assert {file for file, _ in NAMED} == {p.name for p in HERE.glob("test_*.py")} - about_itself


def test_the_reasons_are_those_of_the_code() -> None:
    given = {word for row in ROWS for word in re.findall(r"`(\w+)`", row[2])}
    assert given <= {reason.value for reason in Reason}
