"""The record of a round, and its log line."""

import json
from dataclasses import asdict, replace

import pytest

from smpcfl.reports.record import RoundRecord, group_lines, line
from support.reported import COMPLETE, GROUP, GROUPED, VOID


def with_member(**members: object) -> str:
    return json.dumps(json.loads(COMPLETE.to_json()) | members)


def test_a_record_survives_its_line_of_json() -> None:
    for record in (
        COMPLETE,
        VOID,
        GROUPED,
        replace(COMPLETE, accuracy=None, loss=None, train_loss=None),
    ):
        text = record.to_json()
        assert "\n" not in text
        assert RoundRecord.from_json(text) == record


def test_a_model_that_diverged_is_still_recorded() -> None:
    diverged = replace(COMPLETE, loss=float("nan"), train_loss=float("inf"))
    assert RoundRecord.from_json(diverged.to_json()) == replace(
        COMPLETE, loss=None, train_loss=None
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run", "7"),
        ("round", 3.0),
        ("round", True),
        ("mode", None),
        ("outcome", "lost"),
        ("reason", 5),
        ("survivors", -1),
        ("contributors", -1),
        ("withstood", "2"),
        ("accuracy", "0.9"),
        ("loss", False),
        ("bytes_up", None),
        ("bytes_p2p", -1.0),
        ("seconds", 10**400),
        ("phase_seconds", [1.0]),
        ("phase_seconds", {"upload": "1"}),
        ("draw", -1),
        ("groups", {}),
        ("groups", [[]]),
        ("groups", [{"group": 1}]),
        ("groups", [{**asdict(GROUP), "outcome": "lost"}]),
        ("groups", [{**asdict(GROUP), "peers": 3}]),
        ("suspected", []),
        ("suspected", {"peer-a": 3}),
        ("suspected", {"peer-a": [3]}),
        ("suspected", {"peer-a": [[1, -2]]}),
        ("peers", 8),
    ],
)
def test_a_wrong_member_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"'{key}'"):
        RoundRecord.from_json(with_member(**{key: value}))


def test_a_missing_member_is_named_and_only_what_has_a_default_may_be_left_out() -> None:
    defaults = {
        "reason": "",
        "contributors": 0,
        "withstood": None,
        "draw": 0,
        "groups": (),
        "suspected": {},
        "unmask_up": 0.0,
        "unmask_down": 0.0,
        "plain_bytes": 0.0,
        "flower_seconds": None,
        "lost": {},
    }
    members = json.loads(COMPLETE.to_json())
    for key in members:
        text = json.dumps({name: value for name, value in members.items() if name != key})
        if key in defaults:
            assert RoundRecord.from_json(text) == replace(COMPLETE, **{key: defaults[key]})
        else:
            with pytest.raises(ValueError, match=rf"missing key '{key}'"):
                RoundRecord.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_what_is_not_a_record_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the wording of the json module varies
        RoundRecord.from_json(text)


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN"])
def test_a_number_that_is_not_finite_is_named(number: str) -> None:
    with pytest.raises(ValueError, match="'loss'"):
        RoundRecord.from_json(COMPLETE.to_json().replace("0.3012", number))


def test_the_log_line_of_a_round() -> None:
    assert line(COMPLETE, 10) == (
        "round  3/10  seeded    survivors 8/8  accuracy 0.913  sent 210.5 kB  6.1 s"
    )
    assert "survivors 8/8  training failed on 1  acc" in line(replace(COMPLETE, contributors=7))
    assert line(VOID).startswith("round 4  seeded    void: too few answers  survivors 5/8")
    assert "accuracy -" in line(replace(COMPLETE, accuracy=None, loss=None))


def test_a_reason_cannot_break_the_log() -> None:
    text = line(replace(VOID, reason="peer said:\r\n\x1b[2Jround 5\u2028ok"))
    assert text.isprintable()
    assert "void: peer said: [2Jround 5 ok  " in text


def test_the_line_says_how_many_groups_completed_and_whether_anybody_is_suspected() -> None:
    text = line(GROUPED)
    assert "groups 1/2" in text
    assert "suspected 1" in text
    assert "groups" not in line(COMPLETE)
    assert "suspected" not in line(COMPLETE)


def test_void_groups_and_suspects_have_a_line_each() -> None:
    assert group_lines(GROUPED) == [
        "draw 7, group 2: void: too few  survivors 0/5",
        "suspected: peer-a, its groups ended void while others completed: 2 of run 1, 3 of run 1",
    ]
    assert group_lines(COMPLETE) == []
    (text,) = group_lines(replace(COMPLETE, groups=(replace(GROUP, reason="\x1b[2Ja\nb"),)))
    assert text.isprintable()


def test_a_line_fits_a_terminal_and_has_the_loss_where_there_is_no_accuracy() -> None:
    wide = replace(
        COMPLETE, mode="additive", cohort=100, survivors=100, contributors=100, seconds=1000.0
    )
    assert len(line(replace(wide, round=50), 50)) <= 80
    assert "  loss 0.301  " in line(replace(COMPLETE, accuracy=None))
    assert "  accuracy -  " in line(replace(COMPLETE, accuracy=None, loss=None))
