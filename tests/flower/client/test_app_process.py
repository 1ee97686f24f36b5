"""An app that forgot `secure_mod` is told so by name, and its own function is not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp, client_app
from flwr.supercore.task_identity import TaskIdentity

from smpcfl.daemons import supernode_replies
from smpcfl.daemons.supernode import _run_apps_in_our_process
from smpcfl.flower.client import app_process
from smpcfl.flower.client.mod import ERROR_CODE
from smpcfl.flower.shared.records import RECORD

CONTEXT = Context(1, 1, {}, RecordDict(), {})


@pytest.fixture(autouse=True)
def _guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(client_app, "make_ffn", client_app.make_ffn)  # type: ignore[attr-defined]
    app_process.guard()


def call(app: ClientApp, *records: str) -> tuple[Message, list[str]]:
    """The reply to a training message with these records, and what reached the app's own function."""
    ran: list[str] = []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        ran.extend(message.content)
        return Message(RecordDict(), reply_to=message)

    content = RecordDict({name: ConfigRecord({"identify": True}) for name in records})
    message = Message(content, dst_node_id=1, message_type="train")
    message.metadata.__dict__["_message_id"] = "1"
    return app(message, CONTEXT), ran


def test_a_forgotten_mod_is_named_and_nothing_is_trained() -> None:
    reply, ran = call(ClientApp(), RECORD, "config")
    assert (reply.error.code, reply.error.reason) == (ERROR_CODE, app_process.NO_MOD)
    assert "has no secure_mod" in reply.error.reason
    assert ran == []
    assert supernode_replies._shown(reply) == reply.error, "it leaves the peer as it is"


def test_an_app_is_run_by_a_mod_that_takes_our_record() -> None:
    def mod(message: Message, context: Context, call_next: Any) -> Message:
        kept = {name: item for name, item in message.content.items() if name != RECORD}
        taken = Message(RecordDict(kept), dst_node_id=1, message_type="train")
        taken.metadata.__dict__["_message_id"] = "1"
        return call_next(taken, context)  # type: ignore[no-any-return]

    reply, ran = call(ClientApp(mods=[mod]), RECORD, "config")
    assert not reply.has_error()
    assert ran == ["config"]


def test_plain_flower_is_left_alone() -> None:
    reply, ran = call(ClientApp(), "config")
    assert not reply.has_error()
    assert ran == ["config"]


@pytest.mark.commands
def test_flower_finds_our_process_by_the_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    _run_apps_in_our_process(tmp_path / "bin")
    found = subprocess.run(
        ["flwr-clientapp", "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "usage: flwr-clientapp" in found.stdout
    assert os.environ["PATH"].startswith(str(tmp_path / "bin"))
