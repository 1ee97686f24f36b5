"""A file of a state folder that is not what was written there: an error that names it, never a traceback."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from smpcfl.aggregator import rounds_service
from smpcfl.base.files import StorageError
from smpcfl.base.state import State
from smpcfl.flower.server.next_serial import next_serial
from smpcfl.net import certificates
from smpcfl.net.certificates import IdentityError, Role
from smpcfl.peer.serial_store import SerialStore
from smpcfl.protocol.errors import LocalError
from smpcfl.registry.roster import Roster
from smpcfl.runs import current_run
from smpcfl.runs.checkpoint import Checkpoint, Damaged
from support.enrolled import Deployment

NUMBERS = [b"", b"\xff\xfe", b"-1", b"1e3", b"9" * 5000]
NESTED = b"[" * 100_000


@pytest.mark.parametrize("content", NUMBERS)
def test_a_serial(tmp_path: Path, content: bytes) -> None:
    path = State(tmp_path).serial
    path.write_bytes(content)
    for read in (SerialStore, next_serial):
        with pytest.raises(StorageError, match="serial is damaged"):
            read(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"peer-1": "0"}', b'{"a": -1}', NESTED])
def test_the_data_slices(tmp_path: Path, content: bytes) -> None:
    path = State(tmp_path).indices
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"indices\.json is unreadable"):
        Roster(path, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"[]",
        b'{"app": "a"}',
        b'{"app": "a", "config": null}',
        b'{"app": 1, "config": {}}',
        b'{"app": "a", "config": {}, "first": []}',
        b'{"app": "a", "config": {}, "run": "7"}',
        NESTED,
    ],
)
def test_the_run_in_hand(tmp_path: Path, content: bytes) -> None:
    path = State(tmp_path).current_run
    path.write_bytes(content)
    with pytest.raises(LocalError, match=r"training\.json is unreadable"):
        current_run.load(path)


def test_records(tmp_path: Path) -> None:
    path = State(tmp_path).records
    path.write_bytes(b"\xff\xfe\n" + NESTED + b"\n{}\n")
    assert rounds_service.read(path) == []


@pytest.mark.parametrize(
    "members",
    [
        [],
        {"arrays": []},
        {"arrays": [["a", "no type", [1]]]},
        {"arrays": [["a", "<f4", [2**40]]]},
        {"arrays": [["a", "|O", [1]]]},
    ],
)
def test_a_checkpoint_whose_checksum_is_right(members: object) -> None:
    header = json.dumps(members).encode()
    data = b"smpcfl checkpoint 1\n" + len(header).to_bytes(8, "big") + header
    with pytest.raises(Damaged, match="its checksum is right"):
        Checkpoint.decode(data + hashlib.sha256(data).digest())


def test_key_and_certificate(tmp_path: Path) -> None:
    ca = Deployment(tmp_path / "deployment").ca
    key, certificate = State(tmp_path).key, State(tmp_path).certificate
    for content in (
        b"",
        b"\xff",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ):
        key.write_bytes(content)
        certificate.write_bytes(content)
        with pytest.raises(IdentityError, match=r"key\.pem"):
            certificates.load_key(key)
        with pytest.raises(IdentityError, match=r"certificate\.pem"):
            certificates.load(tmp_path, ca)


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    locked = certificates.new_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    State(tmp_path).key.write_bytes(locked)
    with pytest.raises(IdentityError, match=r"key\.pem"):
        certificates.load_key(State(tmp_path).key)


def test_a_certificate_of_another_version(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "deployment")
    der = bytearray(deployment.certificate(Role.PEER, "peer-a"))
    place = der.index(b"\xa0\x03\x02\x01\x02")
    der[place + 4] = 34
    body = base64.encodebytes(bytes(der)).decode()
    text = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
    State(tmp_path).key.write_bytes(certificates.key_pem(certificates.new_key()))
    State(tmp_path).certificate.write_text(text)
    with pytest.raises(IdentityError, match="remove it to get another"):
        certificates.load(tmp_path, deployment.ca)
    with pytest.raises(IdentityError, match="no PEM certificate"):
        certificates.load_ca(State(tmp_path).certificate)


def test_the_list_of_flower_runs(tmp_path: Path) -> None:
    """What cannot be read in it is left out."""
    good = b'{"run": 1, "flower_run": "7"}'
    for line in (b"\xff", b"[]", b'{"run": 1}', b'{"run": [], "flower_run": 1}', NESTED):
        State(tmp_path).runs.write_bytes(line + b"\n" + good + b"\n")
        assert current_run.carried(State(tmp_path).runs) == {1: ["7"]}
