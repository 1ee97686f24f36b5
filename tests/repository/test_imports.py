"""The wall around the core: no sockets, no clock, no files, no Flower, no gRPC."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import smpcfl.protocol

ROOT = Path(smpcfl.protocol.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
ALLOWED = sys.stdlib_module_names | {"numpy", "cryptography"}
OUTSIDE = {"asyncio", "datetime", "io", "os", "pathlib", "secrets", "select", "socket", "ssl"}
OUTSIDE |= {"subprocess", "tempfile", "threading", "time", "urllib"}


def imported(path: Path) -> set[str]:
    """Top-level names of absolute imports; a relative one that leaves the package counts as '..'."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level > 1:
            names.add("..")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_core_imports_the_standard_library_numpy_and_cryptography_alone(path: Path) -> None:
    assert imported(path) <= ALLOWED


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_core_touches_neither_clock_nor_file_nor_socket_nor_entropy(path: Path) -> None:
    assert not imported(path) & OUTSIDE
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}


def test_the_wall_covers_the_whole_core() -> None:
    assert {"peer_round", "aggregator_round", "quantise", "shamir"} <= {
        path.stem for path in MODULES
    }
