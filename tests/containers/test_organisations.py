"""Organisations behind firewalls: one with an open port, one behind NAT, one with none, one with Docker.

Each peer has the settings that compose.peer.yml comes to, and one is run by that file. The closed one is
called through the relay of deploy/relay: a real HAProxy, and a tunnel that ssh keeps to a real sshd.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smpcfl import __version__
from support.captured import Capture, End, not_tls
from support.compose import ROOT, Compose, engine_missing
from support.federation import SERVICE, Federation
from support.namespaces import Internet, Machine, missing

TOOLS = ("nft", "haproxy", "sshd", "ssh", "ssh-keygen", "tcpdump")
IMAGES = "smpcfl-test-organisations/"
FEDERATION, RELAY = "198.51.100.1", "198.51.100.2"
OPEN, ROUTER, CLOSED, HOST, FIFTH = (f"198.51.100.{number}" for number in range(11, 16))
ADVERTISED = {
    "hospital-a": OPEN,
    "hospital-b": f"{ROUTER}:19300",
    "hospital-c": f"{RELAY}:9300",
    "hospital-d": HOST,
    "hospital-e": FIFTH,  # five stand the loss of one in any phase of a round, four do not
}
PEERS = len(ADVERTISED)

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(engine_missing()), reason=f"no Docker engine: {engine_missing()}"),
    pytest.mark.skipif(bool(missing(*TOOLS)), reason=f"no organisations: {missing(*TOOLS)}"),
]

# -- firewalls ----------------------------------------------------------------------------------------------


def firewall(incoming: str, outgoing: str = "accept") -> str:
    """Rules for what may be opened from outside, and from inside, where `accept` is everything."""
    policy, rules = ("accept", "") if outgoing == "accept" else ("drop", outgoing)
    return f"""
table inet firewall {{
    counter dropped {{ }}
    chain input {{
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state established,related accept
        {incoming}
        counter name dropped
    }}
    chain output {{
        type filter hook output priority filter; policy {policy};
        oif lo accept
        ct state established,related accept
        {rules}
    }}
}}
"""


NAT = """
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        iifname "out" tcp dport 19300 dnat to 192.168.7.2:9300
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname "out" masquerade
    }
}
table ip forwarding {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "inside" accept
        ct status dnat accept
    }
}
"""


def dropped(machine: Machine) -> int:
    """Packets that its firewall has not let in."""
    shown = machine("nft", "-j", "list", "counter", "inet", "firewall", "dropped").stdout
    (found,) = [item["counter"] for item in json.loads(shown)["nftables"] if "counter" in item]
    return int(found["packets"])


# -- the relay ----------------------------------------------------------------------------------------------


class Relay:
    """What deploy/relay has, as joining.md says; started and stopped as a whole."""

    USER = "nobody"  # an account that is everywhere, in place of smpcfl-tunnel

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        folder.chmod(0o755)
        for name in ("host", "key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
                check=True,
            )
        public = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text(f"{RELAY} {public}")
        authorized = folder / "authorized_keys"
        deployed = (ROOT / "deploy/relay/sshd.conf").read_text()
        (granted,) = re.findall(r"^#   (restrict,\S+) ssh-ed25519", deployed, re.MULTILINE)
        authorized.write_text(f"{granted} {(folder / 'key.pub').read_text()}")
        assert "Match User smpcfl-tunnel" in deployed
        (folder / "sshd.conf").write_text(
            f"HostKey {folder}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {authorized}\n"
            + deployed.replace("User smpcfl-tunnel", f"User {self.USER}")
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        proxy, changed = re.subn(
            r"peer\.inside\.hospital-b\.example:9300 .*",
            f"{ROUTER}:19300",
            (ROOT / "deploy/relay/haproxy.cfg").read_text(),
        )
        assert changed == 1
        (folder / "haproxy.cfg").write_text(proxy)

    def start(self) -> None:
        sshd = shutil.which("sshd")
        assert sshd is not None  # it wants its whole path
        self.machine.start("sshd", sshd, "-D", "-e", "-f", str(self.folder / "sshd.conf"))
        self.machine.start("haproxy", "haproxy", "-f", str(self.folder / "haproxy.cfg"))

    def stop(self) -> None:
        self.machine.stop("haproxy")
        self.machine.stop("sshd")

    def tunnels(self) -> list[str]:
        """Where the relay's sshd listens for the peer."""
        listening = self.machine("ss", "-Hltn", "sport = :19301").stdout
        return [line.split()[3] for line in listening.splitlines()]

    def ssh(self) -> str:
        """The command of smpcfl-tunnel.service, on one line."""
        unit = (ROOT / "deploy/relay/smpcfl-tunnel.service").read_text().replace("\\\n", " ")
        (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.M)
        command = command.replace("/etc/smpcfl-tunnel/", f"{self.folder}/")
        target = "smpcfl-tunnel@relay.example.org"
        assert target in command
        return str(command.replace(target, f"{self.USER}@{RELAY}"))

    def keep_tunnel(self, machine: Machine) -> None:
        """As systemd does with Restart=always."""
        machine.start("tunnel", "sh", "-c", f"while :; do {self.ssh()}; sleep 1; done")


