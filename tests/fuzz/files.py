"""Targets: certificates and requests for them, what stands on disk, settings, and Flower's messages."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtensionOID
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from smpc.v1 import node_pb2
from smpc.v1 import registry_pb2 as pb
from smpcfl.aggregator import rounds_service
from smpcfl.base import config, files
from smpcfl.base.state import State
from smpcfl.daemons.superlink_gate import Gate
from smpcfl.flower.server.next_serial import next_serial
from smpcfl.flower.server.suspects import Suspects
from smpcfl.flower.shared.records import RECORD, VECTOR, identity_of, upload_of
from smpcfl.net import certificates, wire
from smpcfl.net.certificates import Identity, Role
from smpcfl.net.directory import Directory
from smpcfl.net.kept_draw import KeptDraw
from smpcfl.net.node_proof import node_key_bytes
from smpcfl.peer.serial_store import SerialStore
from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.signing import AGGREGATOR, signer
from smpcfl.registry.claims import Claims
from smpcfl.registry.roster import Roster
from smpcfl.registry.tokens import Tokens
from smpcfl.reports.record import line
from smpcfl.runs import current_run
from smpcfl.runs.checkpoint import Checkpoint
from smpcfl.runs.current_run import CurrentRun
from support.enrolled import Deployment, draws_of
from support.fake_runs import a_record
from support.network import peer_ids

from .budget import Target

RECORD_LINE = a_record(
    round=2,
    outcome="void",
    reason="too few",
    accuracy=0.5,
    train_loss=0.25,
    bytes_up=1.0,
    bytes_down=2.0,
    bytes_p2p=3.0,
    phase_seconds={"train": 1.0},
).to_json()

SUSPECTS = json.dumps(
    [
        {
            "draw": draw,
            "members": [["peer-1"], ["peer-2"]],
            "void": [1, 0],
            "complete": [0, 1],
            "rounds": [[[1, draw]], []],
        }
        for draw in (1, 2)
    ]
).encode()


def targets(folder: Path) -> list[Target]:
    """`folder` takes the files."""
    deployment = Deployment(folder / "deployment")
    return [
        *_certificates(folder, deployment),
        *_kept(folder, deployment),
        *_membership(folder, deployment),
        Target(
            "settings", 20, _settings, [b"SMPCFL_REGISTRY=a:1\nSMPCFL_MODE=normal\nSMPCFL_SEED=1"]
        ),
        Target("names", 20, _names, [b"peer-1.peer.smpcfl", b"peer-1", b"PEER-A.Peer.SMPCFL."]),
        Target("flower.upload", 2, _upload, [_npy(np.arange(9, dtype=np.uint8))]),
        Target(
            "flower.identity",
            2,
            partial(_identity, deployment.ca),
            [deployment.certificate(Role.PEER, "peer-1")],
        ),
    ]


def _on_disk(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return run


# -- certificates -----------------------------------------------------------------------------------


def _certificates(folder: Path, deployment: Deployment) -> list[Target]:
    ca = deployment.ca
    der = deployment.certificate(Role.PEER, "peer-1")
    key = certificates.key_pem(certificates.new_key())
    home = folder / "home"
    files.write_private(home / "key.pem", key)
    files.write_private(
        home / "certificate.pem", certificates.pem(x509.load_der_x509_certificate(der))
    )
    token = (folder / "deployment" / "join" / Role.PEER / "token").read_text()
    other = (folder / "deployment" / "join" / Role.AGGREGATOR / "token").read_text()

    def enrol(data: bytes) -> None:
        request = wire.parse(pb.EnrolRequest, data)
        right = token if request.role == Role.PEER else other
        with contextlib.suppress(RemoteError):
            deployment.authority.enrol(request.token, request.csr, request.role, request.name)
        deployment.authority.enrol(right, request.csr, request.role, request.name)

    return [
        Target("certificate", 3, lambda data: certificates.check_certificate(data, ca), [der]),
        Target("key", 1, _on_disk(State(folder).key, certificates.load_key), [key, *_other_keys()]),
        Target("ca", 1, _on_disk(State(folder).ca, certificates.load_ca), [certificates.pem(ca)]),
        Target(
            "identity",
            1,
            _on_disk(home / "certificate.pem", lambda _: certificates.load(home, ca)),
            [(home / "certificate.pem").read_bytes()],
        ),
        Target("enrolment", 2, enrol, _requests(), fields=True),
    ]


def _other_keys() -> list[bytes]:
    """Keys that are none of ours, and one that asks for a passphrase."""
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    locked = serialization.BestAvailableEncryption(b"passphrase")
    return [
        ed25519.Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, plain),
        certificates.new_key().private_bytes(pem, pkcs8, locked),
    ]


def _requests() -> list[bytes]:
    """Enrolments with requests of all kinds, each of them validly signed."""
    key = certificates.new_key()
    strange = [
        x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, value)
        for value in (b"", b"\x30\x03\x82\x01\xff", b"\x30\x02\x99\x00", b"\xff" * 20)
    ]
    names = [
        x509.SubjectAlternativeName([name])
        for name in (
            x509.DNSName("*.example.org"),
            x509.RFC822Name("a@example.org"),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        )
    ]
    found = [
        certificates.signing_request(key, Role.AGGREGATOR, AGGREGATOR, ["localhost", "127.0.0.1"])
    ]
    for extension in (*strange, *names):
        built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        built = built.add_extension(extension, critical=False)
        found.append(built.sign(key, SHA256()).public_bytes(serialization.Encoding.DER))
    for other in (
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
    ):
        empty = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        algorithm = None if isinstance(other, ed25519.Ed25519PrivateKey) else SHA256()
        signed = empty.sign(other, algorithm)
        found.append(signed.public_bytes(serialization.Encoding.DER))
    return [
        pb.EnrolRequest(token="token", csr=csr, role=role, name=name).SerializeToString()
        for csr in found
        for role, name in ((Role.PEER, "peer-1"), (Role.AGGREGATOR, AGGREGATOR))
    ]


# -- on disk ----------------------------------------------------------------------------------------


def _kept(folder: Path, deployment: Deployment) -> list[Target]:
    kept = Checkpoint(
        run=1,
        round=2,
        rounds=3,
        clip=1.0,
        weight_cap=100,
        setup={"mode": "seeded"},
        record=RECORD_LINE,
        arrays={"a": np.arange(3, dtype=np.float32), "b": np.ones((1, 2), np.int64)},
    )
    checkpoint = b"".join(kept.parts())
    peer = deployment.certificate(Role.PEER, "peer-1")
    roster = pb.Roster(
        version=3,
        entries=[pb.Entry(peer="peer-1", address="10.0.0.1:9300", certificate=peer, index=1)],
        aggregator_certificate=deployment.certificate(Role.AGGREGATOR, AGGREGATOR),
    ).SerializeToString()
    own = Identity(
        Role.PEER,
        "peer-1",
        certificates.new_key(),
        x509.load_der_x509_certificate(peer),
        deployment.ca,
    )
    directory = Directory(own, "127.0.0.1:1", State(folder).roster)
    run = json.dumps(asdict(CurrentRun("app", {"num-rounds": 3}, 1))).encode()

    def take(data: bytes) -> None:
        directory.take(wire.parse(pb.Roster, data))

    def told(data: bytes) -> None:
        KeptDraw(folder / "told", deployment.ca).take(wire.parse(pb.DrawReply, data))

    def summed(data: bytes) -> None:
        Checkpoint.decode(data + hashlib.sha256(data).digest())

    return [
        Target("checkpoint", 10, Checkpoint.decode, [checkpoint]),
        Target("checkpoint.summed", 20, summed, [checkpoint[:-32]]),
        Target(
            "roster.kept",
            2,
            _on_disk(State(folder).roster, lambda _: directory._load()),
            [roster],
            fields=True,
        ),
        Target("roster", 0.5, take, [roster], fields=True),
        Target(
            "draw.kept",
            1,
            _on_disk(State(folder).draw, lambda path: KeptDraw(path, deployment.ca)),
            [_draw(folder, deployment)],
            fields=True,
        ),
        Target("draw", 1, told, [_draw(folder, deployment)], fields=True),
        Target("suspects", 2, _on_disk(State(folder).suspects, _suspects), [SUSPECTS]),
        Target("indices", 5, _on_disk(State(folder).indices, _indices), [b'{"peer-1": 0}']),
        Target("training", 10, _on_disk(State(folder).current_run, _run), [run]),
        Target("records", 10, _on_disk(State(folder).records, _lines), [RECORD_LINE.encode()]),
        Target("serial", 5, _on_disk(State(folder).serial, SerialStore), [b"1732460000000"]),
        Target("serial.next", 0.5, _on_disk(folder / "next", next_serial), [b"1732460000000"]),
    ]


def _draw(folder: Path, deployment: Deployment) -> bytes:
    """The registry's answer, of a draw of ten peers."""
    draws = draws_of(deployment.authority, folder / "registry", 5)
    peers = {peer: bytes(32) for peer in peer_ids(10)}
    files.write_private(State(folder / "registry").draw_wanted, b"")
    assert draws.keep(peers, lambda: peers)
    return draws.told_all().SerializeToString()


