"""The rooms of the house: every import between them goes down, and the picture in the docs is this one."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import smpcfl
from support.rooms import LAYERS, Import, arrows, imports, picture, room_of

ROOT = Path(smpcfl.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[2]
FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}
ARCHITECTURE = (REPOSITORY / "docs/architecture.md").read_text()


def wrong(found: list[Import]) -> list[Import]:
    """Those that go up, or to another room on the same floor."""
    return [item for item in found if not FLOOR[item.room] < FLOOR[item.to]]


def copied(into: Path) -> Path:
    """The package once more, to plant something in."""
    package = into / "smpcfl"
    for source in ROOT.rglob("*.py"):
        copy = package / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(source.read_text())
    return package


def test_every_import_between_rooms_goes_down() -> None:
    found = imports(ROOT)
    assert len(found) > 100
    assert not wrong(found)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("peer/agent.py", "from ..aggregator import run_keeper"),
        ("registry/roster.py", "from ..peer.agent import PeerAgent"),
        ("flower/client/mod.py", "from ..server.strategy import SecureStrategy"),
        ("protocol/ring.py", "from ..net import wire"),
        ("base/files.py", "from smpcfl.net.certificates import Identity"),
        ("net/rpc.py", "import smpcfl.cli.main"),
    ],
)
def test_a_planted_import_up_or_sideways_is_found(path: str, line: str, tmp_path: Path) -> None:
    planted = copied(tmp_path)
    assert not wrong(imports(planted))
    (planted / path).write_text(f"{(planted / path).read_text()}\n{line}\n")
    assert [item.path for item in wrong(imports(planted))] == [path]


def test_nothing_else_lies_in_the_root() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_no_two_files_have_one_name() -> None:
    names = [p.name for p in ROOT.rglob("*.py") if p.name not in ("__init__.py", "__main__.py")]
    assert len(names) == len(set(names))


def classes_of_one_name(package: Path) -> dict[str, list[str]]:
    """Public classes at the top of a file, by name, with the files where more than one has it."""
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(package)))
    return {name: files for name, files in found.items() if len(files) > 1}


def test_no_two_classes_have_one_name(tmp_path: Path) -> None:
    assert not classes_of_one_name(ROOT)
    planted = copied(tmp_path)
    (planted / "net/rpc.py").write_text("class PeerRound:\n    pass\n")
    assert classes_of_one_name(planted) == {"PeerRound": ["net/rpc.py", "protocol/peer_round.py"]}


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_each_room_says_where_it_runs_and_what_for(room: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert text is not None
    if room != "flower":  # its own is what a user reads
        assert text.startswith("Runs "), room
        assert text.count("\n") == 0, "one sentence"


def test_every_room_is_on_a_floor() -> None:
    found = {room_of(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")} - {""}
    assert found == FLOOR.keys()


def test_the_picture_in_the_docs_is_the_code() -> None:
    block = re.search(r"<!-- rooms:begin -->\n(.*?)<!-- rooms:end -->", ARCHITECTURE, re.S)
    assert block is not None
    assert block[1] == picture(arrows(imports(ROOT)))


def test_the_names_in_the_docs_are_the_codes() -> None:
    """`room/file.py`, and `room/file.py::name` for something defined there."""
    named = re.findall(r"`([a-z_/]+\.py)(?:::([A-Za-z_.]+))?`", ARCHITECTURE)
    assert len(named) > 10
    for path, name in named:
        module = importlib.import_module(f"smpcfl.{path[:-3].replace('/', '.')}")
        thing = module
        for part in filter(None, name.split(".")):
            thing = getattr(thing, part)