# -- the organisations --------------------------------------------------------------------------------------


class Organisations:
    def __init__(self, internet: Internet, federation: Federation, relay: Relay) -> None:
        self.internet = internet
        self.federation = federation
        self.relay = relay
        self.machines: dict[str, Machine] = {}
        self.capture = internet.folder / "relay.pcap"

    def given(self, peer: str) -> dict[str, str]:
        """What stands in its `.env`."""
        return {
            "COMPOSE_FILE": "compose.peer.yml",
            "SMPCFL_IMAGES": IMAGES,
            "SMPCFL_PEER_ID": peer,
            "SMPCFL_ADVERTISE": ADVERTISED[peer],
            "SMPCFL_MIN_COHORT": "3",
            "SMPCFL_TICKETS_PER_HOUR": "3600",
            **self.federation.where,
        }

    def join(self, peer: str) -> Path:
        """The folder that joining.md has: compose.peer.yml, .env and join."""
        folder = self.internet.folder / peer
        self.federation.invite(peer, folder / "join")
        shutil.copy(ROOT / "compose.peer.yml", folder)
        lines = [f"{key}={value}\n" for key, value in self.given(peer).items()]
        (folder / ".env").write_text("".join(lines))
        return folder

    def environment(self, peer: str) -> dict[str, str]:
        """What compose.peer.yml gives its container, with the folders where they are here."""
        folder = self.internet.folder / peer
        shown = compose(folder, "config", "--format", "json").stdout
        service: dict[str, Any] = json.loads(shown)["services"]["peer"]
        folders = {"SMPCFL_STATE": str(folder / "state"), "SMPCFL_JOIN": str(folder / "join")}
        return {**service["environment"], **folders}

    def start(self, peer: str, machine: Machine) -> None:
        self.join(peer)
        self.machines[peer] = machine
        machine.start(peer, *SERVICE, "peer", settings=self.environment(peer))

    def diagnose(self, peer: str) -> tuple[int, dict[str, tuple[str, str]]]:
        """The doctor's exit code; its findings, level and text, by check."""
        if peer in self.machines:
            done = self.machines[peer].python(
                "-m", "smpcfl", "doctor", "--json", check=False, settings=self.environment(peer)
            )
        else:
            folder = self.internet.folder / peer
            done = compose(folder, "exec", "-T", "peer", "smpcfl", "doctor", "--json", check=False)
        found = json.loads(done.stdout)["findings"]
        return done.returncode, {item["check"]: (item["level"], item["found"]) for item in found}


