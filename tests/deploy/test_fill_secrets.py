"""The script of the Job that fills the Secrets, against an API server that holds them."""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smpcfl.base.state import AuthorityFolder
from smpcfl.cli.main import main as smpcfl
from smpcfl.net.certificates import Role
from smpcfl.registry.authority import Authority
from support.api_server import ApiServer
from support.manifests import FOLDER, pod, rendered, services

SCRIPT = FOLDER / "components/authority/fill_secrets.py"
AUTHORITY, PEER, AGGREGATOR = NAMES = ("registry-authority", "join-peer", "join-aggregator")

pytestmark = pytest.mark.sockets


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path / "api", *NAMES)
    yield server
    server.close()


class Job:
    """Each `run` is a new pod, with a CA and tokens of its own."""

    def __init__(self, script: Any, path: Path) -> None:
        self.script = script
        self._path = path
        self._runs = 0

    def make(self) -> dict[str, bytes]:
        self._runs += 1
        self.script.MADE = self._path / f"made-{self._runs}"
        assert smpcfl(["authority", str(self.script.MADE)]) == 0
        return {path.name: path.read_bytes() for path in self.script.MADE.iterdir()}

    def run(self) -> dict[str, bytes]:
        """Returns what `smpcfl authority` made for it."""
        made = self.make()
        self.script.main()
        return made