def _suspects(path: Path) -> None:
    for suspect in Suspects(path).named():
        assert all(type(number) is int for pair in suspect.rounds for number in pair)


def _indices(path: Path) -> None:
    roster = Roster(path, 1)
    index = roster._indices.get("peer-1")
    assert index is None or type(index) is int


def _run(path: Path) -> None:
    found = current_run.load(path)
    assert found is not None
    assert str(found)
    assert found.config.get("rounds") is found.first.get("rounds") is None


def _lines(path: Path) -> None:
    for record in rounds_service.read(path):
        assert line(record)


# -- who is in ----------------------------------------------------------------------------------------


def _membership(folder: Path, deployment: Deployment) -> list[Target]:
    """The keys of SuperNodes, and what the registry keeps of tokens and claims."""
    state = folder / "aggregator"
    files.write_private(State(state).ca, certificates.pem(deployment.ca))
    gate = Gate(cast(Any, None), state, "0.0.0.0")
    public = certificates.new_key().public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    node_key = node_pb2.NodeKey(
        certificate=deployment.certificate(Role.PEER, "peer-1"),
        public_key=pem,
        signature=signer(deployment.key("peer-1"))(node_key_bytes(pem)),
    )
    tokens = Tokens(folder / "tokens")
    token = tokens.make(Role.PEER, 100.0)
    (record,) = (folder / "tokens").iterdir()
    claims = Claims(folder / "registry")
    claims.claim("peer-1", "02aa", 100.0, 0.0)
    claim = folder / "registry" / "claims" / "peer-1"

    def shown(data: bytes) -> None:
        tokens.check(data.decode(errors="replace"), Role.PEER, "peer-1", "02aa", 0.0)

    return [
        Target("node key", 1, gate._check, [node_key.SerializeToString()], fields=True),
        Target("token", 10, shown, [token.encode()]),
        Target(
            "token.kept",
            5,
            _on_disk(record, lambda _: tokens.check(token, Role.PEER, "peer-1", "02aa", 0.0)),
            [record.read_bytes()],
        ),
        Target(
            "claim.kept",
            1,
            _on_disk(claim, lambda _: claims.claim("peer-1", "02aa", 1.0, 0.0)),
            [claim.read_bytes()],
        ),
    ]


# -- settings, names, Flower ------------------------------------------------------------------------


def _settings(data: bytes) -> None:
    lines = [text.partition("=") for text in data.decode(errors="replace").split("\n")]
    config.load({name: value for name, _, value in lines}, {})


def _names(data: bytes) -> None:
    text = data.decode(errors="replace")
    certificates.only_role(text.split("\n"))
    certificates.check_name(text)


def _npy(array: Any) -> bytes:
    return cast(bytes, Array(array).data)


def _upload(data: bytes) -> None:
    vector = Array(dtype="uint8", shape=(9,), stype="numpy.ndarray", data=data)
    ours = ConfigRecord({"meta": b"m", "p2p-bytes": 1})
    upload_of(_message(RecordDict({VECTOR: ArrayRecord({VECTOR: vector}), RECORD: ours})))


def _identity(ca: x509.Certificate, data: bytes) -> None:
    answer = ConfigRecord({"start": data, "certificate": data, "signature": data})
    identity_of(_message(RecordDict({RECORD: answer})), 1, ca)


def _message(content: RecordDict) -> Message:
    return Message(content=content, message_type=MessageType.TRAIN, dst_node_id=1)
