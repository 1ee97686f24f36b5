"""What a strategy remembers from round to round, such as momentum, for a run that is interrupted."""

from __future__ import annotations

import logging
import pickle

from flwr.serverapp.strategy import Strategy

from .averaging import layers

log = logging.getLogger("smpcfl.flower")


class Remembered:
    """The attributes of a strategy, and of those that it wraps, which change while it runs."""

    def __init__(self, strategy: Strategy) -> None:
        self._layers = list(layers(strategy))
        self._at_first = [_pickled(layer) for layer in self._layers]

    def keep(self) -> bytes:
        """What is not as it was at first, pickled."""
        changed = [
            {name: raw for name, raw in _pickled(layer).items() if first.get(name) != raw}
            for layer, first in zip(self._layers, self._at_first, strict=True)
        ]
        return pickle.dumps(changed) if any(changed) else b""

    def restore(self, kept: bytes) -> None:
        """From this aggregator's own checkpoint: nobody else writes there."""
        for layer, changed in zip(self._layers, pickle.loads(kept) if kept else (), strict=False):
            for name, raw in changed.items():
                setattr(layer, name, pickle.loads(raw))


def _pickled(layer: Strategy) -> dict[str, bytes]:
    found = {}
    for name, value in vars(layer).items():
        if isinstance(value, Strategy) or callable(value):
            continue
        try:
            found[name] = pickle.dumps(value)
        except Exception:
            log.debug("%s.%s cannot be kept in a checkpoint", type(layer).__name__, name)
    return found
