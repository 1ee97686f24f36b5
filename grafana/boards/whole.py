"""Puts the rows together: three boards, with links between them."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from . import cost, durations, look, modes, peer, peers, training, trouble
from .panels import Panel

HOME, MODES, PEER = "smpcfl", "smpcfl-modes", "smpcfl-peer"
TITLES = {HOME: "Secure training", MODES: "Modes compared", PEER: "One peer"}


def home() -> Dashboard:
    """What an operator looks at first."""
    board = _board(HOME, "State, guarantee, cost, time, peers and trouble of a deployment", "15m")
    mode = _variable("mode", "Mode", 'label_values(smpcfl_build_info{job="aggregator"}, mode)')
    everything = VariableOption(text=["All"], value=["$__all"])
    board.with_variable(mode.multi(True).include_all(True).current(everything))
    _row(board, 10, training.STATE, training.state())
    _row(board, 20, training.GUARANTEE, training.guarantee())
    _row(board, 30, cost.TITLE, cost.panels())
    _row(board, 40, durations.TITLE, durations.panels())
    _row(board, 50, peers.TITLE, peers.panels())
    _row(board, 60, trouble.TITLE, trouble.panels())
    _row(board, 70, trouble.GROUPS, trouble.groups(), folded=True)
    _row(board, 80, trouble.CALLS, trouble.calls(), folded=True)
    return board.build()


def compared() -> Dashboard:
    """Runs of one mode after another, with one Prometheus."""
    board = _board(MODES, "Runs of one mode after another, side by side", "1h")
    _row(board, 10, modes.AGAINST, modes.against())
    _row(board, 20, modes.BESIDE, modes.beside())
    return board.build()


def one_peer() -> Dashboard:
    """For the operator of a peer."""
    board = _board(PEER, "What one peer says of itself, for its own operator", "15m")
    board.with_variable(_variable("peer", "Peer", 'label_values(up{job="peer"}, peer)'))
    _row(board, 10, peer.STATE, peer.state())
    _row(board, 20, peer.TRAFFIC, peer.traffic())
    _row(board, 30, peer.TIME, peer.time())
    _row(board, 40, peer.TROUBLE, peer.trouble())
    return board.build()


def _board(uid: str, description: str, minutes: str) -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard(TITLES[uid])
        .uid(uid)
        .description(description)
        .tags(["smpcfl"])
        .readonly()
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("5s")
        .time(f"now-{minutes}", "now")
        .version(1)
        .variables([])
        .annotations([])
    )
    for other, title in TITLES.items():
        if other != uid:
            link = dashboard.DashboardLink(title).type(DashboardLinkType.LINK)
            board.link(link.url(f"/d/{other}").icon("dashboard").keep_time(True))
    return board


def _variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(look.SOURCE)
        .query({"query": query, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def _row(
    board: dashboard.Dashboard, id_: int, title: str, panels: Sequence[Panel], folded: bool = False
) -> None:
    """A row folds with a click; `folded` ones are so from the start, and then hold their panels."""
    row = dashboard.Row(title).id(id_).collapsed(folded)
    if folded:
        for panel in panels:
            row.with_panel(panel)
        board.with_row(row)
        return
    board.with_row(row)
    for panel in panels:
        board.with_panel(panel)
