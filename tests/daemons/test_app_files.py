"""Which files of a folder are the app: what runs, and nothing that a run saves beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from smpcfl.daemons import app_files
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.protocol.errors import LocalError

PROJECT = """\
[project]
name = "mine"
version = "1.0.0"
license = "MIT"
[tool.flwr.app]
publisher = "me"
{more}
[tool.flwr.app.components]
serverapp = "mine.app:server"
clientapp = "mine.app:client"
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    write(folder, "pyproject.toml", PROJECT.format(more=""))
    write(folder, "mine/__init__.py")
    write(folder, "mine/app.py", "client = server = None\n")
    write(folder, "mine/labels.json", "[0, 1]")
    write(folder, "README.md", "about it")
    return folder


def write(folder: Path, name: str, text: str = "") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def project(folder: Path, more: str) -> None:
    write(folder, "pyproject.toml", PROJECT.format(more=more))


def test_an_app_as_it_was_written_is_what_flower_makes_of_it(app: Path) -> None:
    assert app_files.bundle_of(app) == build_fab_from_disk(app)
    assert app_files.left_out(app) == []
    assert app_files.name_of(app_files.bundle_of(app)) == "me/mine"


@pytest.mark.parametrize(
    "name", ["report/report.json", "results.jsonl", "outputs/1/.hydra/config.yaml", "model.pt"]
)
def test_what_an_app_saves_in_its_own_folder_makes_no_other_app(name: str, app: Path) -> None:
    before = hash_of(app)
    write(app, name, "{}")
    assert hash_of(app) == before
    assert app_files.left_out(app) == ([] if name.endswith(".pt") else [name])


@pytest.mark.parametrize("name", ["mine/app.py", "mine/labels.json", "mine/more.py", "more.py"])
def test_what_would_run_or_be_read_makes_another_app(name: str, app: Path) -> None:
    before = hash_of(app)
    write(app, name, "[1]")
    assert hash_of(app) != before


def test_what_git_ignores_is_left_out_as_flower_does_it(app: Path) -> None:
    write(app, ".gitignore", "local.py\n")
    before = hash_of(app)
    write(app, "local.py", "secret = 1")
    assert hash_of(app) == before


def test_an_app_may_name_its_files_itself(app: Path) -> None:
    write(app, "conf/base.yaml", "a: 1")
    assert "conf/base.yaml" in app_files.left_out(app)
    project(app, 'fab-include = ["**/*.py", "conf/*.yaml"]')
    assert "conf/base.yaml" in app_files.digests(app_files.bundle_of(app))
    assert app_files.left_out(app) == []


@pytest.mark.parametrize("more", ["", 'fab-exclude = ["notes.md"]'])
def test_what_is_staged_for_flower_has_the_same_hash(app: Path, tmp_path: Path, more: str) -> None:
    project(app, more)
    write(app, "notes.md", "x")
    write(app, "results.json", "{}")
    write(app, "data/large.bin", "not copied")
    if not more:  # Flower takes no app that has both
        write(app, ".gitignore", "local.py\n")
        write(app, "local.py")
    staged = tmp_path / "staged"
    write(staged, "mine/old.py", "of the run before")
    app_files.stage(app, staged)
    assert build_fab_from_disk(staged) == app_files.bundle_of(app)
    assert not (staged / "data").exists()


def test_a_change_is_told_by_file(app: Path) -> None:
    before = app_files.digests(app_files.bundle_of(app))
    assert app_files.changes(before, before) == []
    write(app, "mine/app.py", "client = server = 1\n")
    write(app, "mine/more.py")
    (app / "mine/labels.json").unlink()
    now = app_files.digests(app_files.bundle_of(app))
    assert app_files.changes(before, now) == [
        "mine/app.py changed",
        "mine/labels.json is gone",
        "mine/more.py is new",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "pyproject.toml: No such file or directory"),
        ("[project]\n", "pyproject.toml has no \\[tool.flwr.app\\]"),
        ("[", "pyproject.toml: "),
        ("[tool.flwr.app]\n", "Missing"),
    ],
)
def test_a_folder_without_an_app_is_named(text: str | None, why: str, tmp_path: Path) -> None:
    if text is not None:
        write(tmp_path, "pyproject.toml", text)
    with pytest.raises(LocalError, match=f"^{tmp_path} is no Flower app: .*{why}"):
        hash_of(tmp_path)
