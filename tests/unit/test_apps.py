"""Which apps a peer's SuperNode runs, with Flower's own code that receives them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import get_fab_metadata
from flwr.supercore.fab import Fab
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as supernode

from smpcfl.config import ConfigError, Settings
from smpcfl.peer import apps
from smpcfl.peer import supernode as ours
from smpcfl.tasks import BUNDLED


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_verify_fab", "_pull_and_store_message", "FAB_VERIFICATION_ERROR"):
        monkeypatch.setattr(supernode, name, getattr(supernode, name))
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


NAMED = get_fab_metadata(build_fab_from_disk(BUNDLED))


class Ran(Exception):
    """Flower got as far as to look into the app."""


def receive(
    monkeypatch: pytest.MonkeyPatch, content: bytes, named: tuple[str, str] = NAMED, **claims: Any
) -> Message | None:
    """The error that a SuperNode answers when it is sent this bundle; Ran if it takes it."""
    replies: list[Message] = []

    def look(*arguments: Any) -> None:
        raise Ran

    monkeypatch.setattr(supernode, "get_fused_config_from_fab", look)
    monkeypatch.setattr(supernode, "_insert_message", lambda reply, *rest: replies.append(reply))
    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    fab = Fab(hashlib.sha256(content).hexdigest(), content, claims)
    supernode._pull_and_store_message(
        state=SimpleNamespace(get_run=lambda run: None),  # type: ignore[arg-type]
        object_store=None,  # type: ignore[arg-type]
        node_config={},
        receive=lambda: (message, None),  # type: ignore[arg-type, return-value]
        get_run=lambda run: SimpleNamespace(  # type: ignore[arg-type, return-value]
            fab_hash=fab.hash_str, fab_id=named[0], fab_version=named[1]
        ),
        get_fab=lambda fab_hash, run: fab,
        pull_object=lambda run, name: b"",
        confirm_message_received=lambda run, name: None,
        trusted_entities=None,
    )
    return replies[0] if replies else None


def another(folder: Path) -> Path:
    """The bundled app with a file more."""
    app = folder / "app"
    shutil.copytree(BUNDLED, app)
    (app / "more.py").write_text("print('ours now')\n")
    return app


def test_the_bundled_app_is_run_and_another_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours.install("bundled")
    with pytest.raises(Ran):
        receive(monkeypatch, build_fab_from_disk(BUNDLED))
    app = another(tmp_path)
    reply = receive(monkeypatch, build_fab_from_disk(app), valid_license="really")
    assert reply is not None
    assert apps.hash_of(app) in reply.error.reason
    assert "SMPCFL_APPS" in reply.error.reason


@pytest.mark.parametrize("named", [("/", "/../evil"), (NAMED[0], "9.9.9"), ("x/y", NAMED[1])])
def test_the_superlink_does_not_choose_the_folder_that_the_app_is_loaded_from(
    monkeypatch: pytest.MonkeyPatch, named: tuple[str, str]
) -> None:
    ours.install("bundled")
    reply = receive(monkeypatch, build_fab_from_disk(BUNDLED), named)
    assert reply is not None
    assert reply.has_error()


def test_an_app_is_allowed_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = another(tmp_path)
    ours.install(apps.hash_of(app))
    with pytest.raises(Ran):
        receive(monkeypatch, build_fab_from_disk(app))
    assert receive(monkeypatch, build_fab_from_disk(BUNDLED)) is not None


def test_any_app_is_run_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours.install("any")
    with pytest.raises(Ran):
        receive(monkeypatch, build_fab_from_disk(another(tmp_path)))


@pytest.mark.parametrize("apps", ["", "all", "bundled,", "BUNDLED", "0" * 63, "any;bundled"])
def test_a_misspelt_list_of_apps_is_an_error(apps: str) -> None:
    with pytest.raises(ConfigError, match="SMPCFL_APPS"):
        Settings(apps=apps)
