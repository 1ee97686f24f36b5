"""The model, and each peer's part of the handwritten digits that scikit-learn brings along."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

KINDS, FEATURES = 10, 64
Floats = npt.NDArray[np.float64]


def make_model(arrays: dict[str, Floats] | None = None) -> Any:
    """Goes on from `arrays` when it is fitted; zeros if there are none."""
    model = LogisticRegression(max_iter=5, warm_start=True)
    given = arrays or {"coef": np.zeros((KINDS, FEATURES)), "intercept": np.zeros(KINDS)}
    model.classes_ = np.arange(KINDS)
    model.coef_, model.intercept_ = given["coef"], given["intercept"]
    return model


def arrays_of(model: Any) -> dict[str, Floats]:
    """In float64, as scikit-learn has them."""
    return {"coef": model.coef_, "intercept": model.intercept_}


def load_part(index: int, parts: int, held_out: bool) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Pixels, shape (n, 64), and digits, shape (n,). Every fifth of a part is held out."""
    x, y = load_digits(return_X_y=True)
    mine = np.random.default_rng(1).permutation(len(y))[index::parts]
    chosen = mine[(np.arange(len(mine)) % 5 == 0) == held_out]
    return x[chosen] / 16, y[chosen]


def train(model: Any, x: Floats, y: npt.NDArray[np.int64]) -> None:
    """A few steps: it need not converge at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)


def measure(model: Any, x: Floats, y: npt.NDArray[np.int64]) -> dict[str, Any]:
    """A list is a metric as well: of all examples, the share that is of each kind and found."""
    odds = model.predict_proba(x)
    found = odds.argmax(axis=1)
    hits = confusion_matrix(y, found, labels=range(KINDS)).diagonal() / len(y)
    return {
        "mean-log-loss": float(log_loss(y, odds, labels=range(KINDS))),
        "accuracy": float(accuracy_score(y, found)),
        "hits-by-kind": hits.tolist(),
    }
