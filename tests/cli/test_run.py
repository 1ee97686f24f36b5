"""`smpcfl run`: what it asks of the bundled app and of somebody's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from smpcfl.aggregator import current_run
from smpcfl.aggregator.current_run import COMPLETED, Training
from smpcfl.base.config import Settings
from smpcfl.base.state import State
from smpcfl.cli import run
from smpcfl.cli.app_config import app_config
from smpcfl.cli.main import main
from smpcfl.protocol.errors import LocalError
from smpcfl.reports.report import RoundRecord


def a_record(**members: Any) -> RoundRecord:
    given = {
        "mode": "seeded",
        "outcome": "complete",
        "cohort": 5,
        "survivors": 5,
        "dropouts": 0,
        "accuracy": None,
        "loss": None,
        "train_loss": None,
        "bytes_up": 0.0,
        "bytes_down": 0.0,
        "bytes_p2p": 0.0,
        "seconds": 1.0,
        "phase_seconds": {},
    }
    return RoundRecord(**given, **members)


def an_app(folder: Path, config: str) -> Path:
    (folder / "pyproject.toml").write_text(f"[tool.flwr.app]\npublisher = 'x'\n{config}")
    return folder


@pytest.mark.parametrize("key", ["num-rounds", "num-server-rounds"])
def test_rounds_and_seed_go_to_the_keys_that_the_app_declares(key: str, tmp_path: Path) -> None:
    app = an_app(tmp_path, f"[tool.flwr.app.config]\n{key} = 3\nseed = 0\n")
    assert app_config(app, 7, 2) == {key: 7, "seed": 2}
    assert app_config(app, None, None) == {}


@pytest.mark.parametrize(
    ("config", "number", "seed", "text"),
    [
        ("", 7, None, "--rounds 7: the app does not declare num-rounds or num-server-rounds in"),
        (
            "[tool.flwr.app.config]\nnum-rounds = 3\n",
            7,
            2,
            "--seed 2: the app does not declare seed",
        ),
    ],
)
def test_what_the_app_does_not_declare_is_refused(
    config: str, number: int, seed: int | None, text: str, tmp_path: Path
) -> None:
    app = an_app(tmp_path, config)
    with pytest.raises(LocalError) as caught:
        app_config(app, number, seed)
    assert text in str(caught.value)


def test_a_folder_without_an_app_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=f"{tmp_path} is no Flower app"):
        app_config(tmp_path, None, None)


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        ([], {"num-rounds": 5}),
        (["--rounds", "2", "--seed", "8"], {"num-rounds": 2, "seed": 8}),
    ],
)
def test_the_bundled_app_is_told(
    arguments: list[str],
    config: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    State(tmp_path).superlink.touch()
    first = {"mode": "seeded", "rounds": 4, "seed": 1}
    path = State(tmp_path).training
    current_run.save(path, Training("app", {}, 1, "9", COMPLETED, first=first))

    class Idle:
        def __init__(self, *_: Any) -> None: ...

        async def active(self) -> list[str]:
            return []

    async def submit(runs: Any, settings: Any, wanted: Training) -> None:
        assert config.items() <= wanted.config.items()
        assert wanted.first == first, "kept, so that the next start makes no other first run"
        current_run.save(path, Training(wanted.app, wanted.config, wanted.run, "10", COMPLETED))

    monkeypatch.setattr(run, "Runs", Idle)
    monkeypatch.setattr(run, "_submit", submit)
    assert main(["run", "--state", str(tmp_path), *arguments]) == 0


@pytest.mark.parametrize(("done", "takes_it"), [(4, True), (3, False)])
async def test_a_run_after_its_last_round_is_waited_for(
    done: int, takes_it: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = State(tmp_path).training
    going = Training("app", {"num-rounds": 4}, 1, "9")
    current_run.save(path, going)
    State(tmp_path).records.write_text(a_record(run=1, round=done).to_json() + "\n")

    async def asleep(_: float) -> None:
        current_run.save(path, replace(going, ended=COMPLETED))

    class Idle:
        async def active(self) -> list[str]:
            return []

    monkeypatch.setattr("smpcfl.cli.run.asyncio.sleep", asleep)
    last = run._last_one(cast(Any, Idle()), Settings(state=tmp_path))
    if takes_it:
        assert await last == replace(going, ended=COMPLETED)
    else:
        with pytest.raises(LocalError, match="run 1 is still going"):
            await last
