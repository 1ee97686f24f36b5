"""The command line. Start-up is light: each command imports what it needs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable

from ..base import config
from ..base.config import PortInUse, Settings
from ..protocol.errors import ProtocolError
from .options import SERVICES, parser_of_all

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for an error that was printed, 2 for wrong usage, 130 for Ctrl-C."""
    parser = parser_of_all()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return EXIT_USAGE
    try:
        return _COMMANDS[options.command](options)
    except (ProtocolError, PortInUse) as error:
        print(f"smpcfl {options.command}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"smpcfl {options.command}: {_explain(error)}", file=sys.stderr)
    except KeyboardInterrupt as error:
        if error.args:  # by another signal than Ctrl-C, of which the user knows
            print(f"smpcfl {options.command}: {error}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_ERROR


def _explain(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _serve(options: argparse.Namespace) -> int:
    from .serve import serve_until_stopped

    return serve_until_stopped(options)


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
    given = {key: getattr(options, key) for key in ("state", "superlink_port", "host")}
    return config.load(os.environ, given)


def _hash(options: argparse.Namespace) -> int:
    from ..daemons.allowed_apps import hash_of

    print(hash_of(options.app))
    return 0


def _status(options: argparse.Namespace) -> int:
    from .status import show, watch

    given = {"state": options.state, "registry": options.registry}
    settings = config.load(os.environ, given)
    return asyncio.run((watch if options.watch else show)(settings, as_json=options.json))


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import diagnose

    settings = config.load(os.environ, vars(options))
    return diagnose(settings, options.service, as_json=options.json)


def _authority(options: argparse.Namespace) -> int:
    from ..registry import authority_folder

    for path, is_new in authority_folder.make(options.folder):
        print(f"{path}: {'made' if is_new else 'is there already, and stays'}")
    return 0


def _token(options: argparse.Namespace) -> int:
    import time

    from ..base.state import AuthorityFolder
    from ..net.certificates import check_name
    from ..registry.authority import make_token, registry_state, reopen

    settings = config.load(os.environ, {"state": options.state})
    state = registry_state(settings.state)
    if options.reopen:
        reopen(state, AuthorityFolder.given(settings.authority))
        print("the join token that is for any number of peers counts again")
        return 0
    name = check_name(options.peer) if options.peer else ""
    print(make_token(state, name, time.time() + options.hours * 3600.0))
    return 0


def _draw(options: argparse.Namespace) -> int:
    from ..registry.authority import registry_state
    from ..registry.draws import draw_by_hand

    state = registry_state(config.load(os.environ, {"state": options.state}).state)
    made = draw_by_hand(state)
    sizes = [len(group.members) for group in made.groups]
    print(
        f"draw {made.draw}: {sum(sizes)} peers in {len(sizes)} groups of {min(sizes)} to {max(sizes)},"
        f" {made.groups[0].left_out} left out"
    )
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
    from .demo import compare
    from .wanted import Wanted

    wanted = Wanted(options.app, options.peers, options.rounds, options.seed, options.node_config)
    return compare(modes, wanted, repeat, options.report, with_page=not options.no_page)


def _simulate(options: argparse.Namespace) -> int:
    from .simulate import simulate
    from .wanted import Wanted

    wanted = Wanted(options.app, options.peers, options.rounds, options.seed)
    return simulate(wanted, options.mode, options.lost, options.report)


def _bench(options: argparse.Namespace) -> int:
    from ..bench.suite import bench

    return bench(
        options.cases,
        short=options.short,
        json_file=options.json,
        checked=options.check or options.against is not None,
        against=options.against,
    )


def _report(options: argparse.Namespace) -> int:
    from .side_by_side import show

    return show(options.files, options.report)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "demo": _demo,
    "compare": _compare,
    "simulate": _simulate,
    **dict.fromkeys(SERVICES, _serve),
    "hash": _hash,
    "run": _run,
    "runs": _runs,
    "stop": _stop,
    "status": _status,
    "doctor": _doctor,
    "authority": _authority,
    "token": _token,
    "draw": _draw,
    "revoke": _revoke,
    "bench": _bench,
    "report": _report,
}


if __name__ == "__main__":
    raise SystemExit(main())
