"""Settings of the services: defaults, then SMPCFL_* variables, then command-line options.

An unknown SMPCFL_* variable is an error, so that a misspelt limit is never silently the default.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..protocol.draw import GROUP_SIZE, LARGEST_GROUP_SIZE, LEAST_GROUP_SIZE
from ..protocol.errors import LocalError
from ..protocol.ticket import MODES, SEEDED
from . import host_port, node_config
from .log import FORMATS, TEXT

PREFIX = "SMPCFL_"
ANY_APP, BUNDLED_APP = "any", "bundled"
# Read elsewhere: by the training app, by the SuperNode, or by Compose.
OTHER_VARIABLES = {
    "SMPCFL_MNIST",
    "SMPCFL_AGENT",
    "SMPCFL_RUN_APPS",
    "SMPCFL_PEER_STATE",
    "SMPCFL_TOKEN",
    "SMPCFL_AGGREGATOR_STATE",
    "SMPCFL_IMAGES",
    "SMPCFL_VERSION",
    "SMPCFL_PEERS",
    "SMPCFL_PEERS_PER_NODE",
    "SMPCFL_PEER_TOKEN",
    "SMPCFL_UPDATE_DELAY",
    "SMPCFL_PUBLISH",
}


class ConfigError(LocalError):
    """A setting that is unknown or out of range."""


class PortInUse(OSError):
    """A port that cannot be bound, with the option that moves it; the text is for the user."""

    def __init__(self, host: str, port: int, option: str) -> None:
        super().__init__(
            f"cannot listen on {host_port.joined(host, port)}: the port is in use; stop what uses it, or"
            f" choose another with --{option} or {PREFIX}{option.replace('-', '_').upper()}"
        )
        self.host = host
        self.port = port


def cannot_listen(host: str, port: int, option: str, error: OSError) -> PortInUse | ConfigError:
    """What to raise for a failed bind; `option` is the one that moves the port."""
    if error.errno == errno.EADDRINUSE:
        return PortInUse(host, port, option)
    return ConfigError(
        f"cannot listen on {host_port.joined(host, port)} ({error.strerror or error}): give an"
        f" address of this machine with --host, or another port with --{option}"
    )


def _option(default: Any, text: str, *, services: str = "rpa") -> Any:
    return field(default=default, metadata={"help": text, "services": services})


@dataclass(frozen=True)
class Settings:
    """All settings; which service (r, p, a) takes which stands in the metadata."""

    mode: str = _option(SEEDED, f"what this deployment runs: {', '.join(MODES)}")
    state: Path = _option(Path("/var/lib/smpcfl"), "folder of keys, certificates and state")
    join: Path = _option(Path("/run/smpcfl/join"), "folder with ca.pem and token, to enrol")
    host: str = _option("0.0.0.0", "address to listen on; '::' for IPv6")
    advertise: str = _option(
        "",
        "where others call this service: a host name, IPv4 or IPv6 address, for a peer with a port if that"
        " is another than it listens on (default: found)",
    )
    metrics_port: int = _option(9100, "Prometheus port")
    log_format: str = _option(TEXT, f"one line an event, as {' or '.join(FORMATS)}")
    mdns: str = _option("all", "interface address for mDNS, 'all', or 'off'")
    registry: str = _option("registry:9200", "registry's gRPC, host:port", services="pa")
    enrolment: str = _option("registry:9201", "registry's enrolment, host:port", services="pa")
    aggregator: str = _option("aggregator:9092", "Flower SuperLink, host:port", services="p")
    port: int = _option(0, "gRPC port (registry 9200, peer 9300, 0: the usual one)", services="rp")
    enrolment_port: int = _option(9201, "port for enrolment", services="r")
    targets_port: int = _option(9101, "port of Prometheus' list of peers", services="r")
    authority: str = _option(
        "",
        "folder with ca-key.pem, ca.pem, and at will peer-token and aggregator-token, as `smpcfl authority`"
        " makes it (default: the registry makes its own, in its state folder and its join folder)",
        services="r",
    )
    certificate_hours: float = _option(
        24.0, "life of certificates, which are renewed after two thirds of it", services="r"
    )
    token_hours: float = _option(
        24.0, "life of the join tokens in the join folder, replaced after half of it", services="r"
    )
    token_peers: int = _option(
        64,
        "how many different peer ids the join folder's tokens may enrol, all of them together; a peer"
        " that enrols again, or with a token of its own (`smpcfl token`), does not count",
        services="r",
    )
    group_size: int = _option(
        GROUP_SIZE,
        "peers of the smallest group: a deployment of twice as many or more is cut into groups, once a day"
        " and by `smpcfl draw`",
        services="r",
    )
    peer_id: str = _option("", "name of this peer (default: made at the first start)", services="p")
    min_cohort: int = _option(
        5, "smallest cohort that this peer joins; 3c + 2 withstands c colluding peers", services="p"
    )
    min_survivors: int = _option(3, "fewest survivors that this peer accepts", services="p")
    members: str = _option(
        "",
        "the only peers that this one takes part with, with commas: ID=FINGERPRINT, the SHA-256 of each"
        " peer's public key, which its log shows (default: any of the deployment)",
        services="p",
    )
    tickets_per_hour: int = _option(60, "most rounds an hour that this peer begins", services="p")
    configurations: int = _option(
        1,
        "most configurations under which this peer trains on one and the same model",
        services="p",
    )
    weighted_by: str = _option(
        "num-examples",
        "metrics of the app that a strategy may weigh this peer's update by (`weighted_by_key`), with commas,"
        " or 'any'; no model that is sent may shift them",
        services="p",
    )
    given_seed: str = _option(
        "off",
        "'on' lets the aggregator give the seed of this peer's rounding, so that runs can be repeated",
        services="p",
    )
    apps: str = _option(
        BUNDLED_APP,
        "Flower apps that this peer runs, with commas: 'bundled', SHA-256 hashes (`smpcfl run --app` shows"
        " them), or 'any'",
        services="p",
    )
    node_config: str = _option(
        "",
        "what the ClientApp finds in context.node_config, as for flower-supernode: 'key=value' pairs with"
        " spaces between them, or a .toml file; partition-id and num-partitions are there by default",
        services="p",
    )
    supernode_port: int = _option(
        9094, "port of the SuperNode's own API, on loopback", services="p"
    )
    superlink_port: int = _option(9092, "port of the SuperLink", services="a")
    keep_seen: str = _option(
        "off",
        "'on' keeps what the aggregator sees of one peer in a run, in pictures, for the report of `smpcfl"
        " compare`; in mode normal that is a part of an update",
        services="a",
    )
    page_port: int = _option(9103, "port of the live page; 0: there is none", services="a")
    page_host: str = _option(
        "127.0.0.1", "address that the live page listens on; nobody has to log in", services="a"
    )
    min_peers: int = _option(5, "peers to wait for before training", services="a")
    rounds: int = _option(
        10, "rounds of the first training run; 0 waits for `smpcfl run`", services="a"
    )
    seed: int = _option(
        0,
        "seed of the bundled task's model and data order; 0: another one for each run, because peers"
        " train on one and the same model under one configuration only",
        services="a",
    )

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")
        least = {
            "min_cohort": 3,
            "min_survivors": 3,
            "min_peers": MODES[self.mode].least_peers,
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}: at least {bound}, because a sum of two reveals"
                    " each of them the other's update"
                )
        if self.log_format not in FORMATS:
            raise ConfigError(
                f"{_sources('log_format')} is {self.log_format!r}: {' or '.join(map(repr, FORMATS))}"
            )
        for name in ("given_seed", "keep_seen"):
            if getattr(self, name) not in ("on", "off"):
                raise ConfigError(f"{_sources(name)} is {getattr(self, name)!r}: 'on' or 'off'")
        for name in ("tickets_per_hour", "configurations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{_sources(name)} is {getattr(self, name)}: at least 1")
        if not all(self.weighted_by.split(",")):
            raise ConfigError(
                f"{_sources('weighted_by')} is {self.weighted_by!r}: names of metrics with commas between"
                " them, or 'any'"
            )
        self.pinned()
        if self.rounds < 0:
            raise ConfigError(f"rounds is {self.rounds}: at least 0")
        if self.token_peers < 1:
            raise ConfigError(f"{_sources('token_peers')} is {self.token_peers}: at least 1")
        if not LEAST_GROUP_SIZE <= self.group_size <= LARGEST_GROUP_SIZE:
            raise ConfigError(
                f"{_sources('group_size')} is {self.group_size}: {LEAST_GROUP_SIZE} to {LARGEST_GROUP_SIZE}"
            )
        for name in ("certificate_hours", "token_hours"):
            if not 0.005 <= getattr(self, name) <= 24 * 365:
                raise ConfigError(
                    f"{_sources(name)} is {getattr(self, name)}: 0.005 (18 s) to 8760 (a year)"
                )
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("port") and not 0 <= value <= 65535:
                raise ConfigError(f"{_sources(item.name)} is {value}: a port is 0 to 65535")
        for app in self.apps.split(","):
            if app not in (ANY_APP, BUNDLED_APP) and not re.fullmatch("[0-9a-f]{64}", app):
                raise ConfigError(
                    f"{_sources('apps')} has {app!r}: 'bundled', 'any', or 64 hexadecimal digits,"
                    " with commas between them"
                )
        try:
            node_config.parse(self.node_config)
        except ValueError as error:
            raise ConfigError(
                f"{_sources('node_config')}: {error}; such as 'data=\"/data/a.csv\" size=3'"
            ) from error
        for name in ("registry", "enrolment", "aggregator"):
            try:
                host_port.split(getattr(self, name))
            except ValueError:
                raise ConfigError(
                    f"{_sources(name)} is {getattr(self, name)!r}: host:port is needed, such as"
                    f" {getattr(Settings, name)}; an IPv6 address in brackets, such as [2001:db8::2]:9200"
                ) from None
        self.advertised()
        for name in ("host", "page_host"):  # brackets are for where a port follows
            object.__setattr__(self, name, getattr(self, name).strip("[]"))
        if self.mdns not in ("all", "off") and not _is_ipv4(self.mdns):
            raise ConfigError(
                f"{_sources('mdns')} is {self.mdns!r}: 'all', 'off', or the IPv4 address of one of this"
                " machine's interfaces"
            )

    def pinned(self) -> dict[str, str]:
        """Fingerprints of keys by peer id, from `members`; ConfigError for anything else."""
        found = {}
        for item in filter(None, self.members.split(",")):
            peer, _, fingerprint = item.strip().partition("=")
            if not peer or not re.fullmatch("[0-9a-f]{64}", fingerprint):
                raise ConfigError(
                    f"{_sources('members')} has {item!r}: ID=FINGERPRINT is needed, with 64 hexadecimal"
                    " digits, which the peer's log shows when it starts"
                )
            found[peer] = fingerprint
        return found

    def advertised(self) -> tuple[str, int | None]:
        """Host, empty if it is to be found, and port, from `advertise`; ConfigError for anything else."""
        if not self.advertise:
            return "", None
        try:
            return host_port.split_advertised(self.advertise)
        except ValueError:
            raise ConfigError(
                f"{_sources('advertise')} is {self.advertise!r}: a host name or an address is needed, as"
                " peer.example.org, 192.0.2.7 or 2001:db8::2; with a port as peer.example.org:19300 or"
                " [2001:db8::2]:19300"
            ) from None

    def certificate_host(self) -> str:
        """What the aggregator's certificate has of `advertise`; ConfigError if there is a port."""
        host, port = self.advertised()
        if port is not None:
            raise ConfigError(
                f"{_sources('advertise')} is {self.advertise!r}: the aggregator's goes into its certificate,"
                f" which holds no port; give {host}, and the peers the port with {PREFIX}AGGREGATOR"
            )
        return host

    def secure_modes(self) -> tuple[str, ...]:
        return (self.mode,)


