"""What the live page has more than a report: peers, the phase, and who sends what to whom."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from ..protocol.ticket import MODES
from .charts import key, styles, table
from .report import Report
from .report_page import sections
from .snapshot import PHASES, LivePeer, Snapshot
from .units import byte_size

_DRAWN = 32  # peers: beyond that the arrows are a tangle, and the table has them
_SIZE, _CENTRE, _RADIUS = 420, 210.0, 165.0
_STEPS = {
    "train": "exchange and train",
    "upload": "upload",
    "unmask": "agree and unmask",
    "sum": "sum",
    "evaluate": "evaluate",
}
_IN_THE_CLEAR = {"train": "train", "upload": "upload", "evaluate": "evaluate"}


def live_sections(
    snapshots: Mapping[str, Snapshot], before: Mapping[str, Snapshot], note: str
) -> dict[str, str]:
    """All sections of the live page: of the run that goes on, the last one, and of all so far.

    `before`: a moment ago, to see what moves. `note`: a line below the heading.
    """
    found = {"live": f"<h2>Live</h2><p>{escape(note)}</p>"}
    if snapshots:
        name, snapshot = list(snapshots.items())[-1]
        found["live"] = _live(name, snapshot, before.get(name), note)
    report = Report({name: list(one.records) for name, one in snapshots.items() if one.records})
    return {**found, **sections(report)}


def _live(name: str, now: Snapshot, before: Snapshot | None, note: str) -> str:
    style = styles({name: now.records})[name]
    rounds = f" of {now.rounds}" if now.rounds else ""
    where = f"round {now.round}{rounds}" if now.round else "no round yet"
    said = f'<p class="soft">{escape(now.said)}</p>' if now.said and not now.phase else ""
    return f"""<h2>Live: {key(style)}{escape(name)}, {where}</h2>
<p>{escape(note)}</p>
{_phases(now)}{said}
<div class="live">{_graph(now, before)}<div>{_peers(now)}</div></div>
{_flows(now)}"""


def _phases(now: Snapshot) -> str:
    recovers, secure = MODES[now.mode].recovers, MODES[now.mode].secure
    steps = {
        phase: title
        for phase, title in (_STEPS if secure else _IN_THE_CLEAR).items()
        if recovers or phase != "unmask"
    }
    passed = PHASES.index(now.phase) if now.phase in PHASES else -1
    items = []
    for phase, title in steps.items():
        place = PHASES.index(phase)
        shown = title
        if phase == "upload" and now.replies:
            shown += f" {now.replies}/{len(now.cohort) or now.here}"
        if phase == now.phase:
            clock = f'<time data-since="{now.since:.1f}"></time>'
            items.append(f'<li class="now" aria-current="step">{shown} {clock}</li>')
        else:
            kind = ' class="done"' if place < passed else ""
            items.append(f"<li{kind}>{shown}</li>")
    return f'<ol class="phases" aria-label="phases of the round">{"".join(items)}</ol>'


def _graph(now: Snapshot, before: Snapshot | None) -> str:
    """Peers in a circle around the aggregator; as thick as what went that way."""
    peers = now.peers[:_DRAWN]
    if not peers:
        return "<figure><p>No peer is there yet.</p></figure>"
    places = {peer.name: _place(number, len(peers)) for number, peer in enumerate(peers)}
    earlier = {(a, b): n for a, b, n in before.flows} if before else {}
    was = {peer.name: peer for peer in before.peers} if before else {}
    lines = []
    for (a, b), count in _pairs(now.flows).items():
        if a in places and b in places:
            moves = count > earlier.get((a, b), 0) + earlier.get((b, a), 0)
            hint = f"{a} and {b}: {byte_size(count)}"
            lines.append(_line(places[a], places[b], "p2p", count, hint, moves=moves))
    for peer in peers:
        old = was.get(peer.name)
        up = peer.flower_out + peer.unmask_out
        moves = old is not None and up > old.flower_out + old.unmask_out
        hint = f"{peer.name} to the aggregator: {byte_size(up)}"
        middle = (_CENTRE, _CENTRE)
        lines.append(_line(places[peer.name], middle, "up", up, hint, moves=moves))
    dots = "".join(_dot(peer, places[peer.name], now) for peer in peers)
    more = now.here - len(peers)
    note = f'<p class="soft">and {more} more peers</p>' if more else ""
    return f"""<figure><svg class="graph" viewBox="0 0 {_SIZE} {_SIZE}" role="img"
 aria-labelledby="graph-t"><title id="graph-t">{now.here} peers around the aggregator: what went from
 peer to peer, and from each to the aggregator; the table below has the numbers</title>
{"".join(lines)}<circle class="hub" cx="{_CENTRE}" cy="{_CENTRE}" r="26"/>
<text class="hub-name" x="{_CENTRE}" y="{_CENTRE + 4}" text-anchor="middle">sum</text>{dots}</svg>
{note}</figure>"""


def _place(number: int, count: int) -> tuple[float, float]:
    angle = 2 * math.pi * number / count - math.pi / 2
    return _CENTRE + _RADIUS * math.cos(angle), _CENTRE + _RADIUS * math.sin(angle)


def _pairs(flows: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str], int]:
    """Both directions together."""
    found: dict[tuple[str, str], int] = {}
    for sender, receiver, count in flows:
        pair = (sender, receiver) if sender < receiver else (receiver, sender)
        found[pair] = found.get(pair, 0) + count
    return found


def _line(
    start: tuple[float, float],
    end: tuple[float, float],
    kind: str,
    count: int,
    hint: str,
    *,
    moves: bool,
) -> str:
    if not count:
        return ""
    width = 0.5 + 0.6 * math.log10(1 + count)
    state = " moves" if moves else ""
    return (
        f'<line class="flow {kind}{state}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}"'
        f' y2="{end[1]:.1f}" stroke-width="{width:.1f}"><title>{escape(hint)}</title></line>'
    )


def _dot(peer: LivePeer, place: tuple[float, float], now: Snapshot) -> str:
    kind = "peer"
    if now.survivors and now.phase in ("unmask", "sum"):
        kind = "peer survivor" if peer.name in now.survivors else "peer lost"
    elif now.cohort and peer.name not in now.cohort:
        kind = "peer out"
    x, y = place
    below = 26 if y > _CENTRE else -17
    shown = peer.name if len(peer.name) <= 12 else peer.name[:11] + "…"
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="11"><title>{escape(peer.name)}, found by'
        f' {escape(peer.via)}</title></circle><text x="{x:.1f}" y="{y + below:.1f}" text-anchor="middle">'
        f"{escape(shown)}</text>"
    )


def _peers(now: Snapshot) -> str:
    to_peers: Counter[str] = Counter()
    for sender, _, count in now.flows:
        to_peers[sender] += count
    rows = [
        (
            peer.name,
            [
                peer.via,
                byte_size(peer.flower_out),
                byte_size(peer.flower_in),
                byte_size(to_peers[peer.name]),
                byte_size(peer.unmask_out),
            ],
        )
        for peer in now.peers
    ]
    if not rows:
        return ""
    head = ["peer", "found by", "up", "down", "to peers", "unmask"]
    return (
        table("peers", head, rows)
        + '<p class="soft">Bytes of messages, as each peer’s agent counted them'
        " since it started.</p>"
    )


def _flows(now: Snapshot) -> str:
    if not now.flows:
        return ""
    rows = [
        (f"{sender} to {receiver}", [byte_size(count)]) for sender, receiver, count in now.flows
    ]
    shown = table("bytes from peer to peer", ["from and to", "bytes"], rows)
    return f"<details><summary>Data: from peer to peer</summary>{shown}</details>"
