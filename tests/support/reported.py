"""Records of rounds as reports show them: complete, void, and cut into groups; two rounds of each mode."""

from __future__ import annotations

from dataclasses import replace

from smpcfl.reports.record import GroupRecord, RoundRecord
from support.fake_runs import a_record

COMPLETE = a_record(
    run=7,
    round=3,
    cohort=8,
    survivors=8,
    contributors=8,
    withstood=2,
    accuracy=0.9134,
    loss=0.3012,
    train_loss=0.25,
    bytes_up=204_600.0,
    bytes_down=409_000.0,
    bytes_p2p=5_900.0,
    seconds=6.08,
    phase_seconds={"exchange": 1.5, "upload": 3.0},
)
VOID = replace(COMPLETE, round=4, outcome="void", reason="too few answers", survivors=5, dropouts=3)

GROUP = GroupRecord(group=2, outcome="void", reason="too few", cohort=5, survivors=0)
GROUPED = replace(
    COMPLETE,
    draw=7,
    groups=(replace(GROUP, group=1, outcome="complete", reason="", survivors=5), GROUP),
    suspected={"peer-a": ((1, 2), (1, 3))},
)


def three_modes() -> dict[str, list[RoundRecord]]:
    """Two rounds of each mode; the second additive one is void and was not evaluated."""
    normal = replace(COMPLETE, mode="normal", accuracy=0.92, bytes_up=400e3, bytes_p2p=0.0)
    additive = replace(COMPLETE, mode="additive", bytes_p2p=1.6e6, accuracy=0.9)
    return {
        "normal": [replace(normal, round=1, accuracy=0.8, seconds=2.0), replace(normal, seconds=4)],
        "additive": [additive, replace(VOID, mode="additive", accuracy=None, loss=float("nan"))],
        "seeded": [replace(COMPLETE, bytes_up=100e3), replace(COMPLETE, bytes_up=300e3)],
    }