def compose(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """As somebody types it in that folder."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("SMPCFL_")}
    done = subprocess.run(
        ["docker", "compose", *arguments],
        cwd=folder,
        env={**plain, "COMPOSE_PROJECT_NAME": IMAGES.strip("/")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def build() -> None:
    backend = Compose("none").environment["TORCH_BACKEND"]
    image = f"{IMAGES}smpcfl-peer:{__version__}"
    arguments = ["build", "--target", "peer", "--build-arg", f"TORCH_BACKEND={backend}"]
    done = subprocess.run(
        ["docker", *arguments, "-t", image, "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def organisations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisations]:
    build()
    folder = tmp_path_factory.mktemp("organisations")
    # sshd looks for keys as the user who comes, and pytest's folders are for their owner alone.
    with tempfile.TemporaryDirectory(prefix="smpcfl-relay-") as relay, Internet(folder) as internet:
        try:
            yield set_up(internet, Path(relay))
        finally:
            if (folder / "hospital-d").exists():
                compose(folder / "hospital-d", "down", "--volumes", "--timeout", "5", check=False)


def set_up(internet: Internet, keys: Path) -> Organisations:
    """Everybody, with their firewalls, up to the start of the peers."""
    hub = internet.machine("federation", f"{FEDERATION}/24")
    hub.filter(firewall("tcp dport { 9200, 9201, 9092 } accept"))
    middle = internet.machine("relay", f"{RELAY}/24")
    middle.filter(firewall(f"tcp dport 9300 accept\nip saddr {CLOSED} tcp dport 22 accept"))
    relay = Relay(middle, keys)
    federation = Federation(internet, hub, FEDERATION, min_peers=PEERS - 1, rounds=200)
    made = Organisations(internet, federation, relay)
    internet.bridge.start(
        "tcpdump",
        *("tcpdump", "-i", "relay", "-U", "-s", "0", "-w", str(made.capture), "-Z", "root"),
        *("tcp", "port", "9300"),
    )
    relay.start()

    for peer in ("hospital-a", "hospital-e"):
        own = internet.machine(peer, f"{ADVERTISED[peer]}/24")
        own.filter(firewall("tcp dport 9300 accept"))
        made.start(peer, own)

    router, inside = internet.machine("router", f"{ROUTER}/24"), internet.machine("hospital-b")
    internet.link(inside, "lan", router, "inside")
    inside("ip", "address", "add", "192.168.7.2/24", "dev", "lan")
    router("ip", "address", "add", "192.168.7.1/24", "dev", "inside")
    inside("ip", "route", "add", "default", "via", "192.168.7.1")
    router("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    router.filter(NAT)
    made.start("hospital-b", inside)

    closed = internet.machine("hospital-c", f"{CLOSED}/24")
    peers = " ".join(
        f"ip daddr {host} tcp dport {port} accept;"
        for host, port in ((OPEN, 9300), (ROUTER, 19300), (HOST, 9300), (FIFTH, 9300))
    )
    closed.filter(
        firewall(
            "",
            f"ip daddr {RELAY} tcp dport {{ 22, 9300 }} accept;"
            f" ip daddr {FEDERATION} tcp dport {{ 9200, 9201, 9092 }} accept; {peers}",
        )
    )
    relay.keep_tunnel(closed)
    made.start("hospital-c", closed)

    internet.connect_host(f"{HOST}/24")
    folder = made.join("hospital-d")
    for path in (folder / "join", *(folder / "join").iterdir()):
        os.chown(path, 10001, 10001)
        path.chmod(0o700 if path.is_dir() else 0o600)

    def ready() -> bool:
        log = internet.log("registry")
        return bool(relay.tunnels()) and all(f"peer {peer} is at " in log for peer in made.machines)

    federation.wait(ready, 300, "the start of the tunnel and the peers")
    return made


CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)"


def test_organisations_train_with_one_that_nobody_can_call(organisations: Organisations) -> None:
    """From the first look to the last round: it is one story, and starting it takes minutes."""
    made, federation = organisations, organisations.federation
    folder = made.internet.folder / "hospital-d"
    federation.wait_for_rounds(PEERS - 1, 1)
    before = compose(
        folder, "run", "--rm", "-T", "peer", "doctor", "--service", "peer", check=False
    )
    assert before.returncode == 0, before.stdout + before.stderr
    assert "the registry takes it until" in before.stdout, "the token, which that leaves unused"
    compose(folder, "up", "-d")
    federation.wait_for_rounds(PEERS, 2, 400)

    # Nobody else gets in: the closed one's own machine reaches the port, and others are dropped.
    closed, other = made.machines["hospital-c"], made.machines["hospital-a"]
    closed.python("-c", CONNECT, CLOSED, "9300")
    seen = dropped(closed)
    refused = other.python("-c", CONNECT, CLOSED, "9300", check=False)
    assert "TimeoutError" in refused.stderr, refused
    assert dropped(closed) > seen
    for peer in ADVERTISED:
        code, found = made.diagnose(peer)
        assert code == 0, (peer, found)
        for another in ADVERTISED.keys() - {peer}:
            assert found[f"to {another}"][0] == "ok", (peer, found)

    made.relay.stop()
    federation.wait_for_rounds(PEERS - 1, 2)
    for peer in ADVERTISED.keys() - {"hospital-c"}:
        code, found = made.diagnose(peer)
        assert code == 1, found
        faults = {check: text for check, (level, text) in found.items() if level == "fault"}
        assert list(faults) == ["to hospital-c"], faults
        assert f"nobody listens at {RELAY}:9300" in faults["to hospital-c"]
    code, found = made.diagnose("hospital-c")
    assert (code, found["own address, called"][0]) == (0, "warning"), found

    made.relay.start()
    federation.wait_for_rounds(PEERS, 2)
    check_what_crossed(made)


def check_what_crossed(made: Organisations) -> None:
    """The relay and the wire before it had TLS alone, asked for by the peer's name."""
    port = End(RELAY, 9300)
    through = [one for one in Capture(made.capture).streams if port in (one.source, one.target)]
    callers = {one.source.address for one in through if one.target == port}
    # The aggregator asks for masks, the others exchange; the closed one's doctor called itself.
    assert callers == {FEDERATION, OPEN, ROUTER, HOST, FIFTH, CLOSED}
    whole = [(one, data) for one in through if (data := one.data())]
    assert sum(len(data) for _, data in whole) > 20_000
    for one, data in whole:
        assert not not_tls(data), one
        assert b"smpc.v1" not in data, "the name of a gRPC service in the clear"
        if one.target == port:
            assert b"hospital-c.peer.smpcfl" in data[:2000], one


SHOWN = """
import sys
from smpcfl.net import certificates
from smpcfl.net.reachability import Trouble, shown_certificate
try:
    print(certificates.hosts_of(shown_certificate(sys.argv[1], 8.0, sys.argv[2])))
except Trouble as trouble:
    print(trouble.found)
"""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("hospital-b.peer.smpcfl", "['hospital-b.peer.smpcfl']"),
        ("hospital-c.peer.smpcfl", "['hospital-c.peer.smpcfl']"),
        ("hospital-a.peer.smpcfl", "no TLS 1.3"),
        ("hospital-c.peer.smpcfl.example.org", "no TLS 1.3"),
        ("registry.registry.smpcfl", "no TLS 1.3"),
        (RELAY, "no TLS 1.3"),  # and so without a name
    ],
)
def test_the_relay_goes_by_the_names_that_it_was_given(
    organisations: Organisations, name: str, shown: str
) -> None:
    hub = organisations.federation.machine
    assert hub.python("-c", SHOWN, f"{RELAY}:9300", name).stdout.startswith(shown)


