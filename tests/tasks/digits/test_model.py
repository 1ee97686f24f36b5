"""The bundled task's model learns from the digits, and each step is torch's own."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from smpcfl.tasks.digits import data, model


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
