"""`smpcfl simulate`: what is refused before anything starts, and what is left of a run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from smpcfl.cli import simulate as simulate_module
from smpcfl.cli.main import main
from smpcfl.cli.options import parser_of_all
from support.own_app import written

RECORD = {
    "run": 1,
    "round": 1,
    "mode": "seeded",
    "outcome": "complete",
    "cohort": 4,
    "survivors": 3,
    "dropouts": 1,
    "accuracy": None,
    "loss": 0.5,
    "train_loss": None,
    "bytes_up": 1.0,
    "bytes_down": 1.0,
    "bytes_p2p": 1.0,
    "seconds": 1.0,
    "phase_seconds": {},
}
COSTS = {"peers": 3, "p2p_bytes": 2000.0, "p2p_bytes_most": 3000, "signed": 4.0, "verified": 12.0}
SAYS = "a simulation: no TLS, all peers in one process; it keeps nothing secret"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In place of the real one: a process that runs these lines."""
    lines = [
        "import json, os, pathlib, sys",
        "folder = pathlib.Path(os.environ['SMPCFL_SIMULATION'])",
    ]
    start = simulate_module.subprocess.Popen

    def started(command: list[str], **named: object) -> object:
        return start([sys.executable, "-c", "\n".join(lines), *command[3:]], **named)

    monkeypatch.setattr(simulate_module.subprocess, "Popen", started)
    monkeypatch.setattr(simulate_module, "find_spec", lambda name: object())
    return lines


def simulated(folder: Path, *options: str) -> int:
    app = ("--app", str(written(folder / "app")))
    return main(["simulate", *app, "--report", str(folder / "report"), "--peers", "4", *options])


def test_without_ray_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulate_module, "find_spec", lambda name: None)
    assert simulated(tmp_path) == 1
    assert "pip install 'smpcfl[simulation]'" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("share", ["1", "-0.1", "ten"])
def test_a_share_that_is_none_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["simulate", "--lost", share])
    assert raised.value.code == 2
    assert f"'{share}' is no share from 0 to less than 1, such as 0.1" in capsys.readouterr().err


def test_a_thousand_peers_are_the_default() -> None:
    options = parser_of_all().parse_args(["simulate"])
    assert (options.peers, options.lost, options.mode) == (1000, 0.0, "seeded")


def test_no_app_is_refused_before_anything_starts(
    tmp_path: Path, engine: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--app", str(tmp_path)]) == 1
    assert "is no Flower app" in capsys.readouterr().err


@pytest.mark.commands
def test_a_run_leaves_a_report_and_what_the_app_saved(
    tmp_path: Path, engine: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = json.dumps({"record": RECORD, "costs": {**COSTS, "lost": {"before its upload": 1}}})
    engine += [
        f"print({SAYS!r}, flush=True)",
        "print('warning: look at this')",
        "print('something else')",
        "pathlib.Path('mean.txt').write_text(' '.join(sys.argv[2:]))",
        f"(folder / 'records.jsonl').write_text({kept + chr(10)!r})",
    ]
    assert simulated(tmp_path, "--lost", "0.25") == 0
    printed = capsys.readouterr().out
    assert SAYS in printed
    assert "warning: look at this" in printed
    assert "something else" not in printed
    assert "each peer would have sent 2.0 kB to others" in printed
    assert "1 lost before its upload" in printed
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["modes"]["seeded"]["survivors"] == [3]
    assert report["meta"]["lost_share"] == 0.25
    assert report["meta"]["per_peer"][0]["verified"] == 12.0
    assert (tmp_path / "report" / "report.html").exists()
    assert (tmp_path / "report/seeded/mean.txt").read_text().startswith("4 {")
    assert "something else" in (tmp_path / "report/seeded/server.log").read_text()


@pytest.mark.commands
@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["print('this is why')", "sys.exit(3)"], r"ended with code 3.*\n.*this is why"),
        ([], "without a round that was reported.*SecureStrategy"),
    ],
)
def test_a_run_that_fails_shows_the_end_of_its_log(
    lines: list[str],
    says: str,
    tmp_path: Path,
    engine: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine += lines
    assert simulated(tmp_path) == 1
    error = capsys.readouterr().err
    assert re.search(says, error), error
    whole = Path(error.rpartition("the whole log: ")[2].strip())
    assert whole.exists()
    whole.unlink()


@pytest.mark.commands
def test_a_run_without_a_complete_round_ends_with_1(
    tmp_path: Path, engine: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    void = {**RECORD, "outcome": "void", "reason": "too few"}
    kept = json.dumps({"record": void, "costs": {"peers": 0}})
    engine.append(f"(folder / 'records.jsonl').write_text({kept + chr(10)!r})")
    assert simulated(tmp_path) == 1
    assert "no round completed; the last one: too few" in capsys.readouterr().err


@pytest.mark.commands
def test_ctrl_c_ends_the_engine_and_leaves_nothing(
    tmp_path: Path, engine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate_module.tempfile, "tempdir", str(tmp_path))
    pid = tmp_path / "pid"
    engine += [
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))",
        "import time; time.sleep(600)",
    ]

    pressed: list[bool] = []

    def interrupted(seconds: float) -> None:
        if not pressed and pid.exists() and pid.read_text():
            pressed.append(True)  # once: whoever waits for a process sleeps as well
            raise KeyboardInterrupt

    monkeypatch.setattr(simulate_module.time, "sleep", interrupted)
    assert simulated(tmp_path) == 130
    assert not Path(f"/proc/{pid.read_text()}").exists()
    assert not list(tmp_path.glob("smpcfl-*"))
