"""The bundled task: the same digits for everyone, and a model that learns from them."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from smpcfl.tasks.digits import data, model


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


def same(one: model.State, other: model.State) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[k], other[k]) for k in one)


def test_the_state_is_all_of_the_model() -> None:
    state = model.initial(0)
    assert {name: array.shape for name, array in state.items()} == {
        "hidden.weight": (128, 784),
        "hidden.bias": (128,),
        "output.weight": (10, 128),
        "output.bias": (10,),
    }
    assert all(array.dtype == np.float32 for array in state.values())
    assert sum(array.size for array in state.values()) == model.PARAMETERS == 101_770


def test_an_initial_state_follows_from_its_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    state = model.initial(1)
    assert torch.equal(torch.rand(3), expected)
    assert same(state, model.initial(1))
    assert not same(state, model.initial(2))


def test_training_is_repeatable_and_leaves_its_start_alone() -> None:
    x, y = data.partition(0, size=100)
    start = model.initial(0)
    first = model.train(start, x, y, seed=1)
    again = model.train(start, x, y, seed=1)
    assert same(start, model.initial(0))
    assert same(first[0], again[0])
    assert first[1:] == again[1:]
    assert not same(first[0], model.train(start, x, y, seed=2)[0])
    assert torch.get_num_threads() == 1


@pytest.mark.filterwarnings("error")
def test_a_state_may_be_read_only() -> None:
    """As arrays out of a message are."""
    state = model.initial(0)
    for array in state.values():
        array.setflags(write=False)
    x, y = data.partition(0, size=10)
    trained, _, _ = model.train(state, x, y, seed=0)
    model.evaluate(trained, x, y)


def test_a_step_is_that_of_torch() -> None:
    """Two epochs in batches of 32, of which the last is of 4, with torch.optim's own SGD."""
    x, y = data.partition(0, size=100)
    network = model.build()
    network.load_state_dict({k: torch.tensor(v) for k, v in model.initial(3).items()})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.8)
    generator = torch.Generator().manual_seed(9)
    for _ in range(2):
        total, right = 0.0, 0
        for batch in torch.split(torch.randperm(100, generator=generator), 32):
            logits = network(torch.from_numpy(x)[batch])
            loss = cross_entropy(logits, torch.from_numpy(y)[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(batch)
            right += int((logits.argmax(1) == torch.from_numpy(y)[batch]).sum())
    settings = {"epochs": 2, "batch_size": 32, "lr": 0.05, "momentum": 0.8}
    state, mean_loss, correct = model.train(model.initial(3), x, y, seed=9, **settings)  # type: ignore[arg-type]
    for name, tensor in network.state_dict().items():
        np.testing.assert_allclose(state[name], tensor.numpy(), rtol=1e-5, atol=1e-6)
    assert mean_loss == pytest.approx(total / 100)
    assert correct == right


def test_evaluation_of_a_model_that_knows_nothing() -> None:
    zeros = {name: np.zeros_like(array) for name, array in model.initial(0).items()}
    zeros["output.bias"][7] = 1.0
    accuracy, loss = model.evaluate(zeros, *data.held_out())
    assert accuracy == 0.1
    assert loss == pytest.approx(np.log(9 + np.e) - 0.1, abs=1e-5)


def test_settings_and_states_that_cannot_be() -> None:
    x, y = data.partition(0, size=10)
    state = model.initial(0)
    with pytest.raises(ValueError, match="10 and 9"):
        model.train(state, x, y[:9], seed=0)
    with pytest.raises(ValueError, match="0 and 0"):
        model.train(state, x[:0], y[:0], seed=0)
    with pytest.raises(ValueError, match="epochs 0"):
        model.train(state, x, y, epochs=0, seed=0)
    with pytest.raises(ValueError, match="batch_size 0"):
        model.train(state, x, y, batch_size=0, seed=0)
    with pytest.raises(ValueError, match="lr nan"):
        model.train(state, x, y, lr=float("nan"), seed=0)
    with pytest.raises(RuntimeError, match=r"output\.bias"):
        model.evaluate({k: v for k, v in state.items() if k != "output.bias"}, x, y)


def test_eight_peers_learn_together() -> None:
    """The demo's claim, at half its rounds: 0.90 of the held-out digits, by plain averaging."""
    parts = [data.partition(index) for index in range(8)]
    state = model.initial(0)
    for number in range(5):
        states = [model.train(state, x, y, seed=number)[0] for x, y in parts]
        state = {name: np.mean([s[name] for s in states], axis=0) for name in state}
    accuracy, _ = model.evaluate(state, *data.held_out())
    assert accuracy >= 0.90