def _sources(name: str) -> str:
    return f"--{name.replace('_', '-')} ({PREFIX}{name.upper()})"


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def add_options(parser: argparse.ArgumentParser, services: str) -> None:
    """One option a setting of any of `services` (their first letters); None means: not given."""
    for item in fields(Settings):
        if set(services) & set(item.metadata["services"]):
            name = "--" + item.name.replace("_", "-")
            shown = f"{item.metadata['help']} [{PREFIX}{item.name.upper()}, default {item.default}]"
            parser.add_argument(name, default=None, metavar="VALUE", help=shown.replace("%", "%%"))


def load(environment: Mapping[str, str], options: Mapping[str, object]) -> Settings:
    """Settings from variables and options; ConfigError names the key and what would be right."""
    known = {item.name: item for item in fields(Settings)}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise ConfigError(f"unknown configuration key {variable}{hint}")
        if text:
            values[name] = _parse(name, text, variable)
    for name, given in options.items():
        if given is not None and name in known:
            values[name] = _parse(name, str(given), "--" + name.replace("_", "-"))
    return Settings(**values)


def _parse(name: str, text: str, source: str) -> Any:
    default = getattr(Settings, name, "") if name != "state" else Path()
    kind = type(default)
    try:
        return kind(text)
    except ValueError:
        number = "a number" if kind is float else "a whole number"
        raise ConfigError(f"{source} is {text!r}: {number} is needed") from None
