"""Which apps a peer's SuperNode runs, with Flower's own code that receives them."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import get_fab_metadata
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from smpcfl.base.config import ConfigError, Settings
from smpcfl.cli.main import main
from smpcfl.daemons import allowed_apps
from smpcfl.daemons import supernode as ours
from smpcfl.daemons.bundled import BUNDLED
from smpcfl.daemons.run_apps import app_of_run
from smpcfl.protocol.errors import LocalError


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = ("_verify_fab", "_pull_and_store_message", "_push_messages", "FAB_VERIFICATION_ERROR")
    for name in patched:
        monkeypatch.setattr(supernode, name, getattr(supernode, name))
    monkeypatch.setattr(FleetHttpClient, "PushMessages", FleetHttpClient.PushMessages)
    monkeypatch.setattr(InMemoryNodeState, "create_task", InMemoryNodeState.create_task)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """The folder where the SuperNode notes which app each run has."""
    return tmp_path / "noted"


NAMED = get_fab_metadata(build_fab_from_disk(BUNDLED))
RUN = 1  # of each message here, see above


def new_state() -> InMemoryNodeState:
    state = NodeStateFactory(ObjectStoreFactory()).state()
    state.set_node_id(1)
    assert isinstance(state, InMemoryNodeState)
    return state


def receive(
    content: bytes,
    named: tuple[str, str] = NAMED,
    *,
    state: InMemoryNodeState | None = None,
    run: dict[str, Any] | None = None,
    fab_hash: str | None = None,
    **claims: Any,
) -> str:
    """What a SuperNode answers when it is sent this bundle; empty if it makes a task for it.

    `run` is what the SuperLink reports of the run otherwise than it is.
    """
    state = state or new_state()
    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    message.metadata.__dict__["_message_id"] = message.object_id
    fab = Fab(
        hashlib.sha256(content).hexdigest() if fab_hash is None else fab_hash, content, claims
    )
    told = {
        "run_id": RUN,
        "fab_hash": hashlib.sha256(content).hexdigest(),
        "fab_id": named[0],
        "fab_version": named[1],
        "primary_task_type": TaskType.SERVER_APP,
        "series_id": 7,
    }
    objects = {name: item.deflate() for name, item in get_all_nested_objects(message).items()}
    supernode._pull_and_store_message(
        state=state,
        object_store=state.object_store,
        node_config={},
        receive=lambda: (message, get_object_tree(message)),
        get_run=lambda run_id: replace(Run.create_empty(run_id), **(told | (run or {}))),
        get_fab=lambda fab_hash, run_id: fab,
        pull_object=lambda run_id, name: objects[name],
        confirm_message_received=lambda run_id, name: None,
        trusted_entities=None,
    )
    replies = state.get_messages_legacy(is_reply=True)
    assert len(replies) + len(state.get_tasks()) == 1, "it neither answers nor runs the app"
    return str(replies[0].error.reason) if replies else ""


def another(folder: Path, components: str = "") -> Path:
    """The bundled app with a file more, and perhaps a component."""
    app = folder / "app"
    shutil.copytree(BUNDLED, app)
    (app / "more.py").write_text("print('ours now')\n")
    if components:
        project = app / "pyproject.toml"
        table = "[tool.flwr.app.components]\n"
        text = project.read_text()
        assert table in text
        project.write_text(text.replace(table, table + components))
    return app


def test_the_bundled_app_is_run_and_another_is_not(tmp_path: Path, noted: Path) -> None:
    ours.install("bundled", noted)
    assert receive(build_fab_from_disk(BUNDLED)) == ""
    app = another(tmp_path)
    reply = receive(build_fab_from_disk(app), valid_license="really")
    assert allowed_apps.hash_of(app) in reply
    assert "SMPCFL_APPS" in reply


@pytest.mark.parametrize("setting", ["bundled", "any"])
@pytest.mark.parametrize("named", [("/", "/../evil"), (NAMED[0], "9.9.9"), ("x/y", NAMED[1])])
def test_the_superlink_does_not_choose_the_folder_that_the_app_is_loaded_from(
    named: tuple[str, str], setting: str, noted: Path
) -> None:
    ours.install(setting, noted)
    assert "and reported to be" in receive(build_fab_from_disk(BUNDLED), named)


def test_an_app_is_allowed_by_its_hash(tmp_path: Path, noted: Path) -> None:
    app = another(tmp_path)
    ours.install(allowed_apps.hash_of(app), noted)
    assert receive(build_fab_from_disk(app)) == ""
    assert "SMPCFL_APPS" in receive(build_fab_from_disk(BUNDLED))


def test_any_app_is_run_when_asked_for(tmp_path: Path, noted: Path) -> None:
    ours.install("any", noted)
    assert receive(build_fab_from_disk(another(tmp_path))) == ""
    assert "is no bundle of an app" in receive(b"nonsense")


@pytest.mark.parametrize("setting", ["bundled", "any"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (TaskType.AGENT_APP, "the run asks for an agent app"),
        (TaskType.MODEL, "the run asks for a task of type 'flwr-model'"),
        ("", "the run asks for a task of type ''"),
    ],
)
def test_a_run_of_anything_but_clientapps_is_refused_by_name(
    setting: str, kind: str, words: str, noted: Path
) -> None:
    ours.install(setting, noted)
    reply = receive(build_fab_from_disk(BUNDLED), run={"primary_task_type": kind})
    assert reply == f"this peer runs ClientApps only; {words}"


def test_an_app_that_brings_an_agent_is_refused_by_name(tmp_path: Path, noted: Path) -> None:
    app = another(tmp_path, 'agentapp = "more:agent"\n')
    for setting in ("any", allowed_apps.hash_of(app)):
        ours.install(setting, noted)
        reply = receive(build_fab_from_disk(app))
        assert reply.startswith("this peer runs ClientApps only; app ")
        assert reply.endswith("brings agentapp")


def test_the_app_that_was_looked_at_is_the_one_that_the_run_takes(
    tmp_path: Path, noted: Path
) -> None:
    """Else a run would take another app that is here, by the hash that the SuperLink reports."""
    ours.install("any", noted)
    state, other = new_state(), build_fab_from_disk(another(tmp_path))
    state.store_fab(Fab(found := hashlib.sha256(other).hexdigest(), other, {}))
    reply = receive(build_fab_from_disk(BUNDLED), state=state, run={"fab_hash": found}, fab_hash="")
    assert reply.startswith(f"run {RUN} is reported to be of app {found}, and has app ")


def test_what_is_told_of_one_run_reaches_no_other(noted: Path) -> None:
    ours.install("any", noted)
    bundled = build_fab_from_disk(BUNDLED)
    assert receive(bundled, run={"run_id": 6}) == f"run {RUN} is reported to be run 6"
    state = new_state()
    state.set_run_series_context(7, Context(6, 1, {}, RecordDict(), {}, 7))
    assert "goes on with the series of another run" in receive(bundled, state=state)
    assert state.get_run_series_context(7).run_id == 6  # type: ignore[union-attr]


def test_a_supernode_makes_tasks_of_clientapps_alone(noted: Path) -> None:
    ours.install("any", noted)
    state = new_state()
    for kind in TaskType:
        assert (state.create_task(kind, RUN) is not None) == (kind is TaskType.CLIENT_APP)


def test_a_flower_that_verifies_apps_or_makes_tasks_in_another_way_is_an_error(
    monkeypatch: pytest.MonkeyPatch, noted: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(supernode, "_pull_and_store_message", lambda state, get_run: None)
        with pytest.raises(LocalError, match="verifies apps in another way"):
            ours.install("any", noted)
    monkeypatch.setattr(InMemoryNodeState, "create_task", lambda self, kind: None)
    with pytest.raises(LocalError, match="creates tasks in another way"):
        ours.install("any", noted)


@pytest.mark.parametrize("setting", ["bundled", "any"])
def test_the_app_of_a_run_is_noted_before_the_run_gets_it(
    setting: str, noted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours.install(setting, noted)
    state, seen = new_state(), []
    store = state.store_run

    def store_run(run: Run) -> None:
        seen.append(app_of_run(noted, run.run_id))
        store(run)

    monkeypatch.setattr(state, "store_run", store_run)
    assert receive(build_fab_from_disk(BUNDLED), state=state) == ""
    assert seen == [bytes.fromhex(allowed_apps.hash_of(BUNDLED))]


def test_an_app_that_is_refused_is_not_noted(tmp_path: Path, noted: Path) -> None:
    ours.install("bundled", noted)
    assert receive(build_fab_from_disk(another(tmp_path)))
    assert app_of_run(noted, RUN) is None


def test_a_run_whose_app_cannot_be_noted_gets_nothing(noted: Path) -> None:
    ours.install("bundled", noted)
    (noted / str(RUN)).mkdir()
    reply = receive(build_fab_from_disk(BUNDLED))
    assert reply == f"this peer could not note the app of run {RUN}: Is a directory, see its log"


@pytest.mark.parametrize("apps", ["", "all", "bundled,", "BUNDLED", "0" * 63, "any;bundled"])
def test_a_misspelt_list_of_apps_is_an_error(apps: str) -> None:
    with pytest.raises(ConfigError, match="SMPCFL_APPS"):
        Settings(apps=apps)


def test_the_hash_is_shown_and_a_folder_without_an_app_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = another(tmp_path)
    assert main(["hash", str(app)]) == 0
    assert capsys.readouterr().out == f"{allowed_apps.hash_of(app)}\n"
    (app / "pyproject.toml").unlink()
    assert main(["hash", str(app)]) == 1
    assert f"smpcfl hash: {app} is no Flower app" in capsys.readouterr().err
