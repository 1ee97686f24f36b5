"""The bundled digits: the same for everyone, dealt to peers and held out."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from smpcfl.tasks.digits import data


def rows(*parts: data.Examples) -> list[bytes]:
    """Each example, image and label, as bytes that can be compared and sorted."""
    pairs = (pair for x, y in parts for pair in zip(x, y, strict=True))
    return sorted(image.tobytes() + bytes([label]) for image, label in pairs)


def test_shapes_and_types() -> None:
    for (x, y), count in ((data.partition(0), 500), (data.held_out(), 1000)):
        assert (x.shape, x.dtype.name) == ((count, 784), "float32")
        assert (y.shape, y.dtype.name) == ((count,), "int64")
        assert (x.min(), x.max()) == (0.0, 1.0)
        assert set(y) == set(range(10))


def test_held_out_has_as_many_of_each_digit() -> None:
    assert np.bincount(data.held_out()[1]).tolist() == [100] * 10


def test_eight_parts_are_the_training_set_and_none_of_it_is_held_out() -> None:
    train = rows(*(data.partition(index) for index in range(8)))
    everything = sorted(train + rows(data.held_out()))
    assert len(train) == len(set(train)) == 4000
    assert len(everything) == len(set(everything)) == 5000


def test_every_further_eight_are_dealt_afresh() -> None:
    first, second = ([data.partition(deal * 8 + i) for i in range(8)] for deal in (0, 1))
    assert rows(*first) == rows(*second)
    assert not {tuple(rows(part)) for part in first} & {tuple(rows(part)) for part in second}
    assert len(set(rows(first[0])) & set(rows(second[0]))) < 150


def test_parts_of_another_size_are_disjoint_too() -> None:
    parts = [data.partition(index, size=1500) for index in range(3)]
    assert len(set(rows(*parts[:2]))) == 3000
    assert len(set(rows(*parts))) > 3000


def test_the_split_is_the_same_everywhere() -> None:
    """A numpy that deals otherwise would train on what others hold out."""
    digest = hashlib.sha256()
    for x, y in (data.partition(0), data.partition(11), data.held_out()):
        digest.update((x * 255).round().astype(np.uint8).tobytes() + y.astype(np.uint8).tobytes())
    assert digest.hexdigest() == "8238c32d18341a505437eb0a7c7eb9a1d02a3ba9ef7cb77f22f29630a1ab5aca"


@pytest.mark.parametrize(("index", "size"), [(-1, 500), (0, 0), (0, 4001)])
def test_a_part_that_cannot_be(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="partition"):
        data.partition(index, size)


def mnist(path: Path, **changed: NDArray[np.generic]) -> str:
    """A little mnist.npz of 20 and 10 images, with arrays changed at will."""
    arrays: dict[str, NDArray[np.generic]] = {
        "x_train": np.arange(20 * 784).reshape(20, 28, 28).astype(np.uint8),
        "y_train": np.arange(20, dtype=np.uint8) % 10,
        "x_test": np.full((10, 28, 28), 255, np.uint8),
        "y_test": np.arange(10, dtype=np.uint8),
    }
    np.savez(path, **(arrays | changed))  # type: ignore[arg-type]
    return str(path)


def test_full_mnist_is_taken_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMPCFL_MNIST", mnist(tmp_path / "mnist.npz"))
    x, y = data.held_out()
    assert (x.shape, x.dtype.name, y.dtype.name) == ((10, 784), "float32", "int64")
    assert (x == 1).all()
    assert y.tolist() == list(range(10))
    labels = np.concatenate([data.partition(index, size=5)[1] for index in range(4)])
    assert sorted(labels) == sorted([*range(10), *range(10)])


def test_a_wrong_mnist_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "empty.npz").write_text("")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "keys.npz", x_train=np.zeros(3))
    wrong = {
        str(tmp_path / "absent.npz"): "not a readable",
        str(tmp_path / "text.npz"): "not a readable",
        str(tmp_path / "empty.npz"): "not a readable",
        str(tmp_path / "one.npy"): "not a readable",
        str(tmp_path / "keys.npz"): "y_train",
        mnist(tmp_path / "shape.npz", x_test=np.zeros((10, 784), np.uint8)): "images must",
        mnist(tmp_path / "scaled.npz", x_train=np.zeros((20, 28, 28))): "images must",
        mnist(tmp_path / "short.npz", y_train=np.zeros(19, np.uint8)): "20 integers",
        mnist(tmp_path / "ten.npz", y_test=np.full(10, 10, np.uint8)): "integers in 0..9",
    }
    for path, expected in wrong.items():
        monkeypatch.setenv("SMPCFL_MNIST", path)
        with pytest.raises(ValueError, match=expected) as caught:
            data.held_out()
        assert path in str(caught.value)


@pytest.mark.commands
def test_a_client_process_imports_no_more_than_it_needs() -> None:
    """One is started for each message; each of these modules costs it about a second."""
    program = """
import sys
from smpcfl.tasks.digits import data
x, y = data.partition(0, size=50)
heavy = {"torch", "pandas", "sklearn", "scipy", "matplotlib", "mlxtend.data"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
from smpcfl.tasks.digits import model
model.train(model.initial(0), x, y, epochs=1, seed=0)
heavy = {"torch._dynamo", "pandas", "sklearn", "scipy", "matplotlib"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    services = str(Path(data.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": services},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
