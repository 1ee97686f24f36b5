"""Secrets and tokens are compared in constant time: `==` on them stands nowhere in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import smpcfl

FOLDER = Path(smpcfl.__file__).parent
# `given_seed` is a switch: whether the aggregator may give one.
SECRET = re.compile(
    r"(^|_)(tokens?|secrets?|(?<!given_)seeds?|private|password|(self|pair)_(share|key)s?)$"
)
SAME = ("encode", "decode", "strip", "hex")  # give the same in another form
COMPARED = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def comparisons(tree: ast.AST) -> Iterator[str]:
    """Those that Python would end at the first byte that differs."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(operator, COMPARED) for operator in node.ops):
            continue
        for side in (node.left, *node.comparators):
            if SECRET.search(_name(side)):
                yield ast.unparse(node)


def _name(node: ast.AST) -> str:
    """What an expression is called: the last name in it."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in SAME:
            return _name(node.func.value)
        return _name(node.args[0]) if node.args and _name(node.func) == "bytes" else ""
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def test_no_secret_is_compared_byte_by_byte() -> None:
    found = {
        str(path.relative_to(FOLDER)): list(comparisons(ast.parse(path.read_text())))
        for path in FOLDER.rglob("*.py")
    }
    assert {path: texts for path, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    "code",
    [
        "token == given",
        "given.encode() != self._tokens[role].encode()",
        "request.token in known",
        "bytes(secret) == b",
        "x if a.self_seed == b else y",
    ],
)
def test_this_file_would_notice(code: str) -> None:
    assert list(comparisons(ast.parse(code))) == [
        code.removeprefix("x if ").removesuffix(" else y")
    ]
