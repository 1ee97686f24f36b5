"""The model: a 784-128-10 perceptron with ReLU, 101,770 parameters, in torch on one CPU thread.

A state is a dict from parameter name to float32 array, always in the same order. On one machine,
the same arguments give the same result to the bit, however many cores it has.
"""

from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from smpcfl.tasks.digits.data import CLASSES, PIXELS

HIDDEN = 128
PARAMETERS = PIXELS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES

State = dict[str, NDArray[np.float32]]


def build() -> nn.Sequential:
    """The network, with torch's initial parameters: images (n, 784) in, logits (n, 10) out."""
    # One thread: sums in a fixed order, and peers that share a machine do not fight for its cores.
    torch.set_num_threads(1)
    return nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(PIXELS, HIDDEN), relu=nn.ReLU(), output=nn.Linear(HIDDEN, CLASSES)
        )
    )


def initial(seed: int) -> State:
    """A fresh state. Leaves torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _state_of(build())


def train(
    state: State,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    epochs: int = 3,
    lr: float = 0.1,
    batch_size: int = 32,
    momentum: float = 0.9,
    seed: int,
) -> tuple[State, float, int]:
    """SGD with momentum from `state` on images x (n, 784) and labels y (n,), reshuffled each epoch.

    Returns the new state and, over the last epoch, the mean loss of an example and the number of
    right predictions, each taken just before the step that learnt from it. The state given is left
    as it was. ValueError: no examples, or a setting that is not positive; RuntimeError: a state of
    other names or shapes.
    """
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"need as many images as labels, and some: got {len(x)} and {len(y)}")
    if epochs < 1 or batch_size < 1 or not lr > 0:
        raise ValueError(f"not positive: epochs {epochs}, batch_size {batch_size} or lr {lr}")
    network = _network_of(state)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    parameters = list(network.parameters())
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        total_loss, correct = 0.0, 0
        order = torch.randperm(len(images), generator=shuffle)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            logits = network(images[rows])
            loss = cross_entropy(logits, labels[rows])
            gradients = torch.autograd.grad(loss, parameters)
            # By hand: torch.optim would import the compiler, which doubles the start-up time of a
            # ClientApp, a process that lives for one message.
            with torch.no_grad():
                for parameter, velocity, gradient in zip(
                    parameters, velocities, gradients, strict=True
                ):
                    velocity.mul_(momentum).add_(gradient)
                    parameter.sub_(velocity, alpha=lr)
            total_loss += loss.item() * len(rows)
            correct += int((logits.argmax(dim=1) == labels[rows]).sum())
    return _state_of(network), total_loss / len(images), correct


def evaluate(state: State, x: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean loss of `state` on images x (n, 784) and labels y (n,)."""
    labels = torch.from_numpy(y)
    with torch.no_grad():
        logits = _network_of(state)(torch.from_numpy(x))
        loss = cross_entropy(logits, labels).item()
    return int((logits.argmax(dim=1) == labels).sum()) / len(labels), loss


def _network_of(state: State) -> nn.Sequential:
    network = build()
    network.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    return network


def _state_of(network: nn.Sequential) -> State:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
