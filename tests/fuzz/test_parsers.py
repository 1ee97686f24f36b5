"""Every parser takes any bytes: it returns, or raises one of the two declared families of errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.supercore.task_identity import TaskIdentity

from . import files, messages
from .budget import SERVICES, TOTAL, Target, fuzz
from .recorded import corpus, found_before, recorded


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A line for each bad input is not what is tested."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _with_what_was_found(targets: list[Target]) -> list[Target]:
    known = found_before()
    assert known.keys() <= {target.name for target in targets}
    return [
        Target(t.name, t.share, t.run, [*t.seeds, *known.get(t.name, [])], t.fields)
        for t in targets
    ]


@pytest.mark.sockets
@pytest.mark.timeout(900)  # with FUZZ=1000000, on a slow machine
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, about types that it read
async def test_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    targets = _with_what_was_found([*messages.targets(), *files.targets(tmp_path)])
    assert sum(target.share for target in targets) + SERVICES >= 1000
    assert sum(fuzz(target) for target in targets) >= TOTAL * (1 - SERVICES / 1000)


def test_the_corpus_is_that_of_a_round() -> None:
    assert corpus() == dict(sorted(recorded().items()))
