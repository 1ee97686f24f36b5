"""Every fault that `smpcfl doctor` claims to find is made here, and found with its remedy: folders and token.

Names, ports, clocks, versions and mDNS: test_doctor_network.py.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import secrets
import time
from pathlib import Path

import pytest
from cryptography import x509

from smpcfl.base import files
from smpcfl.base.state import AuthorityFolder, JoinFolder, State
from smpcfl.cli import doctor
from smpcfl.cli.main import main
from smpcfl.cli.stack import free_ports
from smpcfl.net import certificates, rpc
from smpcfl.net.certificates import IdentityError, Role
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.registry import authority_folder, ca
from smpcfl.registry.authority import Authority, make_token
from smpcfl.registry.tokens import Tokens
from support.disk import small_disk
from support.doctored import HOST, PEER, Sick, sick
from support.enrolled import Deployment

pytestmark = pytest.mark.sockets
FOLDERS = ("state folder", "join folder", "key and certificate", "join token")
TOKEN = (*FOLDERS, "registry")
__all__ = ["sick"]  # a fixture


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# -- all well -----------------------------------------------------------------------------------------------


async def test_who_is_well_is_told_so_and_nothing_is_changed(sick: Sick) -> None:
    before = contents(sick.folder)
    found = await sick.diagnosed()
    assert found.levels() == {"ok"}, found.findings
    assert found.code == 0
    assert found.text("settings").startswith("peer in mode seeded")
    assert found.text("certificate").startswith(f"{PEER}.peer.smpcfl, valid until")
    assert "none is needed" in found.text("join token")
    assert contents(sick.folder) == before


async def test_an_aggregator_and_a_registry_that_are_well_are_told_so_too(sick: Sick) -> None:
    sick.enrol(Role.AGGREGATOR, AGGREGATOR)
    (superlink_port,) = free_ports(1)
    sick.change(join=sick.join / "aggregator", advertise="")
    sick.change(superlink_port=superlink_port, page_port=0)
    found = await sick.diagnosed()
    assert (found.code, found.levels()) == (0, {"ok"}), found.findings
    assert "0 peers" in found.text("roster")
    port, enrolment_port, targets_port = free_ports(3)
    sick.change(state=sick.folder / "deployment" / "state", join=sick.join)
    sick.change(port=port, enrolment_port=enrolment_port, targets_port=targets_port)
    found = await sick.diagnosed()
    assert (found.code, found.levels()) == (0, {"ok"}), found.findings


async def test_before_the_first_start_the_token_is_looked_at_and_stays_good(sick: Sick) -> None:
    sick.change(state=sick.folder / "new")
    token = make_token(sick.folder / "deployment" / "state", PEER + "-new", time.time() + 3600.0)
    sick.change(peer_id=PEER + "-new", join=sick.folder / "join-of-mine")
    files.write_private(JoinFolder(sick.settings.join).token, token.encode())
    files.write_private(
        JoinFolder(sick.settings.join).ca, certificates.pem(sick.deployment.ca), mode=0o644
    )
    before = contents(sick.folder)
    found = await sick.diagnosed(service="peer")
    assert found.levels() == {"ok"}, found.findings
    assert "is not there yet" in found.text("state folder")
    assert "the registry takes it until" in found.text("join token")
    assert not sick.settings.state.exists()
    assert contents(sick.folder) == before
    csr = certificates.signing_request(certificates.new_key(), Role.PEER, PEER + "-new")
    assert sick.deployment.authority.enrol(token, csr, Role.PEER, PEER + "-new")


async def test_a_line_each_for_a_person(sick: Sick, capsys: pytest.CaptureFixture[str]) -> None:
    State(sick.settings.state).key.chmod(0o644)
    assert await asyncio.to_thread(doctor.diagnose, sick.settings, None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       settings: peer in mode seeded, state ")
    path = State(sick.settings.state).key
    said = f"warning  key.pem: {path} is open to others (mode 0644). Remedy: chmod 600 {path}"
    assert said in lines
    assert all(line.startswith(("ok       ", "warning  ")) for line in lines)


def test_settings_that_make_no_sense_are_refused_as_by_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", f"--state={tmp_path}", "--registry=nowhere"]) == 1
    assert "smpcfl doctor: --registry (SMPCFL_REGISTRY) is" in capsys.readouterr().err
    monkeypatch.setenv("SMPCFL_REGISTRI", "a:1")
    assert main(["doctor"]) == 1
    assert "did you mean SMPCFL_REGISTRY?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--service=doctor"])
    assert ended.value.code == 2


async def test_which_service_it_is_shows_in_its_state_folder(sick: Sick) -> None:
    found = await sick.diagnosed("settings")
    assert "peer in mode" in found.text("settings")
    sick.enrol(Role.AGGREGATOR, AGGREGATOR)
    found = await sick.diagnosed("settings")
    assert "aggregator in mode" in found.text("settings")
    sick.change(state=sick.folder / "deployment" / "state")
    found = await sick.diagnosed("settings")
    assert "registry in mode" in found.text("settings")
    sick.change(state=sick.folder / "none")
    with pytest.raises(LocalError, match="give --service"):
        await sick.diagnosed("settings")


# -- state folder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["/proc/self", "/proc/nowhere/at/all"])
async def test_a_state_folder_that_cannot_be_written(sick: Sick, state: str) -> None:
    sick.change(state=Path(state))
    found = await sick.diagnosed("state folder", service="peer")
    found.shows("fault", "state folder", state, "--state")


async def test_a_full_and_a_small_disk(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(sick.folder / "disk", monkeypatch) as disk:
        sick.change(state=disk.folder)
        monkeypatch.setattr(files, "AGGREGATOR_BYTES", 2**60)
        found = await sick.diagnosed("state folder", service="aggregator")
        found.shows("fault", "state folder", "MiB are needed", "make room")
        disk.fill()
        found = await sick.diagnosed("state folder", service="peer")
        found.shows("fault", "state folder", "No space left on device", "with room")


async def test_a_state_folder_of_another_user(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    found = await sick.diagnosed("state folder", service="peer")
    found.shows("warning", "state folder", "and this is 4242", "run this as the user")
    sick.change(state=Path("/proc/self"))
    found = await sick.diagnosed("state folder", service="peer")
    found.shows("fault", "state folder", "and this is 4242", "run this as user")


# -- key and certificate ------------------------------------------------------------------------------------


async def test_a_key_that_others_may_read(sick: Sick) -> None:
    State(sick.settings.state).key.chmod(0o640)
    found = await sick.diagnosed(*FOLDERS)
    found.shows("warning", "key.pem", "open to others (mode 0640)", "chmod 600")


async def test_a_key_that_is_none(sick: Sick) -> None:
    State(sick.settings.state).key.write_bytes(b"none")
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "key.pem", "holds no private key", "restore")


async def test_a_certificate_that_is_none_or_without_its_key(sick: Sick) -> None:
    state = State(sick.settings.state)
    state.key.rename(state.path / "moved")
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "certificate", "but not its key", "restore")
    files.write_private(state.key, certificates.key_pem(certificates.new_key()))
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "certificate", "is not the certificate of", "remove both and enrol anew")
    state.certificate.write_bytes(b"none")
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "certificate", "is no PEM certificate", "remove both and enrol anew")


async def test_a_certificate_of_another_ca(sick: Sick) -> None:
    other = Deployment(sick.folder / "other")
    certificates.save(sick.settings.state, other.identity(Role.PEER, PEER))
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "certificate", "is of another CA", "copy ca.pem")
    for deployment in (other, sick.deployment):
        key = x509.SubjectKeyIdentifier.from_public_key(deployment.ca.public_key())
        assert key.digest.hex()[:16] in found.text("certificate")


async def test_a_certificate_that_has_expired(sick: Sick) -> None:
    certificates.save(sick.settings.state, sick.expired(Role.PEER, PEER))
    found = await sick.diagnosed(*TOKEN, service="peer")
    found.shows("fault", "certificate", "expired at", "join token that is good")
    assert found.of("join token")["level"] == "ok", "which is needed now, and is there"


async def test_a_clock_that_is_behind_the_certificates(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = certificates.now() - datetime.timedelta(hours=1)
    monkeypatch.setattr(certificates, "now", lambda: now)
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "ca.pem", "is not valid before", "set this clock right")
    monkeypatch.undo()
    found = await sick.diagnosed(*FOLDERS)
    assert found.code == 0


async def test_a_certificate_that_is_not_renewed(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = certificates.now() + datetime.timedelta(hours=20)
    monkeypatch.setattr(certificates, "now", lambda: late)
    found = await sick.diagnosed(*FOLDERS)
    found.shows("warning", "certificate", "should have been renewed", "certificate_not_renewed")


async def test_a_state_folder_of_another_role_or_id(sick: Sick) -> None:
    found = await sick.diagnosed(*FOLDERS, service="aggregator")
    found.shows("fault", "certificate", "is that of peer-a.peer.smpcfl", "state folder of its own")
    sick.change(peer_id="peer-b")
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "certificate", "is that of peer peer-a, not of peer-b", "--peer-id")


async def test_an_aggregator_whose_certificate_does_not_have_its_name_yet(sick: Sick) -> None:
    sick.enrol(Role.AGGREGATOR, AGGREGATOR)
    sick.change(advertise="sums.example.org")
    found = await sick.diagnosed(*FOLDERS, service="aggregator")
    found.shows("warning", "certificate", "without the name sums.example.org", "next renewal")


# -- join folder --------------------------------------------------------------------------------------------


async def test_no_ca_or_something_else_for_one(sick: Sick) -> None:
    sick.change(join=sick.folder / "empty")
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "ca.pem", "no CA certificate at", "registry's join folder")
    assert found.of("certificate")["level"] == "warning"
    path = JoinFolder(sick.settings.join).ca
    files.write_private(path, b"none")
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "ca.pem", "is no PEM certificate", "registry's join folder")
    path.write_bytes(State(sick.settings.state).certificate.read_bytes())
    found = await sick.diagnosed(*FOLDERS, service="peer")
    found.shows("fault", "ca.pem", "is not self-signed", "registry's join folder")


async def test_a_ca_that_has_expired(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "BACKDATE", datetime.timedelta(days=800))
        patch.setattr(ca, "CA_YEARS", -1)
        with pytest.raises(IdentityError, match="expired on"):
            Deployment(sick.folder / "old")
    old = State(sick.folder / "old" / "state").ca
    JoinFolder(sick.join / "peer").ca.write_bytes(old.read_bytes())
    found = await sick.diagnosed(*FOLDERS)
    found.shows("fault", "ca.pem", "expired on", "registry's join folder")


async def test_a_token_is_needed_and_there_is_none(sick: Sick) -> None:
    sick.not_enrolled()
    (sick.join / "peer" / "token").unlink()
    found = await sick.diagnosed(*TOKEN, service="peer")
    found.shows("fault", "join token", "nor in SMPCFL_TOKEN", "smpcfl token")


async def test_a_token_that_was_cut_short(sick: Sick) -> None:
    sick.not_enrolled()
    path = sick.join / "peer" / "token"
    path.write_text(path.read_text()[:40])
    found = await sick.diagnosed(*TOKEN, service="peer")
    found.shows("fault", "join token", "40 characters", "copy the file whole")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("expired", "has expired"),
        ("other peer", "for another peer id"),
        ("other role", "not a join token for role peer"),
        ("unknown", "no such join token"),
        ("used", "was used"),
    ],
)
async def test_a_token_that_the_registry_would_refuse(
    sick: Sick, monkeypatch: pytest.MonkeyPatch, wrong: str, said: str
) -> None:
    sick.not_enrolled()
    sick.change(peer_id=PEER)
    state = sick.folder / "deployment" / "state"
    until = time.time() + 3600.0
    tokens = Tokens(State(state).tokens)
    token = {
        "expired": lambda: tokens.make(Role.PEER, time.time() - 1.0),
        "other peer": lambda: make_token(state, "peer-b", until),
        "other role": lambda: (sick.join / "aggregator" / "token").read_text(),
        "unknown": lambda: secrets.token_urlsafe(32),
        "used": lambda: make_token(state, "", until),
    }[wrong]()
    if wrong == "used":
        csr = certificates.signing_request(certificates.new_key(), Role.PEER, "peer-c")
        sick.deployment.authority.enrol(token, csr, Role.PEER, "peer-c")
    monkeypatch.setenv("SMPCFL_TOKEN", token)
    found = await sick.diagnosed(*TOKEN, service="peer")
    found.shows("fault", "join token", said, "smpcfl token")
    assert token not in str(found.findings)


async def test_a_registry_that_cannot_look_at_a_token_is_taken_for_an_older_one(sick: Sick) -> None:
    sick.not_enrolled()
    own = sick.deployment.authority.own_identity(["localhost"])
    port = await sick.serve(rpc.new_server(), own.server_credentials(mutual=False))
    sick.change(enrolment=f"{HOST}:{port}")
    found = await sick.diagnosed(*TOKEN, service="peer")
    assert "an older registry" in found.text("join token")
    assert found.of("join token")["level"] == "ok"


async def test_a_token_that_others_may_read(sick: Sick) -> None:
    sick.not_enrolled()
    (sick.join / "peer" / "token").chmod(0o644)
    found = await sick.diagnosed(*TOKEN, service="peer")
    found.shows("warning", "token", "open to others", "chmod 600")


async def test_a_registry_that_cannot_be_asked_about_the_token(sick: Sick) -> None:
    sick.not_enrolled()
    sick.change(enrolment="127.0.0.1:1")
    found = await sick.diagnosed(*TOKEN, service="peer")
    found.shows("warning", "join token", "not checked: no answer", "enrolment port")


async def test_a_registry_that_is_too_old_to_be_asked_about_the_token(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "_UNKNOWN_S", 0.0)
    own = sick.deployment.authority.own_identity([])
    port = await sick.serve(rpc.new_server(), own.server_credentials(mutual=False))
    sick.not_enrolled()
    sick.change(enrolment=f"127.0.0.1:{port}")
    found = await sick.diagnosed(*TOKEN, service="peer")
    assert found.of("join token")["level"] == "ok"
    assert "an older registry" in found.text("join token")


# -- of a registry ------------------------------------------------------------------------------------------


async def test_a_registrys_own_folders(sick: Sick) -> None:
    state = State(sick.folder / "deployment" / "state")
    sick.change(state=state.path, join=sick.join)
    found = await sick.diagnosed(*FOLDERS)
    assert found.levels() == {"ok"}, found.findings
    assert "good until" in found.text("join token of role peer")
    for path in state.tokens.iterdir():
        path.unlink()
    found = await sick.diagnosed(*FOLDERS)
    found.shows(
        "fault", "join token of role peer", "no such join token", "start the registry again"
    )
    state.join_folder_closed.touch()
    found = await sick.diagnosed(*FOLDERS)
    assert "withdrawn" in found.text("join token of role peer")
    state.ca_key.chmod(0o644)
    other = Deployment(sick.folder / "other").ca
    state.ca.write_bytes(certificates.pem(other))
    found = await sick.diagnosed(*FOLDERS)
    found.shows("fault", "CA", "is not the certificate of the key", "restore ca.pem and ca-key.pem")
    assert found.of("ca-key.pem")["level"] == "warning"
    sick.change(state=sick.folder / "new", join=Path("/proc/nowhere"))
    found = await sick.diagnosed(*FOLDERS, service="registry")
    found.shows("fault", "join folder of role peer", "/proc/nowhere", "--join")
    assert "none yet" in found.text("CA")


async def test_a_registry_that_is_given_its_authority(sick: Sick) -> None:
    given = AuthorityFolder(sick.folder / "given")
    list(authority_folder.make(given.path))
    state = sick.folder / "new"
    sick.change(state=state, join=Path("/proc/nowhere"), authority=str(given.path))
    found = await sick.diagnosed(*FOLDERS, service="registry")
    assert found.levels() == {"ok"}, found.findings
    Authority(state, Path("/proc/nowhere"), given=given)
    assert (await sick.diagnosed(*FOLDERS)).levels() == {"ok"}
    given.token(Role.PEER).write_text("none")
    found = await sick.diagnosed(*FOLDERS)
    found.shows("fault", "join token of role peer", "holds no join token", "`smpcfl authority`")
    for path in (given.ca_key, given.ca):
        path.unlink()
    list(authority_folder.make(given.path))
    found = await sick.diagnosed(*FOLDERS)
    found.shows("fault", "CA", "not the one that it had", "restore ca.pem and ca-key.pem")
