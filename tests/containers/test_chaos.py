"""Peers in containers are killed, paused and cut off at every phase of a round, and the sum stays exact.

What each peer learnt is kept by the test's own Flower app. From it the test computes, for each round, the
model that the survivors' sum gives, and compares it bit for bit with the one that the aggregator got.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from smpcfl.flower.client.mod import _rounding
from smpcfl.protocol.quantise import Quantiser, decode_update, encode_update
from support.chaos import NETWORK, PROJECT, Stack
from support.compose import ONE_MACHINE, Compose, docker, engine_missing

PEERS = 8
SEED = 1  # of the app's strategy: the rounding follows from it
PHASES = ("ticket", "exchange", "training", "frozen", "uploaded", "agree", "unmask")
ELSEWHERE = "10.213.77.200"
UPLOADED = ("uploaded", "agree", "unmask")  # whoever is lost there is still a survivor
ROUNDS = 35
PLAN: dict[str, Any] = {
    "grace_s": 8.0,
    "deadlines_ms": {
        "exchange": 5_000,
        "ready": 12_000,
        "train": 58_000,
        "upload": 60_000,
        "agree": 66_000,
        "unmask": 70_000,
    },
}

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1200),
    pytest.mark.skipif("CHAOS" not in os.environ, reason="a quarter of an hour: set CHAOS=1"),
    pytest.mark.skipif(bool(engine_missing()), reason=f"no Docker engine: {engine_missing()}"),
]


@dataclass
class Round:
    """What was done to a round, and what has to have come of it."""

    number: int
    phase: str
    fault: str
    victims: set[str] = field(default_factory=set)
    complete: bool = True
    present: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    surviving: set[str] = field(default_factory=set)


class Chaos:
    """Drives a stack through the rounds. Containers stand for the peers in them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.up = stack.containers()
        self.rounds: list[Round] = []
        self._turn = 0

    def ids(self, containers: Sequence[str]) -> set[str]:
        return {self.stack.peer_id(item) for item in containers}

    def others(self, containers: Sequence[str]) -> list[str]:
        return [item for item in self.up if item not in containers]

    def choose(self, count: int) -> list[str]:
        """Everyone has its turn."""
        chosen = [self.up[(self._turn + i) % len(self.up)] for i in range(count)]
        self._turn += count
        return chosen

    # -- faults -----------------------------------------------------------------------------------

    def inflict(self, fault: str, victims: Sequence[str]) -> None:
        if fault == "cut":
            for victim in victims:
                docker("network", "disconnect", NETWORK, victim)
        elif victims:
            docker(fault, *victims)

    def heal(self, fault: str, victims: Sequence[str]) -> None:
        if fault == "pause":
            docker("unpause", *victims)
        elif fault == "cut":
            for victim in victims:
                docker("network", "connect", NETWORK, victim)
        elif victims:
            docker("start", *victims)

    def await_all(self) -> set[str]:
        """Until everyone is back; their peer ids."""
        everyone = self.ids(self.up)
        self.stack.await_present(everyone)
        return everyone

    # -- rounds -----------------------------------------------------------------------------------

    def strike(
        self, phase: str, fault: str, victims: Sequence[str], down: Sequence[str] = ()
    ) -> Round:
        """Starts the next round and inflicts the fault in that phase of it; some are down before."""
        stack = self.stack
        bystanders = self.others([*victims, *down])
        if phase == "ticket":
            stack.hold(["leaving"])
            stack.go()
            stack.wait_at("leaving")
            self.inflict(fault, victims)
        elif phase == "exchange":
            # Nobody is through with the exchange before this one goes on; but it is asked before the round.
            stack.hold(["leaving"])
            stack.go()
            stack.wait_at("leaving")
            docker("pause", bystanders[0])
            stack.release()
            for victim in victims:
                stack.wait_phase(victim, " of run")
            self.inflict(fault, victims)
            docker("unpause", bystanders[0])
        elif phase == "training":
            stack.hold(f"training-{peer}" for peer in self.ids(self.up))
            stack.go()
            for victim in victims:
                stack.wait_phase(victim, ": all count")
                stack.wait_at(f"training-{stack.peer_id(victim)}")
            self.inflict(fault, victims)
        elif phase == "frozen":
            stack.hold(f"frozen-{peer}" for peer in self.ids(victims))
            stack.go()
            for peer in self.ids(victims):
                stack.wait_at(f"frozen-{peer}")
            self.inflict(fault, victims)
        elif phase == "uploaded":
            stack.hold(f"training-{peer}" for peer in self.ids(bystanders))
            stack.go()
            for peer in self.ids(victims):
                stack.wait_at(f"frozen-{peer}")
                stack.wait_at(f"arrived-{stack.node(peer)}")
            self.inflict(fault, victims)
        elif phase == "agree":
            stack.hold(["fixing"])
            stack.go()
            stack.wait_at("fixing", 60)
            # So many that nobody can agree with enough others before they go on.
            ticket = stack.ticket()
            present = [item for item in bystanders if stack.peer_id(item) in ticket["cohort"]]
            slow = present[: len(ticket["cohort"]) - ticket["threshold"]]
            docker("pause", *slow)
            stack.release()
            for victim in victims:
                stack.wait_phase(victim, ": agreed")
            self.inflict(fault, victims)
            docker("unpause", *slow)
        else:
            stack.hold(["answer"])
            stack.go()
            stack.wait_at("answer", 60)
            self.inflict(fault, victims)
        stack.release()
        done = Round(stack.current, phase, fault, self.ids(victims))
        self.rounds.append(done)
        return done

    def end(self) -> None:
        self.stack.wait_end()

    def plain(self, name: str = "-") -> Round:
        """A round in which nothing is done to anybody."""
        self.stack.go()
        done = Round(self.stack.current, name, "-")
        self.rounds.append(done)
        self.end()
        return done


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, list[Round]]]:
    folder = tmp_path_factory.mktemp("chaos")
    compose = Compose(
        PROJECT,
        *ONE_MACHINE,
        *("-f", "tests/containers/chaos.yml"),
        CHAOS_FOLDER=str(folder),
        SMPCFL_MODE="seeded",
        SMPCFL_ROUNDS="0",
    )
    stack = Stack(compose, folder, ROUNDS, PLAN)
    try:
        stack.start(PEERS)
        yield stack, play(stack)
    finally:
        stack.stop()


