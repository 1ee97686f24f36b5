"""The report that compares the modes."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from smpcfl.reports import comparison
from support.reported import COMPLETE, GROUPED, three_modes


def test_modes_are_compared_with_normal() -> None:
    names, rows = comparison.comparison(three_modes())
    assert names == ["normal", "additive", "seeded"]
    cells = dict(rows)
    assert cells["final accuracy"] == ["0.920", "0.900 (-0.020)", "0.913 (-0.007)"]
    assert cells["bytes up"] == ["400.0 kB", "204.6 kB (x0.51)", "200.0 kB (x0.50)"]
    assert cells["bytes peer to peer"] == ["0 B", "803.0 kB", "5.9 kB"]
    assert cells["seconds per round"] == ["3.00 s", "6.08 s (x2.03)", "6.08 s (x2.03)"]
    assert cells["complete rounds"] == ["2", "1", "2"]
    assert cells["void rounds"] == ["0", "1", "0"]
    assert cells["dropouts per round"] == ["0.00", "1.50", "0.00"]


def test_without_normal_nothing_is_relative_and_without_rounds_nothing_is_known() -> None:
    _, rows = comparison.comparison({"seeded": [COMPLETE], "additive": []})
    assert not any("(" in cell for _, cells in rows for cell in cells)
    assert dict(rows)["final accuracy"] == ["0.913", "-"]
    assert dict(rows)["bytes up"] == ["204.6 kB", "-"]


def test_the_terminal_table_takes_names_literally() -> None:
    output = StringIO()
    Console(file=output, width=120).print(comparison.table({"[red]seeded": [COMPLETE]}))
    assert "[red]seeded" in output.getvalue()
    assert "204.6 kB" in output.getvalue()


def test_groups_are_counted_over_all_rounds() -> None:
    modes = {"normal": [replace(COMPLETE, mode="normal")], "seeded": [GROUPED, GROUPED]}
    rows = dict(comparison.comparison(modes)[1])
    assert rows["groups complete"] == ["-", "2 of 4"]
    assert "groups complete" not in dict(comparison.comparison(three_modes())[1])


def test_the_answer_is_of_seeded_beside_normal() -> None:
    found = comparison.answer(three_modes())
    assert found is not None
    assert (found.mode, found.plain) == ("seeded", "normal")
    assert found.accuracy == 0.9134
    assert found.given_up == pytest.approx(0.92 - 0.9134)
    assert found.sent == pytest.approx(200e3 + 5_900)
    assert found.sent_ratio == pytest.approx((200e3 + 5_900) / 400e3)
    assert (found.seconds, found.more_seconds) == (6.08, pytest.approx(3.08))


def test_without_a_plain_run_the_update_in_the_clear_is_what_the_run_computed() -> None:
    found = comparison.answer({"seeded": [replace(COMPLETE, plain_bytes=421_000.0)]})
    assert found is not None
    assert found.sent_ratio == pytest.approx((204_600 + 5_900) / 421_000)
    assert (found.plain, found.given_up, found.more_seconds) == ("", None, None)
    unknown = comparison.answer({"seeded": [COMPLETE]})
    assert unknown is not None
    assert unknown.sent_ratio is None


def test_there_is_no_answer_without_a_secure_round() -> None:
    assert comparison.answer({"normal": three_modes()["normal"], "seeded": []}) is None


def test_runs_that_may_not_belong_together_have_no_answer() -> None:
    """Such as two files of another app each: one's secure run beside the other's plain one."""
    seeded = three_modes()["seeded"]
    assert comparison.answer({"seeded (a)": seeded, "seeded (b)": seeded}) is None


def test_final_values_are_of_complete_rounds_and_seconds_are_medians() -> None:
    late = replace(COMPLETE, outcome="void", accuracy=0.1)
    records = [replace(COMPLETE, seconds=n, plain_bytes=n) for n in (1.0, 2.0, 9.0)]
    assert comparison.final([COMPLETE, late], "accuracy") == 0.9134
    found = comparison.answer({"seeded": records})
    assert found is not None
    assert found.seconds == 2.0
    assert found.sent_ratio == pytest.approx((204_600 + 5_900) / 9)


def test_a_secure_run_in_which_no_round_began_is_no_plain_one() -> None:
    never = replace(COMPLETE, outcome="void", withstood=None)
    assert comparison.who_learns_what([never]) == "no round began"
    assert "1 of" not in comparison.who_learns_what([never])
    assert "learn the sum only" in comparison.who_learns_what([COMPLETE, never])


def test_the_table_of_three_modes_fits_80_columns() -> None:
    output = StringIO()
    Console(file=output, width=80).print(comparison.table(three_modes()))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "204.6 kB (x0.51)" in output.getvalue()
