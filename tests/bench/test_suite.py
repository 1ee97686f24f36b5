"""The benchmark suite: its figures are those of the wire, and it says at once what it cannot do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from smpc.v1 import peer_pb2
from smpcfl.bench import parts, suite, timing
from smpcfl.bench.round_costs import play
from smpcfl.bench.suite import Sizes, bench, whole_round
from smpcfl.cli.main import main
from smpcfl.net import ready_wire, wire
from smpcfl.net.rpc import FRAME_BYTES
from smpcfl.protocol import trailer
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.messages import Agreement, Exchange, Ready, ReadyReply
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.signing import AGGREGATOR, KeyTable
from smpcfl.protocol.ticket import ADDITIVE, SEEDED
from smpcfl.tasks.digits.model import PARAMETERS
from support.network import Network, make_ticket

TINY = Sizes(
    entries=(100,),
    degrees=((4, 3),),
    rounds=((SEEDED, 6), (ADDITIVE, 5)),
    parameters=50,
    part_s=0.0,
    round_s=0.0,
)
SIGNATURE = bytes(64)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    assert bench(file, TINY) == 0
    read: dict[str, Any] = json.loads(file.read_text())
    return read


def test_the_json_has_the_machine_and_every_figure(result: dict[str, Any]) -> None:
    assert result.keys() == {
        *("smpcfl", "machine", "masks", "quantiser", "shamir", "rounds", "seconds")
    }
    assert result["machine"].keys() == {
        *("platform", "cpu", "cpu_count", "load", "python", "numpy", "cryptography")
    }
    assert all(value not in (None, "") for value in result["machine"].values())
    assert [(row["width"], row["entries"]) for row in result["masks"]] == [
        (16, 100),
        (32, 100),
        (64, 100),
    ]
    assert [row["width"] for row in result["quantiser"]] == [16, 32, 64]
    assert [(row["degree"], row["threshold"]) for row in result["shamir"]] == [(4, 3)]
    rounds = [(row["mode"], row["peers"], row["degree"]) for row in result["rounds"]]
    assert rounds == [(SEEDED, 6, 5), (ADDITIVE, 5, 4)]


def test_a_timing_is_a_median_over_at_least_five_runs(result: dict[str, Any]) -> None:
    timings = [row[name] for row in result["masks"] for name in ("expand", "apply")]
    timings += [row[name] for row in result["quantiser"] for name in ("encode", "decode")]
    timings += [row[name] for row in result["shamir"] for name in ("split", "reconstruct")]
    assert all(item["median_s"] > 0 and item["runs"] >= 5 for item in timings)


def test_a_rate_is_the_bytes_of_keystream_by_the_seconds(result: dict[str, Any]) -> None:
    for row in result["masks"]:
        assert row["bytes"] == 100 * row["width"] // 8 + 8 * trailer.LENGTH
        for name, count in (("expand", 1), ("apply", row["masks"])):
            rate = row["bytes"] * count / row[name]["median_s"] / 1e6
            assert row[name]["mb_per_s"] == pytest.approx(rate)


def test_a_measurement_is_the_median_and_leaves_the_first_call_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0
    takes = iter([100.0, 1.0, 9.0, 2.0, 3.0, 2.5])

    def work() -> None:
        nonlocal clock
        clock += next(takes)

    monkeypatch.setattr(timing, "perf_counter", lambda: clock)
    assert timing.measure(work, 0.0) == timing.Timing(2.5, 5)


def test_a_round_says_its_seconds_by_phase_and_its_ratios(result: dict[str, Any]) -> None:
    for row in result["rounds"]:
        phases = {"exchange_s", "upload_s"} | ({"unmask_s"} if row["mode"] == SEEDED else set())
        assert row["peer"].keys() == {"total_s", *phases}
        assert row["aggregator"].keys() == {"total_s", "upload_s", "unmask_s", "sum_s"}
        assert min(row["peer"].values()) > 0
        assert row["peer"]["total_s"] == pytest.approx(sum(row["peer"][name] for name in phases))
        assert row["plain_bytes"] == 4 * 50
        assert row["upload_ratio"] == row["bytes"]["upload"] / 200
        sent = sum(row["bytes"][channel] for channel in ("upload", "p2p", "unmask"))
        assert row["sent_ratio"] == sent / 200
        assert row["neighbour_bytes"] == row["bytes"]["p2p"] / row["degree"]
        assert row["verified"] > 0


def test_the_tables_show_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(None, TINY) == 0
    shown = capsys.readouterr().out
    for text in ("Masks", "Update of 101,770 parameters", "Shamir", "Whole round", "aggregator"):
        assert text in shown


def framed(message: Any) -> int:
    return int(message.ByteSize()) + FRAME_BYTES


def test_the_bytes_of_a_seeded_round_are_those_of_its_messages_on_the_wire() -> None:
    """Against the same round played by the network of the tests."""
    n, body = 5, 30
    network = Network(make_ticket(n, body=body))
    network.run()
    ticket = network.ticket
    rounds = [network.rounds[peer] for peer in ticket.cohort]
    figures = play(SEEDED, n, body)

    uploads = sum(
        wire.upload_meta_to_proto(upload.header, upload.announcement).ByteSize()
        + len(upload.vector)
        for upload in network.uploads.values()
    )
    assert figures.sent["upload"] * n == uploads

    empty, least, most = framed(peer_pb2.Empty()), 0, 0
    # That the pair counts is said with the receipts, or in a call of its own.
    more = framed(ready_wire.ready_to_proto(Ready(ticket.digest, counts=True, has=1)))
    more += framed(ready_wire.ready_reply_to_proto(ReadyReply(counts=True)))
    for low, high in combinations(range(n), 2):
        a, b = rounds[low], rounds[high]
        assert isinstance(a, PeerRound)
        assert isinstance(b, PeerRound)
        both = framed(wire.exchange_to_proto(Exchange(a.announcement, dealt(a, high))))
        both += framed(wire.exchange_to_proto(Exchange(b.announcement, dealt(b, low))))
        both += framed(ready_wire.ready_to_proto(Ready(ticket.digest, a._receipts.own)))
        reply = ReadyReply(b._receipts.own)
        counting = replace(reply, counts=True)
        for index in (low, high):
            agreement = Agreement(ticket.digest, bytes(32), index, SIGNATURE, failure_sum=1)
            both += framed(wire.agreement_to_proto(agreement)) + empty
        least += both + framed(ready_wire.ready_reply_to_proto(reply))
        most += both + framed(ready_wire.ready_reply_to_proto(counting)) + more
    assert least <= figures.sent["p2p"] * n <= most
    assert most - least < 0.03 * least

    unmask = unmask_in = 0
    for round_ in rounds:
        assert isinstance(round_, PeerRound)
        answer = round_.answer(network.now)
        assert answer is not None
        # Counted after the exchange: a number of the same length on the wire.
        spent = int(figures.sent["p2p"])
        unmask += framed(peer_pb2.UnmaskReply(answer=wire.answer_to_proto(answer), p2p_bytes=spent))
        survivors = network.aggregator.survivors()
        unmask_in += framed(wire.survivors_to_proto(survivors, ticket))
    assert figures.sent["unmask"] * n == unmask
    assert figures.unmask_in * n == unmask_in


def dealt(round_: PeerRound, index: int) -> Any:
    assert round_._secrets is not None
    return round_._secrets.dealt[index]


def test_the_bytes_of_an_additive_round_are_full_size_shares_in_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smpcfl.net.rpc.CHUNK_BYTES", 100)
    figures = play(ADDITIVE, 5, 80)  # 160 bytes, and 64 of trailer
    digest = bytes(32)
    chunks = [
        peer_pb2.ShareChunk(ticket_digest=digest, data=bytes(100)),
        peer_pb2.ShareChunk(data=bytes(100)),
        peer_pb2.ShareChunk(data=bytes(24)),
    ]
    each = sum(framed(chunk) for chunk in chunks) + framed(peer_pb2.Empty())
    assert figures.sent["p2p"] == 4 * each
    assert figures.sent["unmask"] == figures.unmask_in == 0


def test_the_timed_peer_and_the_aggregator_check_every_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each once, and its own and what comes from its signer over TLS not at all."""
    checked: list[str] = []
    verify = KeyTable.verify

    def recording(self: KeyTable, name: str, message: bytes, signature: bytes) -> bool:
        checked.append(name)
        assert verify(self, name, message, signature)
        return True

    monkeypatch.setattr(KeyTable, "verify", recording)
    figures = play(SEEDED, 5, 20)
    n = 5
    # The peer: ticket, announcements, receipts, survivors, headers. The aggregator: header and
    # announcement of each.
    assert figures.verified == 1 + (n - 1) + (n - 1) + 1 + (n - 1)
    assert len(checked) == figures.verified + 2 * n
    assert checked.count(AGGREGATOR) == 2


