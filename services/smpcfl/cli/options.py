"""What the command line takes: its commands, and their options with what each may be."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import __version__
from ..base import config
from ..protocol.ticket import ADDITIVE, MODES, NORMAL, SEEDED

SERVICES = {
    "registry": "small CA, roster of peers, list of targets for Prometheus",
    "peer": "agent and Flower SuperNode: trains, exchanges shares, uploads partial sums",
    "aggregator": "Flower SuperLink and ServerApp: sees sums, never one peer's update",
}
_EPILOG = """\
try it:        smpcfl demo
try your app:  smpcfl compare --app DIR
simulate it:   smpcfl simulate --app DIR --peers 1000
containers:    docker compose up --build --scale peer=8
in your app:   ClientApp(mods=[smpcfl.flower.secure_mod])
               SecureStrategy(FedAvg())
"""


def parser_of_all() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smpcfl",
        description="Federated learning in which nobody, the server included, sees one participant's"
        " update.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"smpcfl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_local(
        commands.add_parser("demo", help="train with everything as local processes, no Docker")
    )
    _add_compare(
        commands.add_parser(
            "compare", help="run the modes one after another and report side by side"
        )
    )
    _add_simulate(
        commands.add_parser(
            "simulate",
            help="train with many virtual peers in Flower's simulation engine",
            description="Runs an app, unchanged, in Flower's simulation engine, where virtual peers run the"
            " protocol of real ones, and reports what a deployment would have sent and computed for each."
            " Nothing is kept secret: there is no TLS, and all peers are in one process. Needs Ray:"
            " pip install 'smpcfl[simulation]'.",
        )
    )
    for name, text in SERVICES.items():
        service = commands.add_parser(name, help=f"service: {text}")
        config.add_options(service, name[0])
    hashed = commands.add_parser(
        "hash", help="the hash of a Flower app, by which peers allow it (SMPCFL_APPS)"
    )
    hashed.add_argument("app", type=Path, metavar="DIR", help="folder with pyproject.toml")
    _add_runs(commands)
    status = commands.add_parser(
        "status",
        help="the roster (who is there), how the last round went, and the guarantee in force in it",
        description="Run it where the aggregator or a peer runs: it asks the registry with the certificate of"
        " that service. The last round, with its groups and suspects, is known to the aggregator alone. Ends"
        " with 0, with 1 and a line on standard error if it cannot be shown, with 130 on Ctrl-C.",
    )
    status.add_argument(
        "--watch",
        action="store_true",
        help="go on until Ctrl-C: on a terminal a screen, redrawn every 2 s; else a line for each change",
    )
    status.add_argument(
        "--json",
        action="store_true",
        help="one JSON object, as docs/observability.md has it; with --watch one a line, when it changes",
    )
    status.add_argument("--state", default=None, help="the service's state folder")
    status.add_argument("--registry", default=None, help="registry's gRPC, host:port")
    _add_doctor(commands)
    _add_membership(commands)
    _add_bench(commands)
    _add_report(commands)
    return parser


def _add_runs(commands: Any) -> None:
    again = commands.add_parser(
        "run",
        help="on the aggregator: start another training run, and follow it to its end",
        description="Shows what the run waits for, what the app prints, a line for each round, and the"
        " result. Ends with 0 if a round was completed, and with 1 if none was, the app failed, or the run"
        " was stopped. Ctrl-C asks whether to stop the run; where nobody can be asked, it goes on (130).",
    )
    again.add_argument(
        "--rounds", type=_positive, default=None, help="number of rounds [default 5, or the app's]"
    )
    again.add_argument(
        "--seed", type=int, default=None, help="seed [default: another one each time, or the app's]"
    )
    again.add_argument("--app", type=Path, default=None, help="a Flower app [default: the digits]")
    listed = commands.add_parser(
        "runs", help="on the aggregator: the training runs, how each ended, rounds done"
    )
    stop = commands.add_parser(
        "stop",
        help="on the aggregator: stop a training run",
        description="The run ends at once, and the aggregator does not go on with it; the global model of its"
        " last round is kept.",
    )
    stop.add_argument(
        "wanted", nargs="?", metavar="RUN", help="as `smpcfl runs` shows it [default: what goes on]"
    )
    for parser in (again, listed, stop):
        parser.add_argument("--state", default=None, help="the aggregator's state folder")
        parser.add_argument("--superlink-port", default=None, help="port of the SuperLink [9092]")
        parser.add_argument("--host", default=None, help="address that it listens on [0.0.0.0]")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=MODES, default=SEEDED, help="[default seeded]")
    parser.add_argument(
        "--lost",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of all peers that is lost in each round, 0 to less than 1 [0]",
    )
    _add_common(parser, peers=1000)


def _add_local(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=MODES, default=SEEDED, help="[default seeded]")
    _add_node_config(parser)
    _add_page(parser)
    _add_common(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modes",
        type=_modes,
        default=(NORMAL, ADDITIVE, SEEDED),
        metavar="M,M",
        help="[default normal,additive,seeded]",
    )
    parser.add_argument(
        "--repeat", type=_positive, default=1, help="runs of each mode, with seeds one apart [1]"
    )
    _add_node_config(parser)
    _add_page(parser)
    _add_common(parser)


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="what is wrong here, and the remedy: names, ports, certificates, token, clock, disk, versions",
        description="Run it where a service runs, with the settings that the service has, also before its"
        " first start: it looks at folders, names, ports both ways, certificates, token, clocks, versions and"
        " mDNS, and prints a line for each: ok, warning or fault, with the remedy. Nothing is changed, and no"
        " token is used up. Ends with 0, and with 1 if there is a fault.",
    )
    doctor.add_argument(
        "--service", choices=SERVICES, default=None, help="[default: as the state folder shows it]"
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    config.add_options(doctor, "".join(name[0] for name in SERVICES))


def _add_membership(commands: Any) -> None:
    authority = commands.add_parser(
        "authority",
        help="make a CA and join tokens for a registry that is given them (SMPCFL_AUTHORITY)",
        description="Where volumes are not shared, as in Swarm and Kubernetes, the registry gets its CA and"
        " the join tokens from secrets, and so do the others. This makes the files: ca-key.pem and ca.pem,"
        " the CA, and peer-token and aggregator-token, each for any number of machines of that role. What is"
        " there already stays as it is: so a CA of your own gets tokens beside it.",
    )
    authority.add_argument(
        "folder", type=Path, metavar="DIR", help="the folder, made if it is not there"
    )
    token = commands.add_parser(
        "token",
        help="on the registry: make a join token for one more machine",
        description="Prints a join token that is good once. Give it to `smpcfl peer` as SMPCFL_TOKEN, or as"
        " the file `token` in its join folder, beside ca.pem.",
    )
    token.add_argument("--peer", default="", metavar="ID", help="for this peer id only")
    token.add_argument(
        "--reopen", action="store_true", help="after a revocation: a token in the join folder again"
    )
    token.add_argument("--hours", type=_hours, default=24.0, help="life of the token [24]")
    token.add_argument("--state", default=None, help="the registry's state folder")
    draw = commands.add_parser(
        "draw",
        help="on the registry: cut the deployment into groups anew, now",
        description="From twice SMPCFL_GROUP_SIZE peers on, the registry draws once a day by itself. Draw by"
        " hand after many peers came or went: those that came after a draw wait for the next one. The next"
        " round goes by the new groups.",
    )
    draw.add_argument("--state", default=None, help="the registry's state folder")
    revoke = commands.add_parser(
        "revoke",
        help="on the registry: exclude a peer, at once and for good",
        description="The peer's certificate, id and key stop counting: every other service learns that with"
        " its next heartbeat, within seconds. Join tokens that are not for one peer id stop counting too,"
        " because the peer may have kept one.",
    )
    revoke.add_argument("peer", metavar="PEER", help="peer id, as `smpcfl status` shows it")
    revoke.add_argument("--state", default=None, help="the registry's state folder")


def _add_report(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="runs made at different times, side by side in one report",
        description="Reads what `smpcfl demo`, `compare` and `simulate` left, and writes one report.html and"
        " report.json of all of it. A mode that several files have stands there once for each, with the name"
        " of its folder.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="a report.json, or the folder that has it",
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("report-of-all"),
        metavar="DIR",
        help="for report.html and report.json [report-of-all]",
    )


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 24 * 365:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours above 0, up to a year")
    return hours


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="what masks, quantiser, client and server cost here, beside Flower's and the machine's limit",
        description="Measures cases, each in turn with its limit on this machine, and with Flower's own"
        " FedAvg and SecAgg+ on the same work, without network or training; some three minutes. The cases:"
        " masks, quantise, quantise-memory, client, server, bytes, peer-bytes, rounds, shamir. What each is"
        " stands in docs/benchmarks.md in the repository, with figures.",
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="which ones [all]")
    parser.add_argument(
        "--short", action="store_true", help="less work, without Flower; a quarter of a minute"
    )
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="write all figures to FILE as well"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare the ratios to the limits with the committed ones; ends with 1 where one is more than a"
        " third above",
    )
    parser.add_argument(
        "--against",
        type=Path,
        default=None,
        metavar="FILE",
        help="as --check, with the ratios that --json wrote to FILE",
    )


def _add_common(parser: argparse.ArgumentParser, peers: int = 5) -> None:
    parser.add_argument(
        "--app",
        type=Path,
        default=None,
        metavar="DIR",
        help="a Flower app, a folder with pyproject.toml; its peers allow it [default: digits of MNIST]",
    )
    parser.add_argument(
        "--peers", type=_peers, default=peers, help=f"number of peers, at least 3 [{peers}]"
    )
    parser.add_argument(
        "--rounds", type=_positive, default=None, help="number of rounds [5, or the app's own]"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=None,
        help="seed of model, data order, rounding [1, or the app's own]",
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("report"),
        metavar="DIR",
        help="for report.html, report.json, and in a folder for each mode what the app saved [report]",
    )


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-page",
        action="store_true",
        help="no live page: else one on 127.0.0.1 shows the run while it goes on",
    )


def _add_node_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--node-config",
        default="",
        metavar="CONFIG",
        help="for context.node_config on all peers, as flower-supernode has it: 'key=value ...'",
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to less than 1, such as 0.1")
    return share


def _peers(text: str) -> int:
    number = _positive(text)
    if number < 3:
        raise argparse.ArgumentTypeError(
            f"a cohort of {number} keeps no secret: with two, each reads the other's update off the sum;"
            " at least 3"
        )
    return number


def _modes(text: str) -> tuple[str, ...]:
    modes = tuple(dict.fromkeys(text.split(",")))
    for mode in modes:
        if mode not in MODES:
            raise argparse.ArgumentTypeError(
                f"unknown mode {mode!r}: choose from {', '.join(MODES)}"
            )
    return modes
