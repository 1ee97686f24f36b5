"""A ledger on disk: an SQLite file in a state folder, written before anything depends on it."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

from ..protocol.ledger import Cohort, Latest, Ledger, Seen
from ..protocol.ticket import HOUR_MS
from .files import StorageError

MODELS = 10_000
"""Kept; the oldest are forgotten first. At 60 tickets an hour that is a week."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS models (digest BLOB PRIMARY KEY, at_ms INTEGER NOT NULL, seen TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tickets (at_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS latest (one INTEGER PRIMARY KEY CHECK (one = 1), latest TEXT NOT NULL);
"""


def open_ledger(path: Path) -> Ledger:
    """The ledger that `path` keeps, a new one if there is none. StorageError if it is damaged."""
    try:
        path.touch(mode=0o600)
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_SCHEMA)
        models = {
            bytes(model): _read(seen)
            for model, seen in database.execute("SELECT digest, seen FROM models")
        }
        tickets = [int(at_ms) for (at_ms,) in database.execute("SELECT at_ms FROM tickets")]
        kept = [_read_latest(text) for (text,) in database.execute("SELECT latest FROM latest")]
    except (sqlite3.OperationalError, OSError) as error:
        raise StorageError(f"cannot write {path} ({error}): make room there") from error
    except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"{path} is damaged ({error}): it records which sums this party took part in; restore it, or"
            " remove it to start with an empty one"
        ) from error

    def keep_model(model: bytes, seen: Seen) -> None:
        with database:
            database.execute("BEGIN")
            database.execute(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?)",
                (model, int(time.time() * 1000), _written(seen)),
            )
            database.execute(
                "DELETE FROM models WHERE digest IN"
                " (SELECT digest FROM models ORDER BY at_ms DESC LIMIT -1 OFFSET ?)",
                (MODELS,),
            )

    def keep_ticket(at_ms: int) -> None:
        with database:
            database.execute("BEGIN")
            database.execute("DELETE FROM tickets WHERE at_ms <= ?", (at_ms - HOUR_MS,))
            database.execute("INSERT INTO tickets VALUES (?)", (at_ms,))

    def keep_latest(latest: Latest) -> None:
        with database:
            database.execute(
                "INSERT OR REPLACE INTO latest VALUES (1, ?)", (_written_latest(latest),)
            )

    latest = kept[0] if kept else Latest()
    return Ledger(models, tickets, keep_model, keep_ticket, latest, keep_latest)


def _written(seen: Seen) -> str:
    return json.dumps(
        {
            "configurations": [item.hex() for item in seen.configurations],
            "sets": [sorted(item) for item in seen.sets],
            "cohorts": [[sorted(c.peers), c.threshold, c.colluders] for c in seen.cohorts],
            "answered": seen.answered,
            "failed": seen.failed,
            "evaluated": seen.evaluated,
            "draw": seen.draw,
        }
    )


def _read(text: str) -> Seen:
    found = json.loads(text)
    return Seen(
        tuple(bytes.fromhex(item) for item in found["configurations"]),
        tuple(frozenset(map(str, item)) for item in found["sets"]),
        tuple(
            Cohort(frozenset(map(str, peers)), int(threshold), int(colluders))
            for peers, threshold, colluders in found.get("cohorts", ())
        ),
        bool(found["answered"]),
        bool(found["failed"]),
        bool(found.get("evaluated")),
        int(found.get("draw", 0)),
    )


def _written_latest(latest: Latest) -> str:
    return json.dumps(
        {
            "trained": latest.trained.hex(),
            "survivors": sorted(latest.survivors),
            "awaited": latest.awaited.hex(),
            "awaited_ms": latest.awaited_ms,
        }
    )


def _read_latest(text: str) -> Latest:
    found = json.loads(text)
    return Latest(
        bytes.fromhex(found["trained"]),
        frozenset(map(str, found["survivors"])),
        bytes.fromhex(found["awaited"]),
        int(found["awaited_ms"]),
    )
