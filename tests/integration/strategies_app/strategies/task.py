"""The model, and the data that each peer makes for itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FEATURES, OUTPUTS = 4, 3
Floats = npt.NDArray[np.floating]


def make_model(seed: int) -> dict[str, Floats]:
    """Each run starts from another one: over one model peers take one configuration."""
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.normal(size=(FEATURES, OUTPUTS)).astype(np.float32),
        "bias": rng.normal(size=OUTPUTS),
        "scale": np.array(1.0 + 0.1 * seed, np.float32),
    }


def make_data(seed: int, count: int) -> tuple[Floats, Floats]:
    truth = np.random.default_rng(99).normal(size=(FEATURES, OUTPUTS))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES)) + 0.2 * (seed % 10)
    return x, x @ truth + 0.1 * rng.normal(size=(count, OUTPUTS))


def errors(model: dict[str, Floats], x: Floats, y: Floats) -> Floats:
    return (x @ model["weight"] + model["bias"]) * model["scale"] - y


def train(
    model: dict[str, Floats], x: Floats, y: Floats, rate: float, pull: float
) -> dict[str, Floats]:
    """Five steps, each pulled back to where they began, as FedProx has it. Dtypes stay."""
    now = model
    for _ in range(5):
        wrong = errors(now, x, y) / len(y)
        slope = {
            "weight": x.T @ wrong * now["scale"],
            "bias": wrong.sum(axis=0) * now["scale"],
            "scale": (wrong * (x @ now["weight"] + now["bias"])).sum(),
        }
        now = {
            name: np.asarray(
                array - rate * (slope[name] + pull * (array - model[name])), array.dtype
            )
            for name, array in now.items()
        }
    return now


def measure(model: dict[str, Floats], x: Floats, y: Floats) -> dict[str, float | list[float]]:
    squares = errors(model, x, y) ** 2
    return {"loss": float(squares.mean()), "loss-by-output": squares.mean(axis=0).tolist()}
