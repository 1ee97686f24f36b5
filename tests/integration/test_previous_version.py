"""The last version that was released beside this one: a rolling update, and back again. Real processes.

`PREVIOUS=REVISION` takes another one, as git names it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.protocol.encoding import VERSION
from smpcfl.reports.record import RoundRecord
from support import previous
from support.light_app import light_app, running
from support.mixed import Mixed

PEERS = 5  # of which a round may lose one
MANY = 500  # rounds: more than there is time for
REVISION = previous.revision()

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not REVISION,
        reason=f"no version is tagged yet; {previous.VARIABLE}=REVISION names one to test with",
    ),
]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return previous.unpack(REVISION, tmp_path_factory.mktemp("previous"))


@pytest.fixture
def same_protocol(older: Path) -> bool:
    return previous.protocol_of(older) == VERSION


def stack_of(folder: Path, first: dict[str, Path], app: Path, absent: int = 0) -> Mixed:
    return Mixed(folder, "seeded", PEERS, 0, 1, hash_of(app), first=first, absent=absent)


def records(stack: Mixed) -> list[RoundRecord]:
    return rounds_service.read(stack.records)


def after(stack: Mixed, fits: Callable[[RoundRecord], bool], what: str) -> None:
    """Waits for a round that fits, of those that end from now on."""
    known = len(records(stack))
    stack.wait(lambda: any(map(fits, records(stack)[known:])), 240, what)


def names(first: int = 0) -> list[str]:
    return [f"peer-{number}" for number in range(first, PEERS)]


def whole(record: RoundRecord) -> bool:
    return record.outcome == "complete" and record.survivors == PEERS


def test_an_update_rolls_while_a_run_goes_on(
    older: Path, same_protocol: bool, tmp_path: Path
) -> None:
    """Registry, aggregator, then one peer after the other; and a peer goes back."""
    if not same_protocol:
        pytest.skip(f"{REVISION} speaks another protocol: its peers wait for theirs")
    everyone = ["registry", "aggregator", *names()]
    app = light_app(tmp_path / "app", MANY)
    with stack_of(tmp_path / "stack", dict.fromkeys(everyone, older), app) as stack:
        with running(stack, app):
            after(stack, whole, f"a round of {REVISION}")
            enrolled = stack.log("registry").count("enrolled")
            for name in everyone:
                stack.replace(name, None)
                after(stack, whole, f"a round of all with {name} of this version")
            stack.replace("peer-0", older)
            after(stack, whole, f"a round of all with peer-0 of {REVISION} again")
        found, log = records(stack), stack.log("registry")
    serials = [record.round for record in found]
    assert len({record.run for record in found}) == 1, "one run"
    assert serials == sorted(set(serials)), "each round once"
    assert log.count("enrolled") == enrolled == PEERS + 1, "nobody had to enrol anew"


def test_peers_of_both_under_the_older_registry_and_aggregator(
    older: Path, same_protocol: bool, tmp_path: Path
) -> None:
    """Not the order to update in, but what is left of it when one went back."""
    first = dict.fromkeys(["registry", "aggregator", *names(2)], older)
    mixed(tmp_path, first, same_protocol=same_protocol)


def test_peers_of_both_under_this_registry_and_aggregator(
    older: Path, same_protocol: bool, tmp_path: Path
) -> None:
    mixed(tmp_path, dict.fromkeys(names(3), older), same_protocol=same_protocol)


def mixed(folder: Path, first: dict[str, Path], *, same_protocol: bool) -> None:
    """All train together; or those of the aggregator's protocol do, and the two others are named."""
    app = light_app(folder / "app", MANY)
    absent = 0 if same_protocol else 2
    with (
        stack_of(folder / "stack", first, app, absent) as stack,
        running(stack, app),
    ):
        enough = PEERS - absent
        after(
            stack,
            lambda record: record.outcome == "complete" and record.survivors == enough,
            f"a round of {enough} peers",
        )
        aggregator = "aggregator" in first
        others = [name for name in names() if (name in first) != aggregator]
        if not same_protocol:
            for name in others:
                peer = stack.peer_id(int(name.removeprefix("peer-")))
                assert peer in stack.log("aggregator"), f"nothing is said of {name}"
