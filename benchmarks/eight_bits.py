"""What eight bits cost in accuracy: the same trainings with rings of 8 and of 16 bits.

    python benchmarks/eight_bits.py
    python benchmarks/eight_bits.py --models perceptron --peers 8 --seeds 1 2

Federated averaging in one process, through quantiser and ring, with the limits that follow from round to
round; masks would cancel. `perceptron` is the bundled task, `convolutional` a network of 28,874 parameters on
the same 5,000 images, of which 1,000 are held out. Needs torch: pip install 'smpcfl[demo]'.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from smpcfl.flower.server.clipping import Clipping
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import (
    ROTATED,
    Quantiser,
    count_floats,
    decode_update,
    encode_update,
)
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.rotated import RotatedQuantiser
from smpcfl.tasks.digits import data, model

IMAGES = 4_000  # of all peers together
State = dict[str, npt.NDArray[np.float32]]
Train = Callable[[State, data.Examples, int], State]


class Convolutional:
    """Two convolutions and two layers; trained as the bundled task is."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.network = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 8, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(784, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )

    def initial(self, seed: int) -> State:
        torch.manual_seed(seed)
        for layer in self.network:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        return self._state()

    def _state(self) -> State:
        return {
            name: value.detach().numpy().copy() for name, value in self.network.named_parameters()
        }

    def _load(self, state: State) -> None:
        self.network.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})

    def train(self, state: State, examples: data.Examples, seed: int) -> State:
        self._load(state)
        x, y = map(torch.from_numpy, examples)
        optimiser = torch.optim.SGD(self.network.parameters(), lr=0.05, momentum=0.9)
        shuffle = torch.Generator().manual_seed(seed)
        for _ in range(3):
            for rows in torch.randperm(len(x), generator=shuffle).split(32):
                optimiser.zero_grad()
                cross_entropy(self.network(x[rows]), y[rows]).backward()
                optimiser.step()
        return self._state()

    def accuracy(self, state: State) -> float:
        self._load(state)
        x, y = map(torch.from_numpy, data.held_out())
        with torch.no_grad():
            return float((self.network(x).argmax(1) == y).float().mean())


class Perceptron:
    """The bundled task."""

    def initial(self, seed: int) -> State:
        return model.initial(seed)

    def train(self, state: State, examples: data.Examples, seed: int) -> State:
        return model.train(state, *examples, seed=seed)[0]

    def accuracy(self, state: State) -> float:
        return model.evaluate(state, *data.held_out())[0]


MODELS = {"perceptron": Perceptron, "convolutional": Convolutional}


def final_accuracy(
    task: Perceptron | Convolutional, width: int, peers: int, rounds: int, seed: int
) -> float:
    parts = [data.partition(index, IMAGES // peers) for index in range(peers)]
    state, rng = task.initial(seed), np.random.default_rng(seed)
    clipping = Clipping.fitting(state) if width == ROTATED else Clipping()
    for number in range(rounds):
        numbers = width, clipping.clip, clipping.weight_cap, peers
        quantiser = Quantiser(*numbers) if width != ROTATED else None
        quantiser = quantiser or RotatedQuantiser(*numbers, signs=Secret(rng.bytes(32)))
        total: RingVector | None = None
        for index, part in enumerate(parts):
            trained = task.train(state, part, seed * 1_000_003 + number * 1_009 + index)
            addend = encode_update(
                quantiser, state, trained, examples=len(part[1]), rounding=Secret(rng.bytes(32))
            )
            total = addend if total is None else total + addend
        assert total is not None
        fitting = quantiser.fitting_clip(total.body, count_floats(state), peers)
        decoded, counted = decode_update(quantiser, state, total, peers)
        state, clipping = {**decoded}, clipping.after(counted, fitting)
    return 100 * task.accuracy(state)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--peers", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    print("| model | peers | 16 bits, % | 8 bits, % | difference, points | of the seeds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in options.models:
        for peers in options.peers:
            task = MODELS[name]()
            sixteen, eight = (
                [final_accuracy(task, w, peers, options.rounds, s) for s in options.seeds]
                for w in (16, ROTATED)
            )
            apart = [b - a for a, b in zip(sixteen, eight, strict=True)]
            spread = f"± {stdev(apart):.2f}" if len(apart) > 1 else ""
            print(
                f"| {name} | {peers} | {fmean(sixteen):.2f} | {fmean(eight):.2f} | {fmean(apart):+.2f} |"
                f" {spread} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
