"""How a run stands at one moment, for the live page and for the progress in the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from .record import RoundRecord

PHASES = ("train", "upload", "unmask", "sum", "evaluate")
MOST_PEERS, MOST_FLOWS = 256, 4096


@dataclass(frozen=True, kw_only=True)
class LivePeer:
    """One peer. Bytes are of messages since its agent started, as it counted them."""

    name: str
    via: str
    """How it was discovered: `mDNS and registry`, or `registry`."""
    flower_out: int = 0
    flower_in: int = 0
    unmask_out: int = 0
    unmask_in: int = 0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Of one mode. Nothing here is secret: the aggregator knows it, or counts it."""

    mode: str
    run: int = 0
    rounds: int | None = None
    """How many the run is to have, if known."""
    round: int = 0
    phase: str = ""
    """One of PHASES; empty between rounds."""
    since: float = 0.0
    """When that phase began, Unix seconds."""
    replies: int = 0
    """Peers of which a reply is there in this round."""
    cohort: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()
    here: int = 0
    """How many peers are there."""
    peers: tuple[LivePeer, ...] = ()
    """Of them, the first MOST_PEERS by name."""
    flows: tuple[tuple[str, str, int], ...] = ()
    """Sender, receiver and bytes of what went from peer to peer, as the sender counted it."""
    records: tuple[RoundRecord, ...] = field(default=())
    said: str = ""
    """The last line of the log, such as what is waited for."""

    def to_json(self) -> bytes:
        members = asdict(self)
        members["records"] = [record.to_members() for record in self.records]
        return json.dumps(members, allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Snapshot:
        """The inverse of `to_json`. ValueError for anything else."""
        try:
            members: dict[str, Any] = json.loads(text)
            flows = members["flows"][:MOST_FLOWS]
            return cls(
                **{
                    **members,
                    "since": float(members["since"]),
                    "cohort": tuple(map(str, members["cohort"])),
                    "survivors": tuple(map(str, members["survivors"])),
                    "peers": tuple(LivePeer(**item) for item in members["peers"][:MOST_PEERS]),
                    "flows": tuple((str(a), str(b), int(n)) for a, b, n in flows),
                    "records": tuple(map(RoundRecord.from_members, members["records"])),
                }
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no snapshot: {error}") from error

    def progress(self) -> str:
        """In a few words: `round 3, 4 of 5 uploaded`, at most 40 characters long."""
        if not self.round:
            return f"{self.here} peers are there" if self.here else "starting"
        of = len(self.cohort) or self.here
        doing = {
            "train": "training",
            "upload": f"{self.replies} of {of} uploaded",
            "unmask": "agree and unmask",
            "sum": "adding up",
            "evaluate": "evaluating",
        }
        return f"round {self.round}, {doing.get(self.phase, 'between rounds')}"
