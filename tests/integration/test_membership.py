"""Who is in: certificates renewed while rounds go on, a peer revoked, a token used twice. Real processes."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from smpcfl.aggregator import rounds_service
from smpcfl.base import files
from smpcfl.base.config import Settings
from smpcfl.cli.stack import LOOPBACK, Stack
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.net import certificates, enrolment
from smpcfl.net.certificates import IdentityError, Role
from support.light_app import light_app, running
from support.processes import option, page

PEERS, ROUNDS = 5, 40  # of five, a round may lose one
LIFE_HOURS = 0.01  # 36 s: each certificate expires several times while the test runs


class ShortLived(Stack):
    """Its certificates live for seconds. `out` may end."""

    out = ""

    def start(self, name: str, service: str, settings: dict[str, Any]) -> None:
        if service == "registry":
            settings = {**settings, "certificate_hours": LIFE_HOURS}
        elif service == "aggregator":
            settings = {**settings, "min_peers": PEERS - 1}
        elif service == "peer":
            settings = {**settings, "min_cohort": PEERS - 1}
        super().start(name, service, settings)

    def check(self) -> None:
        if self.out and self._processes[self.out].poll() is not None:
            del self._processes[self.out]
            self.out = ""
        super().check()


def smpcfl(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "smpcfl", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def superlink_certificate(stack: Stack) -> x509.Certificate:
    """The one that it shows; everybody checks it, so it has to be renewed as well."""
    port = option(stack, "aggregator", "--superlink-port")
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((LOOPBACK, port)).encode())


def counted(stack: Stack, name: str, reason: str) -> float:
    text = page(option(stack, name, "--metrics-port"), "/metrics")
    found = re.search(rf'smpcfl_rejected_total{{mode="\w+",reason="{reason}"}} (\S+)', text)
    return float(found[1]) if found else 0.0


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_certificates_are_renewed_and_a_revoked_peer_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["aggregator", *(f"peer-{number}" for number in range(PEERS))]
    app = light_app(tmp_path / "app", ROUNDS)
    folder = tmp_path / "stack"
    stack = ShortLived(folder, "seeded", PEERS, 0, 1, hash_of(app))
    with stack, running(stack, app):

        def done() -> list[Any]:
            return rounds_service.read(stack.records)

        def renewals(name: str) -> int:
            return stack.log(name).count("certificate renewed")

        stack.wait(lambda: len(done()) >= 1, 200, "a round")
        first = superlink_certificate(stack)
        expiry = first.not_valid_after_utc
        stack.wait(lambda: all(map(renewals, names)), 120, "renewals")
        stack.wait(lambda: certificates.now() > expiry, 60, "the first certificates to expire")
        so_far = len(done())
        stack.wait(lambda: len(done()) >= so_far + 2, 120, "a round with the renewed ones")
        assert [(r.outcome, r.survivors) for r in done()] == [("complete", PEERS)] * len(done())
        assert superlink_certificate(stack).not_valid_before_utc > first.not_valid_before_utc

        for socket in folder.glob("*/run/*.sock"):
            assert (socket.stat().st_mode | socket.parent.stat().st_mode) & 0o077 == 0, socket

        registry = str(folder / "registry")
        revoked = stack.peer_id(3)
        stack.out = "peer-3"
        smpcfl("revoke", revoked, "--state", registry)
        so_far = len(done())
        stack.wait(lambda: any(r.cohort == PEERS - 1 for r in done()[so_far:]), 120, "the rest")
        last = done()[-1]
        assert (last.outcome, last.cohort, last.survivors) == ("complete", PEERS - 1, PEERS - 1)
        for name in set(names) - {"peer-3"}:
            assert f"revoked: {revoked}" in stack.log(name), name
        assert counted(stack, "registry", "revoked") > 0

        token = smpcfl("token", "--peer", "newcomer", "--state", registry)
        enrol(stack, folder / "newcomer", token, monkeypatch)
        with pytest.raises(IdentityError, match="this join token was used"):
            enrol(stack, folder / "another", token, monkeypatch)
        assert counted(stack, "registry", "bad_token") == 1


def enrol(stack: Stack, state: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(enrolment.TOKEN_VARIABLE, token)
    join = state / "join"
    files.write_private(join / "ca.pem", (stack.folder / "join/peer/ca.pem").read_bytes())
    settings = Settings(
        state=state,
        join=join,
        peer_id="newcomer",
        enrolment=f"{LOOPBACK}:{option(stack, 'registry', '--enrolment-port')}",
    )
    own = asyncio.run(enrolment.enrol(settings, Role.PEER))
    assert own.name == "newcomer"