@pytest.mark.parametrize(("n", "most_bytes", "most_verified"), [(8, 650, 25), (32, 650, 100)])
def test_what_a_neighbour_costs_hardly_depends_on_how_many_there_are(
    n: int, most_bytes: int, most_verified: int
) -> None:
    """At 100, which takes a while, it is 610 bytes and 299 signatures (benchmarks/README.md)."""
    figures = play(SEEDED, n, 10)
    assert figures.neighbour_bytes <= most_bytes
    assert figures.verified <= most_verified


def test_a_round_with_a_wrong_sum_gives_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    right = AggregatorRound.total
    monkeypatch.setattr(AggregatorRound, "total", lambda self: one_more(right(self)))
    with pytest.raises(RuntimeError, match="not the sum"):
        whole_round(SEEDED, 5, 10, 0.0)


def one_more(vector: Any) -> Any:
    vector.body[0] += 1
    return vector


def test_a_round_is_repeated_for_the_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(suite, "perf_counter", lambda: float(next(clock)))
    assert whole_round(ADDITIVE, 5, 10, 4.0)["runs"] == 4


def test_the_quantiser_is_measured_on_the_digits_model(result: dict[str, Any]) -> None:
    assert {row["parameters"] for row in result["quantiser"]} == {PARAMETERS}
    assert Sizes().parameters == PARAMETERS


