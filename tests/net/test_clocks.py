"""How far a clock is off, and that it is said once."""

from __future__ import annotations

import datetime
from email.utils import format_datetime

import pytest

from smpcfl.net.clocks import ClockWatch, difference, of_date

NOW = 1_800_000_000.0


def test_half_of_the_round_trip_is_the_doubt() -> None:
    off = difference(NOW - 7.0, NOW, NOW + 4.0)
    assert (off.off_s, off.unsure_s) == (9.0, 2.0)
    assert off.exceeds(6.9)
    assert not off.exceeds(7.0)
    assert str(off) == "9.0 s ahead"
    assert str(difference(NOW + 7.0, NOW, NOW)) == "7.0 s behind"
    assert difference(NOW, NOW, NOW - 60.0).unsure_s == 0.0, "a clock that was set in between"


def test_a_date_of_http_is_in_whole_seconds() -> None:
    date = format_datetime(datetime.datetime.fromtimestamp(NOW, datetime.UTC), usegmt=True)
    off = of_date(date, NOW + 0.5, NOW + 0.5)
    assert off is not None
    assert (off.off_s, off.unsure_s) == (0.0, 0.5)
    assert of_date("", NOW, NOW) is None
    assert of_date("tomorrow", NOW, NOW) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_a_wrong_clock_is_said_once_and_again_when_it_is_worse_or_has_been_right(
    caplog: pytest.LogCaptureFixture, sign: int
) -> None:
    watch = ClockWatch("the registry at r:9200")

    def said(off_s: float) -> list[str]:
        caplog.clear()
        watch.compare(int((NOW - sign * off_s) * 1000), NOW, NOW)
        return [record.levelname for record in caplog.records]

    assert said(4.0) == []
    assert said(6.0) == ["WARNING"]
    assert said(7.0) == []
    assert said(121.0) == ["ERROR"]
    word = "ahead" if sign == 1 else "behind"
    assert (
        f"this clock is 121.0 s {word}, compared to that of the registry at r:9200" in caplog.text
    )
    assert "run NTP" in caplog.text
    assert said(300.0) == []
    assert said(0.0) == []
    assert said(121.0) == ["ERROR"]


def test_who_does_not_tell_its_clock_is_not_compared(caplog: pytest.LogCaptureFixture) -> None:
    ClockWatch("the registry").compare(0, NOW)
    assert not caplog.records
