"""Builds with one check taken out, to the letter: the source is compiled again without it.

So an attack that a check stops can be seen to work where the check is missing, and everything else is as
it ships. A check that is no longer where a test says it is makes that test fail.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from smpcfl.protocol.errors import Reason

Function = Callable[..., Any]


class _Remover(ast.NodeTransformer):
    def __init__(self, what: tuple[Reason | str, ...]) -> None:
        self.reasons = {item.name for item in what if isinstance(item, Reason)}
        self.calls = {item for item in what if not isinstance(item, Reason)}
        self.found: set[str] = set()

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        call = node.exc
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Attribute):
            return self._without(node, call.args[0].attr, self.reasons)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if isinstance(node.value, ast.Call):
            name = ast.unparse(node.value.func)
            return self._without(node, name.removeprefix("self."), self.calls)
        return node

    def _without(self, node: ast.stmt, name: str, wanted: set[str]) -> ast.stmt:
        if name not in wanted:
            return node
        self.found.add(name)
        return ast.copy_location(ast.Pass(), node)


def without(function: Function, *what: Reason | str) -> Function:
    """`function` without the statements that raise these reasons, or call these functions."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    remover = _Remover(what)
    tree = remover.visit(tree)
    assert remover.found == remover.reasons | remover.calls, f"no such check in {function}"
    flags = __future__.annotations.compiler_flag
    code = compile(tree, inspect.getfile(function), "exec", flags, dont_inherit=True)
    made: dict[str, Function] = {}
    exec(code, function.__globals__, made)
    return made[function.__name__]


@dataclass(frozen=True)
class Check:
    """What stops an attack: in `name` of a class or module, the refusals `what`."""

    where: Any
    name: str
    what: tuple[Reason | str, ...]


def check(where: Any, name: str, *what: Reason | str) -> Check:
    return Check(where, name, what)


@contextmanager
def removed(*checks: Check) -> Iterator[None]:
    """Within this, every party runs a build without these checks."""
    together: dict[tuple[Any, str], tuple[Reason | str, ...]] = {}
    for item in checks:
        key = (item.where, item.name)
        together[key] = together.get(key, ()) + item.what
    with ExitStack() as stack:
        for (where, name), what in together.items():
            weaker = without(getattr(where, name), *what)
            stack.enter_context(patch.object(where, name, weaker))
        yield
