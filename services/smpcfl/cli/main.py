"""The command line. Start-up is light: each command imports what it needs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from .. import __version__
from ..base import config
from ..base.config import PortInUse, Settings
from ..protocol.errors import ProtocolError
from ..protocol.ticket import MODES

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
SERVICES = {
    "registry": "small CA, roster of peers, list of targets for Prometheus",
    "peer": "agent and Flower SuperNode: trains, exchanges shares, uploads partial sums",
    "aggregator": "Flower SuperLink and ServerApp: sees sums, never one peer's update",
}
_EPILOG = """\
try it:        smpcfl demo
try your app:  smpcfl compare --app DIR
containers:    docker compose up --build --scale peer=8
in your app:   ClientApp(mods=[smpcfl.flower.secure_mod])
               SecureStrategy(FedAvg())
"""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for an error that was printed, 2 for wrong usage, 130 for Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return EXIT_USAGE
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except (ProtocolError, PortInUse) as error:
        print(f"smpcfl {options.command}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"smpcfl {options.command}: {_explain(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_ERROR


def _explain(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _parser() -> argparse.ArgumentParser:
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
    for name, text in SERVICES.items():
        service = commands.add_parser(name, help=f"service: {text}")
        config.add_options(service, name[0])
        service.set_defaults(run=_serve)
    hashed = commands.add_parser(
        "hash", help="the hash of a Flower app, by which peers allow it (SMPCFL_APPS)"
    )
    hashed.add_argument("app", type=Path, metavar="DIR", help="folder with pyproject.toml")
    hashed.set_defaults(run=_hash)
    _add_runs(commands)
    status = commands.add_parser(
        "status", help="the roster (who is there), and how the last round went"
    )
    status.add_argument("--state", default=None, help="the service's state folder")
    status.add_argument("--registry", default=None, help="registry's gRPC, host:port")
    status.set_defaults(run=_status)
    _add_membership(commands)
    _add_bench(commands)
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
    again.set_defaults(run=_run)
    listed = commands.add_parser(
        "runs", help="on the aggregator: the training runs, how each ended, rounds done"
    )
    listed.set_defaults(run=_runs)
    stop = commands.add_parser(
        "stop",
        help="on the aggregator: stop a training run",
        description="The run ends at once, and the aggregator does not go on with it; the global model of its"
        " last round is kept.",
    )
    stop.add_argument(
        "wanted", nargs="?", metavar="RUN", help="as `smpcfl runs` shows it [default: what goes on]"
    )
    stop.set_defaults(run=_stop)
    for parser in (again, listed, stop):
        parser.add_argument("--state", default=None, help="the aggregator's state folder")
        parser.add_argument("--superlink-port", default=None, help="port of the SuperLink [9092]")


def _add_local(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=MODES, default="seeded", help="[default seeded]")
    _add_common(parser)
    parser.set_defaults(run=_demo)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modes",
        type=_modes,
        default=("normal", "additive", "seeded"),
        metavar="M,M",
        help="[default normal,additive,seeded]",
    )
    parser.add_argument(
        "--repeat", type=_positive, default=1, help="runs of each mode, with seeds one apart [1]"
    )
    _add_common(parser)
    parser.set_defaults(run=_compare)


def _add_membership(commands: Any) -> None:
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
    token.set_defaults(run=_token)
    revoke = commands.add_parser(
        "revoke",
        help="on the registry: exclude a peer, at once and for good",
        description="The peer's certificate, id and key stop counting: every other service learns that with"
        " its next heartbeat, within seconds. Join tokens that are not for one peer id stop counting too,"
        " because the peer may have kept one.",
    )
    revoke.add_argument("peer", metavar="PEER", help="peer id, as `smpcfl status` shows it")
    revoke.add_argument("--state", default=None, help="the registry's state folder")
    revoke.set_defaults(run=_revoke)


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
        help="the benchmark suite: what masks, secrets and whole rounds cost on this machine",
        description="Measures masks, quantiser, secret sharing, and whole rounds in memory, without"
        " network or training, on one core; under a minute. What each figure means:"
        " benchmarks/README.md in the repository.",
    )
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="write all figures to FILE as well"
    )
    parser.set_defaults(run=_bench)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--app",
        type=Path,
        default=None,
        metavar="DIR",
        help="a Flower app, a folder with pyproject.toml; its peers allow it [default: digits of MNIST]",
    )
    parser.add_argument("--peers", type=_peers, default=5, help="number of peers, at least 3 [5]")
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
        "--node-config",
        default="",
        metavar="CONFIG",
        help="for context.node_config on all peers, as flower-supernode has it: 'key=value ...'",
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("report"),
        metavar="DIR",
        help="for report.html, report.json, and in a folder for each mode what the app saved [report]",
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


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


# -- services -----------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    from ..base import files
    from ..base.metrics import Metrics
    from ..protocol.errors import Reason

    settings = config.load(os.environ, vars(options))
    configure_log()
    # A core dump would hold the keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Before anything starts: what cannot be kept would be missed in the middle of a run.
    files.check(settings.state, files.LEAST_BYTES)
    metrics = Metrics(settings.mode)
    metrics.rejected.start_at_zero(reason=[reason.value for reason in Reason])
    metrics.serve(settings.host, settings.metrics_port)
    return asyncio.run(_until_signal(options.command, settings, metrics))


async def _until_signal(service: str, settings: Settings, metrics: Any) -> int:
    serve: Callable[[Settings, Any, asyncio.Event], Coroutine[Any, Any, None]]
    if service == "registry":
        from ..registry.serve_registry import serve
    elif service == "peer":
        from ..peer.serve_peer import serve
    else:
        from ..aggregator.serve_aggregator import serve
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(serve(settings, metrics, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        await asyncio.wait({work}, timeout=15.0)
    if not work.done():
        work.cancel()
        await asyncio.wait({work})
    stopping.cancel()
    if not work.cancelled() and (error := work.exception()) is not None:
        raise error
    return 0


def configure_log() -> None:
    level = logging.DEBUG if os.environ.get("DEBUG") else logging.INFO
    logging.basicConfig(
        level=level,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    for name in ("zeroconf", "grpc", "httpx"):  # else each packet and each call is a line
        logging.getLogger(name).setLevel(logging.WARNING)


# -- on a running stack ----------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from .start_run import run_and_follow

    return run_and_follow(_aggregators(options), options.rounds, options.seed, options.app)


def _runs(options: argparse.Namespace) -> int:
    from .list_runs import show

    return asyncio.run(show(_aggregators(options)))


def _stop(options: argparse.Namespace) -> int:
    from .list_runs import stop

    return asyncio.run(stop(_aggregators(options), options.wanted))


def _aggregators(options: argparse.Namespace) -> Settings:
    given = {key: getattr(options, key) for key in ("state", "superlink_port")}
    return config.load(os.environ, given)


def _hash(options: argparse.Namespace) -> int:
    from ..daemons.allowed_apps import hash_of

    print(hash_of(options.app))
    return 0


def _status(options: argparse.Namespace) -> int:
    from .status import show

    given = {"state": options.state, "registry": options.registry}
    settings = config.load(os.environ, given)
    return asyncio.run(show(settings))


def _token(options: argparse.Namespace) -> int:
    import time

    from ..net.certificates import check_name
    from ..registry.authority import make_token, registry_state, reopen

    state = registry_state(config.load(os.environ, {"state": options.state}).state)
    if options.reopen:
        reopen(state)
        print("the registry writes the join token of the join folder again")
        return 0
    name = check_name(options.peer) if options.peer else ""
    print(make_token(state, name, time.time() + options.hours * 3600.0))
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from ..registry.authority import registry_state, revoke

    state = registry_state(config.load(os.environ, {"state": options.state}).state)
    revoke(state, options.peer)
    print(
        f"{options.peer} is revoked. The join folder's token for peers is withdrawn: take the folder away"
        " from that peer, then `smpcfl token --reopen`; or give each new machine a token of its own with"
        " `smpcfl token`"
    )
    return 0


# -- without Docker --------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    return _train((options.mode,), 1, options)


def _compare(options: argparse.Namespace) -> int:
    return _train(options.modes, options.repeat, options)


def _train(modes: tuple[str, ...], repeat: int, options: argparse.Namespace) -> int:
    from .demo import Wanted, compare

    wanted = Wanted(options.app, options.peers, options.rounds, options.seed, options.node_config)
    return compare(modes, wanted, repeat, options.report)


def _bench(options: argparse.Namespace) -> int:
    from ..bench.suite import bench

    return bench(options.json)


if __name__ == "__main__":
    raise SystemExit(main())
