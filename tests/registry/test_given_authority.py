"""A registry whose CA and join tokens come from the operator, as secrets of Swarm or Kubernetes."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.base.state import AuthorityFolder, JoinFolder, State
from smpcfl.net import certificates
from smpcfl.net.certificates import IdentityError, Role
from smpcfl.protocol.errors import LocalError, RemoteError
from smpcfl.registry import authority_folder
from smpcfl.registry.authority import Authority, make_token, registry_state, reopen, revoke

DAY_S = 86400.0


class Given:
    """A registry that is started again and again with what lies in `folder`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = AuthorityFolder(path / "authority")
        self.now = 1000.0
        self.made = list(authority_folder.make(self.folder.path))

    def start(self) -> Authority:
        return Authority(
            self.path / "state", self.path / "join", given=self.folder, clock=lambda: self.now
        )

    def token(self, role: Role) -> str:
        return self.folder.token(role).read_text()


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


def enrol(registry: Authority, token: str, role: Role, name: str) -> None:
    csr = certificates.signing_request(certificates.new_key(), role, name)
    certificate = certificates.der(registry.enrol(token, csr, role, name))
    assert certificates.check_certificate(certificate, registry.certificate).name == name


def test_what_is_made_is_private_and_stays_when_it_is_made_again(given: Given) -> None:
    assert all(is_new for _, is_new in given.made)
    modes = {path.name: path.stat().st_mode & 0o777 for path, _ in given.made}
    assert modes == {
        "ca-key.pem": 0o600,
        "ca.pem": 0o644,
        "peer-token": 0o600,
        "aggregator-token": 0o600,
    }
    before = {path: path.read_bytes() for path, _ in given.made}
    assert not any(is_new for _, is_new in authority_folder.make(given.folder.path))
    assert {path: path.read_bytes() for path, _ in given.made} == before


def test_a_ca_of_ones_own_gets_tokens_beside_it(tmp_path: Path, given: Given) -> None:
    own = AuthorityFolder(tmp_path / "own")
    own.path.mkdir()
    for name in ("ca_key", "ca"):
        getattr(own, name).write_bytes(getattr(given.folder, name).read_bytes())
    made = {path.name for path, is_new in authority_folder.make(own.path) if is_new}
    assert made == {"peer-token", "aggregator-token"}
    own.ca_key.unlink()
    with pytest.raises(IdentityError, match="but not its key"):
        list(authority_folder.make(own.path))


def test_each_role_enrols_with_its_token_and_no_copy_of_the_key_is_kept(given: Given) -> None:
    registry = given.start()
    enrol(registry, given.token(Role.PEER), Role.PEER, "a")
    enrol(registry, given.token(Role.PEER), Role.PEER, "b")
    enrol(registry, given.token(Role.AGGREGATOR), Role.AGGREGATOR, "aggregator")
    with pytest.raises(RemoteError, match="not a join token for role"):
        enrol(registry, given.token(Role.PEER), Role.AGGREGATOR, "aggregator")
    secrets = [
        path.read_bytes().strip() for path, _ in given.made if path.name != given.folder.ca.name
    ]
    state = given.path / "state"
    kept = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert not any(secret in kept for secret in secrets)
    assert not (given.path / "join").exists(), "nobody needs it"
    assert registry_state(state) == state, "smpcfl token and revoke find it"


def test_a_given_token_lasts_while_it_is_given_and_no_longer(given: Given) -> None:
    registry = given.start()
    for _ in range(10):
        given.now += 0.4 * DAY_S
        registry.keep_tokens()
        enrol(registry, given.token(Role.PEER), Role.PEER, f"peer-{given.now:.0f}")
    old = given.token(Role.PEER)
    another(given)
    own = make_token(given.path / "state", "hospital-a", given.now + DAY_S)
    registry = given.start()
    enrol(registry, given.token(Role.PEER), Role.PEER, "new")
    with pytest.raises(RemoteError, match="was withdrawn"):
        enrol(registry, old, Role.PEER, "late")
    enrol(registry, own, Role.PEER, "hospital-a")


def test_a_revocation_withdraws_the_given_token_for_good(given: Given) -> None:
    registry = given.start()
    enrol(registry, given.token(Role.PEER), Role.PEER, "a")
    revoke(given.path / "state", "a")
    old = given.token(Role.PEER)
    for again in (registry, given.start()):
        again.keep_tokens()
        with pytest.raises(RemoteError, match="was withdrawn"):
            enrol(again, old, Role.PEER, "b")
    with pytest.raises(LocalError, match=r"peer-token was withdrawn.*another one first"):
        reopen(given.path / "state", given.folder)
    another(given)
    reopen(given.path / "state", given.folder)
    registry = given.start()
    enrol(registry, given.token(Role.PEER), Role.PEER, "b")
    with pytest.raises(RemoteError, match="was withdrawn"):
        enrol(registry, old, Role.PEER, "c")


def test_a_token_that_was_replaced_does_not_count_when_it_is_given_again(
    given: Given, caplog: pytest.LogCaptureFixture
) -> None:
    given.start()
    old = given.token(Role.PEER)
    another(given)
    given.start()
    given.folder.token(Role.PEER).write_text(old)
    registry = given.start()
    assert "nobody enrols: the join token for role peer" in caplog.text
    with pytest.raises(RemoteError, match="was withdrawn"):
        enrol(registry, old, Role.PEER, "b")
    given.now += 30 * DAY_S
    registry.keep_tokens()
    assert "was withdrawn" in caplog.text
    enrol(registry, given.token(Role.AGGREGATOR), Role.AGGREGATOR, "aggregator")


def another(given: Given) -> None:
    """Puts a new peers' token into the folder."""
    given.folder.token(Role.PEER).unlink()
    list(authority_folder.make(given.folder.path))


def test_a_role_without_a_given_token_has_a_join_folder(given: Given) -> None:
    given.folder.token(Role.PEER).unlink()
    registry = given.start()
    join = given.path / "join"
    enrol(registry, JoinFolder(join / "peer").token.read_text(), Role.PEER, "a")
    assert JoinFolder(join / "peer").ca.read_bytes() == given.folder.ca.read_bytes()
    assert not (join / "aggregator").exists()


@pytest.mark.parametrize("content", ["", "short", "x" * 44, "\0" * 43])
def test_what_is_no_token_is_refused_by_its_file(given: Given, content: str) -> None:
    given.folder.token(Role.PEER).write_text(content)
    with pytest.raises(IdentityError, match=r"peer-token holds no join token.*smpcfl authority"):
        given.start()


def test_one_token_for_both_roles_is_refused(given: Given) -> None:
    given.folder.token(Role.PEER).write_text(given.token(Role.AGGREGATOR))
    with pytest.raises(IdentityError, match="are the same"):
        given.start()


def test_another_ca_than_before_is_refused(given: Given, tmp_path: Path) -> None:
    given.start()
    given.folder = AuthorityFolder(tmp_path / "other")
    list(authority_folder.make(given.folder.path))
    with pytest.raises(IdentityError, match="not the one that it had"):
        given.start()


def test_a_folder_without_a_ca_is_refused(given: Given) -> None:
    given.folder.ca_key.unlink()
    with pytest.raises(IdentityError, match=r"ca-key\.pem"):
        given.start()
    assert not State(given.path / "state").ca_key.exists(), "none is made in its place"
