"""What `smpcfl demo` or `compare` is to train: the bundled app, or one of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..daemons.bundled import BUNDLED
from .app_config import app_config, declared, rounds_of, seed_of

_ROUNDS, _SEED = 5, 1  # of the bundled app


@dataclass(frozen=True)
class Wanted:
    """What is to be trained. `app`: None is the bundled one; `rounds`, `seed`: None is what the app declares.

    `node_config` is for all peers, in the syntax of `smpcfl peer --node-config`.
    """

    app: Path | None = None
    peers: int = 5
    rounds: int | None = None
    seed: int | None = None
    node_config: str = ""

    def config(self, offset: int) -> dict[str, int]:
        """The run's configuration where it is not the app's own, with a seed `offset` further on.

        Its rounds are there in any case, if the app declares them: so it is seen when the last one is over.
        """
        if self.app is None:
            return {
                "num-rounds": _ROUNDS if self.rounds is None else self.rounds,
                "seed": (_SEED if self.seed is None else self.seed) + offset,
                "min-peers": self.peers,
                "expected-peers": self.peers,
            }
        own = declared(self.app)
        rounds = rounds_of(own) if self.rounds is None else self.rounds
        seed = seed_of(own) if self.seed is None and offset else self.seed
        return app_config(self.app, rounds, None if seed is None else seed + offset)

    @property
    def folder(self) -> Path:
        """Where the app is."""
        return BUNDLED if self.app is None else self.app.resolve()

    @property
    def number(self) -> int | None:
        """Rounds of a run; None if the app does not say."""
        own = declared(self.app) if self.app is not None else {}
        return rounds_of({**own, **self.config(0)})
