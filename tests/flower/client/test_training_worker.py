"""Training in a worker: whatever it raises, what is said of it has one form and a bounded length."""

from __future__ import annotations

import threading

import pytest

from smpcfl.flower.client.training_worker import in_worker


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("of what it quotes")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 5_000_000),
        ValueError("caf\udce9.csv"),
        Unspeakable(),
        SystemExit(3),
        KeyboardInterrupt(),
    ],
    ids=["long", "surrogate", "unspeakable", "exit", "interrupt"],
)
def test_whatever_is_raised_becomes_a_short_text(error: BaseException) -> None:
    def work() -> None:
        raise error

    done, text = in_worker(work, 60.0)
    assert done is None
    assert text.startswith(type(error).__name__)
    assert len(text) <= 300 * len("\\udce9")
    assert text.encode("ascii")


def test_where_it_was_raised_is_in_this_peers_own_log(capsys: pytest.CaptureFixture[str]) -> None:
    def train() -> None:
        raise ValueError("a column is missing")

    in_worker(train, 60.0)
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):")
    assert ", in train\n" in shown
    assert shown.rstrip().endswith("ValueError: a column is missing")


def test_what_is_returned_comes_back_without_a_text() -> None:
    assert in_worker(lambda: 7, 60.0) == (7, "")


def test_what_does_not_end_is_left_behind() -> None:
    end = threading.Event()
    assert in_worker(end.wait, 0.0) == (None, "it outlasted the ticket's training deadline")
    end.set()
