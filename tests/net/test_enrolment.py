"""When a certificate is renewed, and what happens if it cannot be."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509

from smpcfl.base import files
from smpcfl.base.config import ConfigError, Settings
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import JoinFolder, State
from smpcfl.net import certificates, enrolment
from smpcfl.net.certificates import Identity, IdentityError, Role
from support.enrolled import Deployment

DAY = datetime.timedelta(days=1)


class Clock:
    """Moves on when somebody waits."""

    def __init__(self) -> None:
        self.now = datetime.datetime.now(datetime.UTC)
        self.start = self.now
        self.waits: list[float] = []

    async def wait_for(self, event: asyncio.Event, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += datetime.timedelta(seconds=seconds)
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(certificates, "now", lambda: made.now)
    monkeypatch.setattr(enrolment, "wait_for", made.wait_for)
    return made


def peer(folder: Path) -> Identity:
    return Deployment(folder).identity(Role.PEER, "a")


async def keep(own: Identity, folder: Path, stop: asyncio.Event) -> None:
    settings = Settings(state=folder)
    await enrolment.keep_renewed(own, settings, cast(Any, None), Metrics("seeded"), stop)


async def test_renewal_is_looked_for_every_minute_and_tried_after_two_thirds_of_the_life(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[datetime.timedelta] = []
    stop = asyncio.Event()

    async def renew(*arguments: Any) -> None:
        tried.append(clock.now - clock.start)
        stop.set()

    monkeypatch.setattr(enrolment, "_renew", renew)
    await keep(peer(tmp_path), tmp_path, stop)
    assert DAY * 0.56 < tried[0] < DAY * 0.67
    assert max(clock.waits) <= 60


async def test_it_is_tried_again_until_the_certificate_expires_and_then_the_service_ends(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[datetime.timedelta] = []

    async def renew(*arguments: Any) -> None:
        tried.append(clock.now - clock.start)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(enrolment, "_renew", renew)
    with pytest.raises(IdentityError, match=r"expired .* start again"):
        await keep(peer(tmp_path), tmp_path, asyncio.Event())
    assert len(tried) > 1000
    assert tried[-1] > DAY * 0.99


async def test_a_disk_that_is_full_leaves_the_certificate_in_use_the_one_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = peer(tmp_path)
    before = own.certificate
    renewed = Deployment(tmp_path).certificate(Role.PEER, "b")

    class Registry:
        async def Renew(self, request: Any, **options: Any) -> Any:
            return type("Reply", (), {"certificate": renewed})

    def full(folder: Path, certificate: x509.Certificate) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certificates, "save_certificate", full)
    directory = type("Directory", (), {"registry": Registry()})
    with pytest.raises(OSError, match="No space"):
        await enrolment._renew(own, Settings(state=tmp_path), cast(Any, directory), ())
    assert own.certificate is before


def test_a_certificate_that_is_not_the_keys_is_not_used(tmp_path: Path) -> None:
    own = peer(tmp_path)
    certificates.save(tmp_path / "peer", own)
    assert certificates.load(tmp_path / "peer", own.ca) is not None
    files.write_private(tmp_path / "peer" / "key.pem", certificates.key_pem(certificates.new_key()))
    assert certificates.load(tmp_path / "peer", own.ca) is None


async def test_a_state_folder_is_one_peers(tmp_path: Path) -> None:
    own = peer(tmp_path)
    certificates.save(tmp_path / "peer", own)
    files.write_private(tmp_path / "join" / "ca.pem", certificates.pem(own.ca))
    settings = {"state": tmp_path / "peer", "join": tmp_path / "join"}
    assert (await enrolment.enrol(Settings(**settings), Role.PEER)).name == "a"
    with pytest.raises(IdentityError, match="is that of peer a, not b"):
        await enrolment.enrol(Settings(**settings, peer_id="b"), Role.PEER)


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "9000", "x"])
def test_lives_that_make_no_sense_are_refused(hours: str) -> None:
    from smpcfl.base.config import load

    with pytest.raises(ConfigError, match="SMPCFL_TOKEN_HOURS"):
        load({"SMPCFL_TOKEN_HOURS": hours}, {})


async def test_a_token_or_an_id_that_is_no_text_is_refused_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(address: str, ca: x509.Certificate, request: Any) -> Any:
        raise IdentityError(f"no such token: {request.token}")

    monkeypatch.setattr(enrolment, "_call", refuse)
    settings = Settings(state=tmp_path / "state", join=tmp_path / "join")
    settings.join.mkdir()
    JoinFolder(settings.join).ca.write_bytes(certificates.pem(Deployment(tmp_path / "d").ca))
    JoinFolder(settings.join).token.write_bytes(b"\xff\xfe")
    with pytest.raises(IdentityError, match="no such token: \ufffd\ufffd"):
        await enrolment.enrol(settings, Role.PEER)
    State(settings.state).peer_id.write_bytes(b"\xff")
    with pytest.raises(IdentityError, match="is no peer id"):
        await enrolment.enrol(settings, Role.PEER)


async def test_why_the_kept_certificate_is_not_used_is_said_before_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(address: str, ca: x509.Certificate, request: Any) -> Any:
        raise IdentityError("no such token")

    monkeypatch.setattr(enrolment, "_call", refuse)
    settings = Settings(state=tmp_path / "state", join=tmp_path / "join")
    certificates.save(settings.state, peer(tmp_path / "one"))
    files.write_private(JoinFolder(settings.join).token, b"token")
    files.write_private(
        JoinFolder(settings.join).ca, certificates.pem(Deployment(tmp_path / "other").ca)
    )
    with pytest.raises(IdentityError, match="no such token"):
        await enrolment.enrol(settings, Role.PEER)
    assert "a new certificate is asked for: the certificate is of another CA" in caplog.text