def test_the_relay_takes_no_call_without_tls(organisations: Organisations) -> None:
    talk = (
        f"import socket; s = socket.create_connection(('{RELAY}', 9300), timeout=30)\n"
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: hospital-c.peer.smpcfl\\r\\n\\r\\n')\n"
        "try:\n    print(s.recv(100))\nexcept ConnectionResetError:\n    print(b'')"
    )
    federation, log = organisations.federation, organisations.internet.log
    before = len(log("haproxy"))
    assert federation.machine.python("-c", talk).stdout == "b''\n"
    # By the relay: the peer would close such a connection as well.
    refused = f"{FEDERATION}:\\d+ peers/<NOSRV> .* PR"
    federation.wait(
        lambda: re.search(refused, log("haproxy")[before:]) is not None, 30, "the relay's line"
    )


@pytest.mark.parametrize(
    ("wanted", "instead"),
    [
        ("-R 127.0.0.1:19301:", "-R 127.0.0.1:19302:"),  # another peer's port
        ("-R 127.0.0.1:19301:", "-R 0.0.0.0:19303:"),  # for all to call
        ("-R 127.0.0.1:19301:127.0.0.1:9300", "-W 198.51.100.1:9200"),  # what the relay reaches
        ("-N -T", "-tt"),  # a shell
    ],
)
def test_the_tunnels_account_can_do_nothing_else(
    organisations: Organisations, wanted: str, instead: str
) -> None:
    command = organisations.relay.ssh()
    assert wanted in command
    command = command.replace(wanted, instead)
    if instead == "-tt":
        command = command.replace("-R 127.0.0.1:19301:127.0.0.1:9300", "") + " id"
    done = organisations.machines["hospital-c"]("sh", "-c", f"timeout 20 {command}", check=False)
    assert done.returncode not in (0, 124), done
    assert "uid=" not in done.stdout


def test_a_connection_from_outside_to_the_tunnels_end_is_not_possible(
    organisations: Organisations,
) -> None:
    """It is on the relay's loopback, and the relay's firewall would not let it in."""
    assert organisations.relay.tunnels() == ["127.0.0.1:19301"]
