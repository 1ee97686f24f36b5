"""The copier of join folders: what it writes into which Secret, and when."""

from __future__ import annotations

import base64
import importlib.util
import json
import ssl
import urllib.request
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from smpcfl.net.certificates import Role
from smpcfl.registry.authority import Authority
from support.manifests import FOLDER

SCRIPT = FOLDER / "components/copier/copy_join.py"


@pytest.fixture
def copier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("copy_join", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "token").write_text("of the service account\n")
    monkeypatch.setattr(module, "RIGHTS", tmp_path)
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: None)
    return module


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[urllib.request.Request]:
    found: list[urllib.request.Request] = []

    def urlopen(request: urllib.request.Request, **_: Any) -> nullcontext[None]:
        found.append(request)
        return nullcontext()

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return found


def data(request: urllib.request.Request) -> dict[str, bytes]:
    assert isinstance(request.data, bytes)
    content = json.loads(request.data)
    assert content.keys() == {"data"}
    return {name: base64.b64decode(text) for name, text in content["data"].items()}


def test_what_the_registry_writes_is_copied_once_for_each_role(
    copier: Any, sent: list[urllib.request.Request], tmp_path: Path
) -> None:
    join = tmp_path / "join"
    written: dict[str, dict[str, str]] = {}
    copier.copy("here", join, written)
    assert not sent, "there is no folder yet"
    Authority(tmp_path / "state", join)
    copier.copy("here", join, written)
    copier.copy("here", join, written)
    for role, request in zip((Role.PEER, Role.AGGREGATOR), sent, strict=True):
        assert request.get_method() == "PATCH"
        assert request.full_url.endswith(f"/namespaces/here/secrets/join-{role}")
        assert request.get_header("Authorization") == "Bearer of the service account"
        files = {path.name: path.read_bytes() for path in (join / role).iterdir()}
        assert data(request) == files
        assert files.keys() == {"ca.pem", "token"}


def test_a_new_token_is_copied_and_a_withdrawn_one_is_empty(
    copier: Any, sent: list[urllib.request.Request], tmp_path: Path
) -> None:
    join = tmp_path / "join"
    written: dict[str, dict[str, str]] = {}
    Authority(tmp_path / "state", join)
    copier.copy("here", join, written)
    sent.clear()
    (join / "peer/token").write_text("the next")
    copier.copy("here", join, written)
    (join / "peer/token").unlink()
    copier.copy("here", join, written)
    assert [data(request)["token"] for request in sent] == [b"the next", b""]


def test_a_secret_that_could_not_be_written_is_tried_again(
    copier: Any, sent: list[urllib.request.Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = tmp_path / "join"
    written: dict[str, dict[str, str]] = {}
    Authority(tmp_path / "state", join)
    with monkeypatch.context() as broken:
        broken.setattr(copier, "patch", lambda *_: (_ for _ in ()).throw(OSError("no API server")))
        with pytest.raises(OSError, match="no API server"):
            copier.copy("here", join, written)
    copier.copy("here", join, written)
    assert len(sent) == 2
