"""What `smpcfl bench` measures, in order, and what it shows and writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import __version__
from ..protocol.errors import LocalError
from ..protocol.ticket import ADDITIVE, SEEDED
from ..reports.html import byte_size
from . import parts
from .parts import Figures
from .round_costs import RoundFigures, play
from .timing import machine

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Sizes:
    """How much to measure; the default takes well under a minute."""

    entries: tuple[int, ...] = (101_770, 1_000_000)
    degrees: tuple[tuple[int, int], ...] = ((7, 5), (40, 27))
    """(k, t) of Shamir's sharing."""
    rounds: tuple[tuple[str, int], ...] = ((SEEDED, 8), (SEEDED, 32), (SEEDED, 100), (ADDITIVE, 8))
    """(mode, number of peers) of whole rounds."""
    parameters: int = 101_770
    """Of the model of a whole round."""
    part_s: float = 0.25
    """How long each figure of a part is measured."""
    round_s: float = 4.0
    """How long each whole round is repeated; the last repetition is finished."""


def bench(json_file: Path | None, sizes: Sizes | None = None) -> int:
    """Measures, shows tables, writes `json_file` if given. LocalError if that cannot be written."""
    if json_file is not None:
        _check_writable(json_file)
    sizes = sizes or Sizes()
    console = Console()
    result: dict[str, Any] = {"smpcfl": __version__, "machine": machine()}
    named = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    console.print(f"smpcfl {__version__}; {named}", highlight=False, soft_wrap=True)
    began = perf_counter()
    for name, figures, table in _sections(sizes, console):
        result[name] = figures
        console.print()
        console.print(table(figures))
    result["seconds"] = perf_counter() - began
    console.print(f"\nmedians; {result['seconds']:.0f} s in all", highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        console.print(f"written: {json_file.resolve()}", soft_wrap=True, highlight=False)
    return 0


def _sections(
    sizes: Sizes, console: Console
) -> Iterator[tuple[str, Figures, Callable[[Figures], Table]]]:
    """Name in the JSON, figures, and how they are shown; measured one by one."""
    with _progress(console) as progress:
        task = progress.add_task("masks", total=3 + len(sizes.rounds))

        def step(description: str) -> None:
            progress.update(task, advance=1, description=description)

        yield "masks", parts.masks(sizes.entries, sizes.part_s), _mask_table
        step("quantiser")
        yield "quantiser", parts.quantiser(sizes.part_s), _quantiser_table
        step("secret sharing")
        yield "shamir", parts.shamir(sizes.degrees, sizes.part_s), _shamir_table
        rounds: Figures = []
        for mode, peers in sizes.rounds:
            step(f"round of {peers} peers, {mode}")
            rounds.append(whole_round(mode, peers, sizes.parameters, sizes.round_s))
        step("done")
        yield "rounds", rounds, _round_table


def whole_round(mode: str, peers: int, parameters: int, seconds: float) -> dict[str, Any]:
    """Plays the round again and again for `seconds`, at least once; medians over the runs."""
    runs: list[RoundFigures] = []
    end = perf_counter() + seconds
    while not runs or perf_counter() < end:
        runs.append(play(mode, peers, parameters))
    ticket, sent = runs[0].ticket, runs[0].sent
    plain = parameters * FLOAT32_BYTES
    return {
        "mode": mode,
        "peers": peers,
        "degree": ticket.degree,
        "threshold": ticket.threshold,
        "width": ticket.width,
        "parameters": parameters,
        "runs": len(runs),
        "peer": _medians([run.peer_s for run in runs]),
        "aggregator": _medians([run.aggregator_s for run in runs]),
        "bytes": {**sent, "unmask_in": runs[0].unmask_in},
        "neighbour_bytes": runs[0].neighbour_bytes,
        "verified": runs[0].verified,
        "plain_bytes": plain,
        "upload_ratio": sent["upload"] / plain,
        "sent_ratio": sum(sent.values()) / plain,
    }


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """`total_s`, and `PHASE_s` for each phase."""
    phases = {f"{phase}_s": median(run[phase] for run in runs) for phase in runs[0]}
    return {"total_s": median(sum(run.values()) for run in runs), **phases}


def _check_writable(file: Path) -> None:
    """Before the work, not after."""
    try:
        existed = file.exists()
        file.open("a").close()
        if not existed:
            file.unlink()
    except OSError as error:
        raise LocalError(
            f"cannot write {file} ({error.strerror}): choose another file with --json"
        ) from error


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


# -- tables ----------------------------------------------------------------------------------------


def _mask_table(figures: Figures) -> Table:
    table = _table(
        "Masks, MB/s of keystream", "width", "entries", "expand", "runs", "apply", "runs"
    )
    for row in figures:
        cells = [f"{row['width']}", f"{row['entries']:,}"]
        for name in ("expand", "apply"):
            cells += [f"{row[name]['mb_per_s']:,.0f}", f"{row[name]['runs']}"]
        table.add_row(*cells)
    table.caption = (
        f"apply: {figures[0]['masks']} masks expanded and added, as in a cohort of as many"
    )
    return table


def _quantiser_table(figures: Figures) -> Table:
    title = f"Update of {figures[0]['parameters']:,} parameters"
    return _times(title, figures, ("width",), ("encode", "decode"))


def _shamir_table(figures: Figures) -> Table:
    title = "Shamir's sharing of one secret"
    return _times(title, figures, ("degree", "threshold"), ("split", "reconstruct"))


def _round_table(figures: Figures) -> Table:
    first = figures[0]
    table = _table(
        f"Whole round in memory, {first['parameters']:,} parameters, {first['width']} bits",
        *("mode", "peers", "peer", "aggregator", "runs", "upload", "p2p", "unmask"),
        *("a neighbour", "verified", "up/plain", "all/plain"),
    )
    for row in figures:
        table.add_row(
            row["mode"],
            f"{row['peers']}",
            _seconds(row["peer"]["total_s"]),
            _seconds(row["aggregator"]["total_s"]),
            f"{row['runs']}",
            *(byte_size(row["bytes"][channel]) for channel in ("upload", "p2p", "unmask")),
            byte_size(row["neighbour_bytes"]),
            f"{row['verified']}",
            f"{row['upload_ratio']:.2f}",
            f"{row['sent_ratio']:.2f}",
        )
    table.caption = (
        "time of one peer, and of the aggregator; bytes that a peer sends in a round, to other peers also for"
        " each neighbour; signatures that it verifies; and the ratio of the bytes to a"
        f" plain float32 update ({byte_size(first['plain_bytes'])})"
    )
    return table


def _times(title: str, figures: Figures, keys: tuple[str, ...], names: tuple[str, ...]) -> Table:
    columns = [column for name in names for column in (name, "runs")]
    table = _table(title, *keys, *columns)
    for row in figures:
        cells = [f"{row[key]}" for key in keys]
        for name in names:
            cells += [_seconds(row[name]["median_s"]), f"{row[name]['runs']}"]
        table.add_row(*cells)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _seconds(value: float) -> str:
    """`1.23 s`, `45.6 ms`, `789 µs`."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} µs"
