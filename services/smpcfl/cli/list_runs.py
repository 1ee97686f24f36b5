"""`smpcfl runs` and `smpcfl stop`: the training runs of the aggregator here, and the end of one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..aggregator import rounds_service
from ..aggregator.flower_runs import FlowerRun, Runs
from ..base.config import Settings
from ..base.host_port import near
from ..base.state import State
from ..protocol.errors import LocalError
from ..reports.record import RoundRecord
from ..runs import current_run
from ..runs.current_run import STOPPED, CurrentRun


def at_the_aggregator(settings: Settings) -> Runs:
    """LocalError if no aggregator keeps its state in the folder that the settings name."""
    if not State(settings.state).superlink.exists():
        raise LocalError(
            f"no aggregator keeps its state in {settings.state}: run this where `smpcfl aggregator`"
            " runs (docker compose exec aggregator smpcfl ...), or give --state"
        )
    return Runs(settings.state, settings.superlink_port, near(settings.host))


@dataclass(frozen=True)
class Row:
    """One run. `flower_runs`: ids, the newest first: a run that was cut off goes on as another one."""

    run: str
    app: str
    status: str
    rounds: str
    flower_runs: tuple[str, ...]


def rows(
    listed: list[FlowerRun],
    carried: dict[int, list[str]],
    current: CurrentRun | None,
    records: list[RoundRecord],
) -> list[Row]:
    """The newest first. `carried`: the Flower runs of each of our runs; the others are of `flwr run`."""
    by_flower = {flower_run: run for run, ids in carried.items() for flower_run in ids}
    if current is not None and current.flower_run:
        by_flower[current.flower_run] = current.run
    found: dict[int, list[FlowerRun]] = {}
    for item in listed:
        found.setdefault(by_flower.get(item.run_id, int(item.run_id)), []).append(item)
    if current is not None and current.run not in found:
        found = {current.run: [], **found}
    made = []
    for run, items in found.items():
        own = current if current is not None and current.run == run else None
        made.append(
            Row(
                str(run),
                items[0].app if items else "",
                _status(own, items),
                progress(own, [record for record in records if record.run == run]),
                tuple(item.run_id for item in items),
            )
        )
    return made


def _status(own: CurrentRun | None, items: list[FlowerRun]) -> str:
    if own is not None and own.ended:
        return own.ended
    if any(item.active for item in items):
        return next(item.status for item in items if item.active)
    if own is not None:
        return "waiting"  # to be submitted, or gone on with
    return items[0].status.removeprefix("finished:")


def progress(run: CurrentRun | None, records: list[RoundRecord]) -> str:
    """Such as `3 of 5 rounds, 1 void`, or `3 done`; `records` of other runs do not count."""
    number = run.rounds if run is not None else None
    own = [record for record in records if run is None or record.run == run.run]
    void = sum(record.outcome == "void" for record in own)
    of = f"{len(own)} of {number} rounds" if number is not None else f"{len(own)} done"
    return f"{of}, {void} void" if void else of


async def show(settings: Settings) -> int:
    """Prints a line for each run."""
    runs = at_the_aggregator(settings)
    state = State(settings.state)
    listed = await runs.listed()
    current = current_run.load(state.current_run)
    found = rows(
        listed, current_run.carried(state.runs), current, rounds_service.read(state.records)
    )
    if not found:
        print("no run yet: start one with `smpcfl run`")
        return 0
    lines = [("run", "app", "status", "rounds", "Flower run")]
    lines += [
        (row.run, row.app, row.status, row.rounds, ", ".join(row.flower_runs)) for row in found
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


async def stop(settings: Settings, wanted: str | None) -> int:
    """Stops the run of this number, ours or Flower's; None: whatever goes on. LocalError if nothing does."""
    runs = at_the_aggregator(settings)
    state = State(settings.state)
    current = current_run.load(state.current_run)
    ours = None if current is None or current.over else current
    if ours is not None and wanted not in (None, str(ours.run), ours.flower_run):
        ours = None
    if ours is not None:
        # First of all, or the aggregator would go on with it.
        current_run.save(state.current_run, replace(ours, ended=STOPPED, reason="smpcfl stop"))
    stopped = [f"run {ours.run}"] if ours is not None else []
    for flower_run in await runs.active():
        if ours is not None and flower_run == ours.flower_run:
            await runs.stop(flower_run)
        elif wanted in (None, flower_run):
            await runs.stop(flower_run)
            stopped.append(f"Flower run {flower_run}")
    if not stopped:
        what = f"no run {wanted} goes on" if wanted else "no run goes on"
        raise LocalError(f"{what}: `smpcfl runs` lists them all")
    done = f" after {progress(ours, rounds_service.read(state.records))}" if ours else ""
    print(f"{' and '.join(stopped)} stopped{done}", flush=True)
    return 0
