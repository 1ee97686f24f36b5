"""Checkpoints: exact, whole or not used, and never in the way of training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smpcfl.base.state import State
from smpcfl.runs.checkpoint import Checkpoint, Checkpoints, Damaged
from support.disk import small_disk

RUN = 2**62 + 7


def arrays(number: int = 0) -> dict[str, npt.NDArray[Any]]:
    return {
        "z.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7 + number,
        "a/bias": np.array([np.nan, -0.0, np.inf], np.float64),
        "steps": np.array(number),
        "none": np.zeros((0, 3), np.float16),
        "big": np.arange(3, dtype=">i4"),
        "columns": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    }


def checkpoint(number: int, run: int = RUN) -> Checkpoint:
    return Checkpoint(
        run=run,
        round=number,
        rounds=9,
        clip=0.1 + number,
        weight_cap=1024,
        setup={"mode": "seeded", "seed": 1},
        record='{"round": 1}' if number else "",
        arrays=arrays(number),
    )


def same(found: Checkpoint | None, expected: Checkpoint) -> bool:
    assert found is not None
    return found.parts() == expected.parts() and list(found.arrays) == list(expected.arrays)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_array_comes_back_bit_for_bit() -> None:
    found = Checkpoint.decode(b"".join(checkpoint(3).parts()))
    assert same(found, checkpoint(3))
    for name, array in arrays(3).items():
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)
        assert found.arrays[name].tobytes() == array.tobytes()
    found.arrays["steps"][...] = 1  # and may be written to


def test_what_a_later_version_wrote_beside_it_is_left_out() -> None:
    later = checkpoint(3)
    vars(later)["schedule"] = [1, 2]
    assert b'"schedule"' in b"".join(later.parts())
    assert same(Checkpoint.decode(b"".join(later.parts())), checkpoint(3))


def test_cut_short_anywhere_or_with_any_bit_flipped_it_is_damaged() -> None:
    whole = b"".join(checkpoint(1).parts())
    for length in range(len(whole)):
        with pytest.raises(Damaged):
            Checkpoint.decode(whole[:length])
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(Damaged):
            Checkpoint.decode(bytes(changed))
    with pytest.raises(Damaged):
        Checkpoint.decode(whole + b"\0")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: b"", "it is empty"),
        (lambda whole: whole[:-100], "its checksum is wrong"),
        (lambda whole: bytes(len(whole)), "it does not start like a checkpoint"),
        (
            lambda whole: b"".join(checkpoint(1).parts()),
            "it is of run 4611686018427387911, round 1",
        ),
    ],
    ids=["empty", "cut short", "zeros", "another one"],
)
def test_a_damaged_one_is_said_and_the_one_before_is_used(
    damage: Any, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(checkpoint(1))
    kept.save(checkpoint(2))
    path = tmp_path / f"run-{RUN}-round-2"
    path.write_bytes(damage(path.read_bytes()))
    assert same(kept.latest(RUN), checkpoint(1))
    assert f"checkpoint {path} is damaged and left out: {said}" in caplog.text
    assert "the checkpoint of round 1, the one before, is used" in caplog.text
    kept.save(checkpoint(2))  # that round again
    assert same(kept.latest(RUN), checkpoint(2))


def test_none_that_is_whole_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Checkpoints(tmp_path)
    assert kept.latest(RUN) is None
    assert not caplog.text
    kept.save(checkpoint(1))
    (tmp_path / f"run-{RUN}-round-1").write_bytes(b"")
    assert kept.latest(RUN) is None
    assert "no whole checkpoint" in caplog.text


def test_what_a_crash_left_of_one_is_not_taken_for_it_and_goes(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(checkpoint(1))
    (tmp_path / f".run-{RUN}-round-2.4711").write_bytes(b"".join(checkpoint(2).parts())[:50])
    assert same(kept.latest(RUN), checkpoint(1))
    kept.save(checkpoint(2))
    assert names(tmp_path) == [f"run-{RUN}-round-1", f"run-{RUN}-round-2"]


def test_two_are_kept_of_the_run_and_the_last_one_of_others(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    for run in (5, 6):
        for number in range(12):
            kept.save(checkpoint(number, run))
    assert names(tmp_path) == ["run-5-round-11", "run-6-round-10", "run-6-round-11"]
    assert (kept.newest_round(5), kept.newest_round(6), kept.newest_round(7)) == (11, 11, None)


def test_a_full_disk_is_an_error_and_those_before_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with small_disk(tmp_path / "disk", monkeypatch) as disk:
        kept = Checkpoints(State(disk.folder).checkpoints)
        kept.save(checkpoint(1))
        disk.fill()
        with pytest.raises(OSError, match="No space left on device"):
            kept.save(checkpoint(2))
        assert names(kept.folder) == [f"run-{RUN}-round-1"]
        assert same(kept.latest(RUN), checkpoint(1))
        disk.make_room()
        kept.save(checkpoint(2))
        assert same(kept.latest(RUN), checkpoint(2))


def test_what_is_not_as_it_was_is_named() -> None:
    assert checkpoint(1).differences({"mode": "seeded", "seed": 1}) == []
    assert checkpoint(1).differences({"mode": "seeded", "seed": 2}) == ["seed was 1, now 2"]