@pytest.fixture
def job(tmp_path: Path, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Job:
    spec = importlib.util.spec_from_file_location("fill_secrets", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "API", api.url)
    monkeypatch.setattr(script, "RIGHTS", tmp_path / "api")
    # Its own `time`, because others sleep as well.
    once = SimpleNamespace(sleep=lambda _: pytest.fail("it had to try again"))
    monkeypatch.setattr(script, "time", once)
    monkeypatch.setenv("NAMESPACE", "here")
    return Job(script, tmp_path)


def wants_help(job: Job, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    """Runs it until it waits for the third time; what it has said until then."""

    class Waits(Exception):
        pass

    waits = iter((None, None, Waits))

    def sleep(_: float) -> None:
        if (raised := next(waits)) is not None:
            raise raised

    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(job.script.time, "sleep", sleep)
        with pytest.raises(Waits):
            job.script.main()
    said: str = capsys.readouterr().err
    assert said.startswith("not filled yet: ")
    assert said.count("\n") == 1, "once, however often it tries"
    return said


def are_filled(api: ApiServer, made: dict[str, bytes]) -> bool:
    return api.held(AUTHORITY) == made and are_copies(api)


def are_copies(api: ApiServer) -> bool:
    held = api.held(AUTHORITY)
    return api.held(PEER) == {"ca.pem": held["ca.pem"], "token": held["peer-token"]} and api.held(
        AGGREGATOR
    ) == {"ca.pem": held["ca.pem"], "token": held["aggregator-token"]}


def encoded(made: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in made.items()}


def test_empty_secrets_are_filled_the_registrys_first(
    api: ApiServer, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job.run()
    assert are_filled(api, made)
    assert api.patched == [AUTHORITY, PEER, AGGREGATOR]
    said = capsys.readouterr()
    for name in ("ca-key.pem", "peer-token", "aggregator-token"):
        for text in (made[name].decode().strip(), encoded(made)[name]):
            assert text not in said.out + said.err


def test_a_registry_starts_with_what_was_filled(api: ApiServer, job: Job, tmp_path: Path) -> None:
    job.run()
    given = AuthorityFolder(tmp_path / "mounted")
    given.path.mkdir()
    for name, content in api.held(AUTHORITY).items():
        (given.path / name).write_bytes(content)
    registry = Authority(tmp_path / "state", tmp_path / "join", given=given)
    for role, secret in ((Role.PEER, PEER), (Role.AGGREGATOR, AGGREGATOR)):
        name = "" if role is Role.PEER else role.value
        assert registry.check_token(api.held(secret)["token"].decode(), role, name)
    assert not (tmp_path / "join").exists()


@pytest.mark.commands
def test_each_pod_waits_for_keys_that_are_filled(api: ApiServer, job: Job) -> None:
    job.run()
    awaited = {
        volume["secret"]["secretName"]: {item["key"] for item in volume["secret"]["items"]}
        for workload in services(rendered("demo"))
        for volume in pod(workload)["volumes"]
        if "secret" in volume
    }
    assert awaited == {name: set(api.held(name)) for name in NAMES}


def test_what_is_filled_stays_when_the_job_comes_again(api: ApiServer, job: Job) -> None:
    made = job.run()
    api.patched.clear()
    assert job.run() != made
    assert are_filled(api, made)
    assert not api.patched


@pytest.mark.parametrize("filled", [1, 2])
def test_what_a_job_that_was_killed_began_is_completed(
    api: ApiServer, job: Job, filled: int
) -> None:
    made = job.run()
    for name in NAMES[filled:]:
        api.secrets[name].clear()
    api.patched.clear()
    job.run()
    assert are_filled(api, made)
    assert api.patched == [*NAMES[filled:]]


def test_a_key_with_nothing_in_it_is_as_good_as_none(api: ApiServer, job: Job) -> None:
    api.change(AUTHORITY, dict.fromkeys(("ca-key.pem", "ca.pem", "peer-token"), ""))
    api.change(PEER, {"ca.pem": "", "token": ""})
    assert are_filled(api, job.run())


def test_a_token_that_was_taken_out_is_replaced_for_both_sides(api: ApiServer, job: Job) -> None:
    before = job.run()
    del api.secrets[AUTHORITY]["peer-token"]
    made = job.run()
    assert are_filled(api, before | {"peer-token": made["peer-token"]})


def test_of_two_jobs_at_once_one_makes_the_ca(
    api: ApiServer, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = job.make()
    made = job.make()
    write = job.script.write

    def late(*arguments: Any) -> None:
        if not api.held(AUTHORITY):
            api.change(AUTHORITY, encoded(other))  # after this one has read, before it writes
        write(*arguments)

    monkeypatch.setattr(job.script, "write", late)
    tries: list[float] = []
    monkeypatch.setattr(job.script.time, "sleep", tries.append)
    job.script.main()
    assert made["ca.pem"] != other["ca.pem"]
    assert are_filled(api, other)
    assert len(tries) == 1


def test_a_refusal_is_shown_and_tried_again(
    api: ApiServer, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[float] = []
    monkeypatch.setattr(job.script.time, "sleep", tries.append)
    api.refusing = 3
    made = job.run()
    assert len(tries) == 3
    assert "403 Forbidden" in (said := capsys.readouterr().err)
    assert '"registry-authority\\" is forbidden' in said, "the API server's own words"
    assert are_filled(api, made)


def test_an_api_server_that_is_not_the_clusters_gets_no_token(
    api: ApiServer,
    job: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = job.make()
    (tmp_path / "api/ca.crt").write_bytes(made["ca.pem"])
    assert "CERTIFICATE_VERIFY_FAILED" in wants_help(job, monkeypatch, capsys)
    assert not api.patched


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_that_is_not_there_is_named_with_the_remedy(
    api: ApiServer,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    del api.secrets[name]
    job.make()
    said = wants_help(job, monkeypatch, capsys)
    assert f"Secret {name}: 404" in said
    assert "apply the overlay" in said
    assert not api.patched, "all or nothing"


@pytest.mark.parametrize("gone", ["ca-key.pem", "ca.pem"])
def test_half_a_ca_is_not_made_whole_with_another_ones(
    api: ApiServer,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gone: str,
) -> None:
    job.run()
    del api.secrets[AUTHORITY][gone]
    api.patched.clear()
    job.make()
    assert "alone of ca-key.pem and ca.pem" in wants_help(job, monkeypatch, capsys)
    assert not api.patched


def test_a_lost_ca_is_not_replaced_while_others_know_it(
    api: ApiServer, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job.run()
    api.secrets[AUTHORITY].clear()
    api.patched.clear()
    job.make()
    said = wants_help(job, monkeypatch, capsys)
    assert "Secret join-peer has another ca.pem" in said
    assert "restore registry-authority" in said
    assert not api.patched
