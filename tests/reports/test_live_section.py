"""What the live page shows of a run that goes on."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from smpcfl.reports.live_section import live_sections
from smpcfl.reports.snapshot import LivePeer, Snapshot
from support.reported import COMPLETE

NAMES = tuple(f"peer-{n}" for n in range(4))
NOW = Snapshot(
    mode="seeded",
    rounds=5,
    round=2,
    phase="upload",
    since=10.0,
    replies=3,
    cohort=NAMES,
    here=4,
    peers=tuple(LivePeer(name=name, via="registry", flower_out=2_000) for name in NAMES),
    flows=(("peer-0", "peer-1", 300), ("peer-1", "peer-0", 200), ("peer-1", "peer-2", 100)),
    records=(COMPLETE,),
)


def live(now: Snapshot, before: Snapshot | None = None) -> str:
    return live_sections({now.mode: now}, {now.mode: before or now}, "a note")["live"]


def test_the_phase_is_marked_with_those_that_are_over() -> None:
    html = live(NOW)
    assert '<li class="done">exchange and train</li>' in html
    assert '<li class="now" aria-current="step">upload 3/4 <time data-since="10.0">' in html
    assert "<li>agree and unmask</li>" in html
    for mode in ("normal", "additive"):
        assert "unmask" not in re.findall(r"<ol.*?</ol>", live(replace(NOW, mode=mode)))[0]


def test_an_arrow_is_what_both_sent_and_moves_when_it_grows() -> None:
    before = replace(NOW, flows=(("peer-0", "peer-1", 300), ("peer-1", "peer-2", 100)))
    html = live(NOW, before)
    lines = dict(re.findall(r'<line class="([^"]*)"[^>]*><title>([^<]*)</title>', html)[::-1])
    found = {
        hint: kind for kind, hint in re.findall(r'class="([^"]*)" x1[^>]*><title>([^<]*)<', html)
    }
    assert lines
    assert found["peer-0 and peer-1: 500 B"] == "flow p2p moves"
    assert found["peer-1 and peer-2: 100 B"] == "flow p2p"
    assert found["peer-3 to the aggregator: 2.0 kB"] == "flow up"
    assert len(found) == 2 + 4


def test_the_numbers_of_all_arrows_stand_in_a_table() -> None:
    html = live(NOW)
    for sender, receiver, size in (("peer-0", "peer-1", "300 B"), ("peer-1", "peer-2", "100 B")):
        assert f'<th scope="row">{sender} to {receiver}</th><td>{size}</td>' in html


def test_survivors_and_lost_peers_are_told_apart_once_they_are_known() -> None:
    html = live(replace(NOW, phase="unmask", survivors=NAMES[:3]))
    assert html.count('class="peer survivor"') == 3
    assert html.count('class="peer lost"') == 1
    assert "lost" not in live(NOW)


def test_names_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    peer = LivePeer(name=evil, via=evil)
    html = live(replace(NOW, peers=(peer,), cohort=(evil,), said=evil, phase=""))
    assert "<script>" not in html
    assert "<script>" not in live_sections({}, {}, evil)["live"]
    assert "<script>" not in live_sections({"seeded": NOW}, {}, evil)["live"]


@pytest.mark.parametrize("count", [0, 1, 2, 32, 33, 1000])
def test_any_number_of_peers_can_be_shown(count: int) -> None:
    peers = tuple(LivePeer(name=f"p{n}", via="registry") for n in range(count))
    html = live(replace(NOW, here=count, peers=peers, flows=(), phase="train", replies=0))
    assert html.count('<circle class="peer') == min(count, 32)
    assert ("more peers" in html) == (count > 32)


def test_a_page_begins_before_anything_is_known_and_has_the_report_of_all_runs() -> None:
    assert "a note" in live_sections({}, {}, "a note")["live"]
    normal = replace(NOW, mode="normal", records=(replace(COMPLETE, mode="normal"),))
    found = live_sections({"seeded": NOW, "normal": normal}, {}, "")
    assert "normal, round 2 of 5" in found["live"]
    assert list(found)[:2] == ["live", "answer"]
    assert "seeded" in found["answer"]
