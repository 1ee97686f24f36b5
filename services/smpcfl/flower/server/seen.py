"""Keeps what the aggregator sees of one peer, as pictures for the report: the first of each kind in a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...protocol.ring import Layout, Raw
from ...reports import pictures
from ...reports.pictures import UPLOAD, Picture

log = logging.getLogger("smpcfl.flower")
Model = Mapping[str, npt.NDArray[Any]]


class SeenUpdates:
    """`path`: where the pictures of one run are kept. The aggregator has all of them anyway."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Picture] = {}

    def wants(self, kind: str) -> bool:
        return kind not in self._found

    def upload(self, peer: str, number: int, model: Model, layout: Layout, vector: Raw) -> None:
        """A partial sum; `model`: whose floats it is of, in order."""
        words = np.frombuffer(vector, layout.dtype, layout.body)
        if (shown := pictures.shown_rows(model)) is not None:
            array, start, shape = shown
            self._add(Picture.of(UPLOAD, peer, number, array, pictures.cut(words, start, shape)))

    def change(self, kind: str, peer: str, number: int, before: Model, after: Model) -> None:
        """An update in the clear, or the sum of all."""
        if (shown := pictures.shown_rows(before)) is None or shown[0] not in after:
            return
        array, _, shape = shown
        if after[array].shape != before[array].shape or after[array].dtype.kind not in "fiu":
            return  # it is for the strategy to say so
        change = np.asarray(after[array], np.float64) - np.asarray(before[array], np.float64)
        rows = pictures.cut(change.reshape(-1), 0, shape)
        self._add(Picture.of(kind, peer, number, array, rows))

    def _add(self, picture: Picture) -> None:
        if not self.wants(picture.kind):
            return
        self._found[picture.kind] = picture
        try:
            pictures.keep(self._path, list(self._found.values()))
        except OSError as error:
            log.debug("no picture for the report: %s", error)
