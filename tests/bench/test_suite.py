"""The benchmark suite: it says at once what it cannot do, and shows and writes what it measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from smpcfl.bench import cases
from smpcfl.bench.cases import CASES, Case, Sizes
from smpcfl.bench.measured import HERE, LIMIT, Measured
from smpcfl.bench.timing import Spread
from smpcfl.cli.main import main

SIDES = {HERE: Spread(3.0, 2.5, 3.5), LIMIT: Spread(2.0, 2.0, 2.0)}
FOUND = Measured("some work", "s", SIDES, 1.6, {LIMIT: "raw power"})


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Sizes]:
    """Every case finds the same; of what sizes it was asked."""
    asked: list[Sizes] = []

    def measure(sizes: Sizes, say: Any) -> Measured:
        asked.append(sizes)
        say("turn 1 of 1")
        return FOUND

    for name, case in CASES.items():
        monkeypatch.setitem(CASES, name, Case(measure, case.held))
    return asked


def test_the_json_has_the_machine_and_every_case(found: list[Sizes], tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", "--json", str(file)]) == 0
    assert found == [Sizes()] * len(CASES)
    result = json.loads(file.read_text())
    assert result.keys() == {"smpcfl", "machine", "cases", "seconds"}
    assert result["machine"].keys() == {
        *("platform", "cpu", "cpu_count", "load", "python", "numpy", "cryptography", "flwr")
    }
    assert all(value not in (None, "") for value in result["machine"].values())
    assert list(result["cases"]) == list(CASES)
    assert result["cases"]["masks"] == asdict(FOUND)
    assert Measured.of(result["cases"]["masks"]) == FOUND


def test_a_table_shows_each_side_its_spread_and_the_ratio(
    found: list[Sizes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "masks"]) == 0
    shown = capsys.readouterr().out
    for text in ("masks: some work", "3.00 s", "2.50 s to 3.50 s", "1.6", "limit: raw power"):
        assert text in shown


def test_cases_are_chosen_by_name_each_once(found: list[Sizes], tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", "rounds", "masks", "rounds", "--short", "--json", str(file)]) == 0
    assert list(json.loads(file.read_text())["cases"]) == ["rounds", "masks"]
    assert found == [cases.SHORT] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mask"], "case 'mask': unknown; choose from masks, quantise, "),
        (["rounds", "--check"], "case 'rounds': no ratio to check; choose from masks, quantise, "),
    ],
)
def test_a_case_that_is_none_is_an_error_that_names_them(
    arguments: list[str],
    said: str,
    found: list[Sizes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not found


def test_a_check_takes_all_cases_that_have_a_ratio(found: list[Sizes], tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", "--json", str(file)]) == 0
    del found[:]
    assert main(["bench", "--against", str(file)]) == 0
    assert len(found) == sum(case.held for case in CASES.values()) > 3


@pytest.mark.parametrize("name", ["missing/bench.json", "", "file/bench.json"])
def test_an_unwritable_file_is_an_error_before_the_work(
    tmp_path: Path, name: str, found: list[Sizes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["bench", "--json", str(tmp_path / name)]) == 1
    said = capsys.readouterr()
    assert (said.out, found) == ("", [])
    assert f"smpcfl bench: cannot write {tmp_path / name}" in said.err
    assert "--json" in said.err


@pytest.mark.parametrize("before", [None, "kept"])
def test_an_interrupted_suite_leaves_the_file_as_it_was(
    tmp_path: Path, before: str | None, found: list[Sizes], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bench.json"
    if before is not None:
        file.write_text(before)

    def interrupt(*_: object) -> Measured:
        raise KeyboardInterrupt

    monkeypatch.setitem(CASES, "client", Case(interrupt))
    assert main(["bench", "--json", str(file)]) == 130
    assert found
    assert (file.read_text() if file.exists() else None) == before


@pytest.mark.commands
def test_ctrl_c_ends_it_without_a_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "smpcfl", "bench"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    with process:
        assert process.stdout is not None
        assert "cpu_count" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")


@pytest.mark.commands
def test_the_short_form_needs_neither_torch_nor_flower(tmp_path: Path) -> None:
    """The registry's image has no torch, and Flower takes a second to load."""
    code = (
        "import sys; from smpcfl.bench import suite; from smpcfl.bench.cases import Sizes\n"
        "sizes = Sizes(words=9, peers=5, parameters=9, cohorts=(5,), turns=2, flower=False)\n"
        "suite.bench(['client', 'server', 'bytes'], sizes=sizes)\n"
        "print(sorted({'torch', 'flwr', 'mlxtend'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_says_what_it_is_and_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"The cases: {', '.join(CASES)}." in shown.replace("quantise- memory", "quantise-memory")
    for option in ("--short", "--json FILE", "--check", "--against FILE"):
        assert option in shown
