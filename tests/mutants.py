"""Plants small faults in the core, one at a time, and reports those that no test notices: `make mutants`.

python tests/mutants.py [--count 100] [--seed 1] [--only FILE]; needs cosmic-ray. It works on a copy of the
checkout. The sample follows from the seed. What may survive, because it changes nothing, stands in EQUIVALENT
with the reason.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parent.parent
CORE = "services/smpcfl/protocol"
# The quickest first: most faults are noticed by the known answers.
TESTS = ("tests/vectors", "tests/protocol", "tests/adversary")
TIMEOUT_S = 900
# Types are checked by mypy, decorators are not behaviour.
SKIPPED_OPERATORS = ("core/RemoveDecorator", "core/ReplaceBinaryOperator_BitOr_")
EQUIVALENT: dict[str, str] = {}
"""`file:line` to why a change there changes nothing that anybody could see."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="faults to plant [100]")
    parser.add_argument("--seed", type=int, default=1, help="of the sample [1]")
    parser.add_argument("--only", default=CORE, help=f"file or folder to plant them in [{CORE}]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__"))
        return run(copy, options.only, options.count, options.seed)


def run(copy: Path, only: str, count: int, seed: int) -> int:
    """0 if at least 97 of 100 are noticed, those apart that change nothing."""
    command = [
        *(
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:warnings",
        ),
        *("-m", "not processes and not containers", *TESTS),
    ]
    config, session = copy / "mutants.toml", copy / "mutants.sqlite"
    config.write_text(
        "[cosmic-ray]\n"
        f'module-path = "{only}"\n'
        f"timeout = {TIMEOUT_S}\n"
        'excluded-modules = []\ntest-command = """' + " ".join(f"'{p}'" for p in command) + '"""\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(copy / "services"), str(copy / "tests"), os.environ.get("PYTHONPATH", "")]
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def cosmic_ray(*arguments: str) -> None:
        code = "from cosmic_ray.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=copy, env=environment, check=True
        )

    print("the tests without any fault:", flush=True)
    subprocess.run(command, cwd=copy, env=environment, check=True)
    cosmic_ray("init", str(config), str(session))
    with use_db(str(session), WorkDB.Mode.open) as database:
        total = sample(database, count, seed)
    print(
        f"planting {count} of {total} faults, seed {seed}: some seconds to minutes each", flush=True
    )
    cosmic_ray("exec", str(config), str(session))
    with use_db(str(session), WorkDB.Mode.open) as database:
        return report(database, copy)


def sample(database: WorkDB, count: int, seed: int) -> int:
    """Marks all but `count` work items as skipped; how many there were."""
    items = sorted(
        (item for item in database.work_items if not skipped(item)),
        key=lambda item: [
            (str(m.module_path), m.start_pos, m.operator_name) for m in item.mutations
        ],
    )
    chosen = {item.job_id for item in random.Random(seed).sample(items, min(count, len(items)))}
    for item in database.work_items:
        if item.job_id not in chosen:
            database.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    return len(items)


def skipped(item) -> bool:  # type: ignore[no-untyped-def]
    return any(m.operator_name.startswith(SKIPPED_OPERATORS) for m in item.mutations)


def report(database: WorkDB, copy: Path) -> int:
    """Prints what no test noticed."""
    mutations = {item.job_id: item.mutations[0] for item in database.work_items}
    noticed, equivalent, missed = 0, 0, []
    for job, result in database.results:
        if result.worker_outcome is WorkerOutcome.SKIPPED:
            continue
        place = mutations[job]
        name = f"{Path(place.module_path).name}:{place.start_pos[0]}"
        if result.test_outcome is not TestOutcome.SURVIVED:
            noticed += 1
        elif name in EQUIVALENT:
            equivalent += 1
        else:
            missed.append((name, place.operator_name, result.diff))
    for name, operator, diff in missed:
        print(f"\nnot noticed: {name} ({operator})\n{diff}")
    total = noticed + len(missed)
    print(f"\n{noticed} of {total} noticed; {equivalent} more change nothing", flush=True)
    return 0 if noticed * 100 >= 97 * total else 1


if __name__ == "__main__":
    sys.exit(main())
