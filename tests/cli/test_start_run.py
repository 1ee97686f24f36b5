"""`smpcfl run`: what it asks of the bundled app and of somebody's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from smpcfl.base.config import Settings
from smpcfl.base.state import State
from smpcfl.cli import start_run
from smpcfl.cli.app_config import app_config
from smpcfl.cli.main import main
from smpcfl.protocol.errors import LocalError
from smpcfl.runs import current_run
from smpcfl.runs.current_run import COMPLETED, STOPPED, CurrentRun
from support.fake_runs import FakeRuns, a_record


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
    first = {"mode": "seeded", "rounds": 4, "seed": 1}
    path = State(tmp_path).current_run
    current_run.save(path, CurrentRun("app", {}, 1, "9", COMPLETED, first=first))

    async def submit(runs: Any, settings: Any, wanted: CurrentRun) -> None:
        assert config.items() <= wanted.config.items()
        assert wanted.first == first, "kept, so that the next start makes no other first run"
        current_run.save(path, CurrentRun(wanted.app, wanted.config, wanted.run, "10", COMPLETED))
        record = a_record(run=wanted.run, round=1)
        State(tmp_path).records.write_text(record.to_json() + "\n")

    monkeypatch.setattr(start_run, "at_the_aggregator", lambda settings: FakeRuns())
    monkeypatch.setattr(start_run, "_submit", submit)
    assert main(["run", "--state", str(tmp_path), *arguments]) == 0


@pytest.mark.parametrize(("done", "takes_it"), [(4, True), (3, False)])
async def test_a_run_after_its_last_round_is_waited_for(
    done: int, takes_it: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = State(tmp_path).current_run
    going = CurrentRun("app", {"num-rounds": 4}, 1, "9")
    current_run.save(path, going)
    records = [a_record(run=1, round=number + 1) for number in range(done)]
    State(tmp_path).records.write_text("".join(item.to_json() + "\n" for item in records))

    async def asleep(_: float) -> None:
        current_run.save(path, replace(going, ended=COMPLETED))

    monkeypatch.setattr("smpcfl.cli.start_run.asyncio.sleep", asleep)
    last = start_run._last_one(cast(Any, FakeRuns()), Settings(state=tmp_path))
    if takes_it:
        assert await last == replace(going, ended=COMPLETED)
    else:
        told = r"run 1 is still going \(3 of 4 rounds\), .* end it with `smpcfl stop`"
        with pytest.raises(LocalError, match=told):
            await last


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "mine").mkdir(parents=True)
    project = (
        "[project]\nname = 'mine'\nversion = '1.0.0'\n[tool.flwr.app]\npublisher = 'me'\n"
        "[tool.flwr.app.components]\nserverapp = 'mine.app:s'\nclientapp = 'mine.app:c'\n"
        "[tool.flwr.app.config]\nnum-server-rounds = 3\n"
    )
    (folder / "pyproject.toml").write_text(project)
    (folder / "mine" / "__init__.py").touch()
    (folder / "mine" / "app.py").touch()
    return folder


def started(tmp_path: Path, fake: FakeRuns, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    monkeypatch.setattr(start_run, "at_the_aggregator", lambda settings: fake)
    monkeypatch.setattr("smpcfl.cli.list_runs.at_the_aggregator", lambda settings: fake)
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    return start_run.Started(Settings(state=state), options.get("ask"))


async def test_a_changed_app_says_which_file_changed(
    mine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = []
    for text in ("", "", "x = 1\n"):
        (mine / "mine" / "app.py").write_text(text)
        (mine / "results.json").write_text("{}")
        fake = FakeRuns()
        fake.prints["100"] = ""
        fake.steps = [lambda fake=fake: fake.becomes("100", "finished:completed")]  # type: ignore[misc]
        with pytest.raises(LocalError, match="the app ended without a round"):
            await started(tmp_path, fake, monkeypatch).run(None, None, mine)
        shown.append(capsys.readouterr().out.splitlines())
    left_out = "not part of the app, because outside of its packages: results.json"
    assert shown[0] == shown[1]
    assert shown[0][1].startswith(left_out)
    assert shown[2][1:3] == ["since its last run here: mine/app.py changed", shown[0][1]]
    assert shown[2][0] != shown[0][0]


async def test_the_rounds_that_an_app_declares_are_the_runs(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRuns()
    fake.prints["100"] = ""
    fake.steps = [lambda: fake.becomes("100", "finished:stopped")]
    with pytest.raises(LocalError, match="was stopped after 0 of 3 rounds"):
        await started(tmp_path, fake, monkeypatch).run(None, None, mine)


@pytest.mark.parametrize(
    ("answer", "stopped"), [("y", True), ("YES", True), ("", False), ("n", False), (None, False)]
)
async def test_ctrl_c_offers_to_stop_the_run(
    answer: str | None,
    stopped: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake, asked = FakeRuns(), []

    def ask(question: str) -> str:
        asked.append(question)
        return answer or ""

    own = started(tmp_path, fake, monkeypatch, ask=None if answer is None else ask)
    own.wanted, own.submitted = CurrentRun("app", {}, 5), True
    fake.add("100")
    current_run.save(State(tmp_path / "state").current_run, CurrentRun("app", {}, 5, "100"))
    assert await own.interrupted() == 130
    assert fake.log == ([("stop", "100")] if stopped else [])
    assert asked == ([] if answer is None else ["\nstop run 5? [y/N] "])
    if not stopped:
        assert "run 5 goes on: " in (shown := capsys.readouterr().err)
        assert "`smpcfl stop` stops it" in shown


async def test_ctrl_c_while_it_is_being_submitted_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRuns()
    own = started(tmp_path, fake, monkeypatch)

    async def start(app: Path, config: Any) -> str:
        fake.add("100")
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "start", start)
    with pytest.raises(KeyboardInterrupt):
        await own.run(None, None, None)
    assert await own.interrupted() == 130
    assert fake.log == [("stop", "100")]
    kept = current_run.load(State(tmp_path / "state").current_run)
    assert kept is not None
    assert kept.ended == STOPPED


async def test_ctrl_c_before_that_touches_no_run_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRuns()
    fake.add("7")
    assert await started(tmp_path, fake, monkeypatch).interrupted() == 130
    assert fake.log == []