def play(stack: Stack) -> list[Round]:
    """All rounds, one after the other."""
    chaos = Chaos(stack)
    chaos.plain().present = chaos.ids(chaos.up)
    lose_peers_in_every_phase(chaos)
    come_and_go(chaos)
    lose_the_registry(chaos)
    move(chaos)
    lose_too_many(chaos)
    return chaos.rounds


def lose_peers_in_every_phase(chaos: Chaos) -> None:
    """Two are killed, and the next round runs without them. They are started again while one is paused in
    it; in the round after, one is cut off."""
    for place, phase in enumerate(PHASES):
        everyone = chaos.await_all()
        killed = chaos.choose(2)
        rest = chaos.others(killed)
        chaos.strike(phase, "kill", killed).present = everyone
        chaos.end()
        paused, cut = [rest[place % len(rest)]], [rest[(place + 1) % len(rest)]]
        done = chaos.strike(PHASES[(place + 2) % len(PHASES)], "pause", paused, killed)
        done.absent = chaos.ids(killed)
        chaos.heal("kill", killed)
        chaos.end()
        chaos.heal("pause", paused)
        chaos.strike(PHASES[(place + 4) % len(PHASES)], "cut", cut, killed)
        chaos.end()
        chaos.heal("cut", cut)


def come_and_go(chaos: Chaos) -> None:
    stack = chaos.stack
    everyone = chaos.await_all()
    again = chaos.choose(1)
    chaos.strike("training", "restart", again).present = everyone
    chaos.end()
    chaos.await_all()
    chaos.plain("restarted").present = everyone

    leaving = chaos.choose(1)
    gone = chaos.ids(leaving)
    chaos.strike("training", "stop", leaving)
    (name,) = gone
    stack.wait(lambda: stack.said("registry-1", f"peer {name} has left"), 10, "its goodbye")
    witness = chaos.others(leaving)[0]
    stack.wait(
        lambda: stack.found_by_mdns(witness) == PEERS - 1, 20, "a goodbye by mDNS", every=1.0
    )
    chaos.end()
    docker("rm", "--volumes", *leaving)
    chaos.up = chaos.others(leaving)
    stack.compose("up", "-d", "--no-recreate", "--scale", f"peer={PEERS}", "peer")
    chaos.plain("left").absent = gone
    chaos.up = stack.containers()
    stack.wait(lambda: not chaos.ids(chaos.up) & {"", *gone}, 30, "the new peer's name")


