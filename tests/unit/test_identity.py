"""The certificates that a process knows."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from smpcfl import identity
from smpcfl.identity import Members, Role
from support.enrolled import Deployment


def test_an_older_certificate_does_not_replace_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(tmp_path)
    newer = deployment.certificate(Role.PEER, "peer-a")
    monkeypatch.setattr(identity, "BACKDATE", datetime.timedelta(hours=1))
    older = deployment.certificate(Role.PEER, "peer-a")
    members = Members(deployment.ca)
    for der, stands in ((older, older), (newer, newer), (older, newer)):
        members.add(der)
        found = members.get("peer-a")
        assert found is not None
        assert found.der == stands