@pytest.mark.parametrize("name", ["missing/bench.json", "", "file/bench.json"])
def test_an_unwritable_file_is_an_error_before_the_work(
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(parts, "masks", lambda *_: pytest.fail("it began to measure"))
    assert main(["bench", "--json", str(tmp_path / name)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"smpcfl bench: cannot write {tmp_path / name}" in said.err
    assert "--json" in said.err


@pytest.mark.parametrize("before", [None, "kept"])
def test_an_interrupted_suite_leaves_the_file_as_it_was(
    tmp_path: Path, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bench.json"
    if before is not None:
        file.write_text(before)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parts, "quantiser", interrupt)
    monkeypatch.setattr(suite, "Sizes", lambda: TINY)
    assert main(["bench", "--json", str(file)]) == 130
    assert (file.read_text() if file.exists() else None) == before


@pytest.mark.commands
def test_ctrl_c_ends_it_without_a_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "smpcfl", "bench"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    with process:
        assert process.stdout is not None
        assert "cpu_count" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")


@pytest.mark.commands
def test_it_needs_neither_torch_nor_flower() -> None:
    """The registry's image has no torch."""
    code = "import sys, smpcfl.bench.suite; print(sorted({'torch', 'flwr', 'mlxtend'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "whole rounds in memory" in shown
    assert "--json FILE" in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [("processor : 0\nmodel name\t: Some CPU: fast\n", "Some CPU: fast"), ("model name:\n", None)],
)
def test_the_processor_is_named(tmp_path: Path, text: str, expected: str | None) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert timing.cpu_model(file) == expected or (expected is None and timing.cpu_model(file))
    assert timing.cpu_model(tmp_path / "missing")