def lose_the_registry(chaos: Chaos) -> None:
    everyone = chaos.await_all()
    registry = f"{PROJECT}-registry-1"
    docker("stop", registry)
    chaos.plain("no registry").present = everyone
    killed = chaos.choose(1)
    chaos.strike("exchange", "kill", killed).present = everyone
    chaos.end()
    chaos.heal("kill", killed)
    chaos.await_all()
    chaos.plain("no registry").present = everyone
    docker("start", registry)


def move(chaos: Chaos) -> None:
    (moved,) = chaos.choose(1)
    chaos.inflict("cut", [moved])
    docker("network", "connect", "--ip", ELSEWHERE, NETWORK, moved)

    def known() -> bool:
        status = chaos.stack.compose("exec", "-T", "aggregator", "smpcfl", "status")
        return ELSEWHERE in status and status.count("yes") == PEERS

    chaos.stack.wait(known, 60, f"{ELSEWHERE} on the roster, and everyone seen by mDNS", 1.0)
    everyone = chaos.await_all()
    done = chaos.plain("moved")
    done.present = done.surviving = everyone


def lose_too_many(chaos: Chaos) -> None:
    first = chaos.choose(2)
    everyone = chaos.await_all()
    chaos.strike("unmask", "kill", first).present = everyone
    chaos.end()
    second = chaos.others(first)[:2]
    done = chaos.strike("training", "kill", second, first)
    done.absent, done.complete = chaos.ids(first), False
    chaos.end()
    chaos.plain("too few").absent = chaos.ids([*first, *second])
    chaos.heal("kill", [*first, *second])
    everyone = chaos.await_all()
    half = chaos.choose(PEERS // 2)
    done = chaos.strike("agree", "kill", half)
    done.present, done.complete = everyone, False
    chaos.end()
    chaos.plain("too few").absent = chaos.ids(half)


def test_every_round_gives_exactly_the_survivors_sum(story: tuple[Stack, list[Round]]) -> None:
    stack, rounds = story
    stack.finish()
    records = {item["round"]: item for item in stack.compose.records()}
    print(f"\n{'round':>5}  {'phase':<14}{'fault':<8}{'outcome':<10}{'survivors':<10}{'s':>5}")
    for done in rounds:
        record = records[done.number]
        survivors = f"{record['survivors']}/{record['cohort']}"
        print(
            f"{done.number:>5}  {done.phase:<14}{done.fault:<8}{record['outcome']:<10}{survivors:<10}"
            f"{record['seconds']:>5.1f}  {record['reason']}"
        )
    for done in rounds:
        check(stack.folder / "log", done, records[done.number])


def check(log: Path, done: Round, record: dict[str, Any]) -> None:
    ticket = json.loads((log / f"{done.number}-ticket.json").read_text())
    before, after = (load(log / f"{number}-model.npz") for number in (done.number - 1, done.number))
    cohort = set(ticket["cohort"])
    assert done.present <= cohort, done
    assert not done.absent & cohort, done
    if not done.complete:
        assert record["outcome"] == "void", (done, record)
        assert record["reason"], record
        assert record["seconds"] * 1000 < PLAN["deadlines_ms"]["unmask"], record
        assert same(before, after), done
        return
    assert record["outcome"] == "complete", (done, record)
    survivors = json.loads((log / f"{done.number}-survivors.json").read_text())
    lost = set() if done.phase in UPLOADED else done.victims
    assert not lost & set(survivors), done
    assert done.surviving <= set(survivors), done
    expected = model_of(log, done.number, ticket, before, survivors)
    assert same(expected, after), done
    assert not same(before, after), done


def model_of(
    log: Path, number: int, ticket: dict[str, Any], before: dict[str, Any], survivors: list[str]
) -> dict[str, Any]:
    """What the sum over these peers of what each of them learnt gives, without any mask."""
    quantiser = Quantiser(
        ticket["width"], ticket["clip"], ticket["weight_cap"], len(ticket["cohort"])
    )
    total = None
    for peer in survivors:
        kept = load(log / f"{number}-{peer}.npz")
        context = SimpleNamespace(node_id=0, node_config={"partition-id": int(kept["partition"])})
        addend = encode_update(
            quantiser,
            before,
            {name: kept[f"model_{name}"] for name in before},
            examples=int(kept["metric_num-examples"]),
            rounding=_rounding(
                cast(Any, {"seed": SEED}),
                cast(Any, SimpleNamespace(round=number)),
                cast(Any, context),
                given_seed=True,
            ),
        )
        total = addend if total is None else total + addend
    assert total is not None
    return decode_update(quantiser, before, total, len(survivors))[0]


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        return dict(archive)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )
