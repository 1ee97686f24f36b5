"""The model, and data that each peer makes for itself: points of three kinds, in a mixture of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

KINDS, FEATURES = 3, 8
Floats = npt.NDArray[np.float64]


def make_model() -> dict[str, Floats]:
    """In float64, as numpy has it."""
    return {"weight": np.zeros((FEATURES, KINDS)), "bias": np.zeros(KINDS)}


def make_data(seed: int, count: int, mixture: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Features, shape (count, 8), and kinds, shape (count,): more of the kind `mixture` than of others."""
    centres = np.random.default_rng(7).normal(size=(KINDS, FEATURES))
    rng = np.random.default_rng(seed)
    odds = np.ones(KINDS)
    odds[mixture % KINDS] = 2
    kinds = rng.choice(KINDS, count, p=odds / odds.sum())
    return centres[kinds] + rng.normal(size=(count, FEATURES)), kinds


def predict(model: dict[str, Floats], x: Floats) -> Floats:
    """Probabilities, shape (n, 3)."""
    logits = x @ model["weight"] + model["bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def train(model: dict[str, Floats], x: Floats, y: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Twenty steps down the gradient."""
    for _ in range(20):
        slope = (predict(model, x) - np.eye(KINDS)[y]) / len(y)
        model = {
            "weight": model["weight"] - 0.3 * x.T @ slope,
            "bias": model["bias"] - 0.3 * slope.sum(axis=0),
        }
    return model


def measure(model: dict[str, Floats], x: Floats, y: npt.NDArray[np.int64]) -> dict[str, object]:
    """A list is a metric as well: of all examples, the share that is of each kind and found."""
    odds = predict(model, x)
    hits = odds.argmax(axis=1) == y
    return {
        "mean-log-loss": float(-np.log(odds[np.arange(len(y)), y]).mean()),
        "accuracy": float(hits.mean()),
        "hits-by-kind": [float((hits & (y == kind)).mean()) for kind in range(KINDS)],
    }
