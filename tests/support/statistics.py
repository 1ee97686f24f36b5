"""Tests of uniformity with bounds written out, so that no statistics package is needed."""

from __future__ import annotations

import numpy as np

# Upper 1e-6 quantile of chi-square with 255 degrees of freedom.
CHI_SQUARE_LIMIT = 377.08
# Two-sided 1e-6 quantile of the standard normal distribution.
NORMAL_LIMIT = 4.8916


def chi_square(raw: bytes) -> float:
    """Pearson's statistic of the byte histogram against the uniform one."""
    counts = np.bincount(np.frombuffer(raw, np.uint8), minlength=256)
    expected = len(raw) / 256
    return float(((counts - expected) ** 2).sum() / expected)


def correlation(one: bytes, other: bytes) -> float:
    """Pearson's coefficient between two byte strings; about N(0, 1/length) if they are independent."""
    a, b = (np.frombuffer(raw, np.uint8).astype(np.float64) for raw in (one, other))
    return float(np.corrcoef(a, b)[0, 1])


def correlation_limit(length: int) -> float:
    """What an independent pair exceeds once in a million times."""
    return NORMAL_LIMIT / length**0.5
