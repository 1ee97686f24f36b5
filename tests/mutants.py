"""Plants small faults in the core, one at a time, and reports those that no test notices: `make mutants`.

python tests/mutants.py [--count 100] [--seed 1] [--only FILE]; needs cosmic-ray. It works on a copy of the
checkout. The sample follows from the seed. For each fault the tests most likely to notice it run first, the
others only if it passed. What may survive, because it changes nothing, stands in EQUIVALENT with the reason.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.modules import find_modules
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkResult

ROOT = Path(__file__).resolve().parent.parent
CORE = "services/smpcfl/protocol"
PYTEST = (
    *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
    # Some faults loop for ever: the thread ends the process, so that Hypothesis does not try it once more.
    *("--timeout", "150", "--timeout-method", "thread", "-m"),
)
FAST = "not processes and not containers"
ANSWERS = "tests/vectors"
# Where a file's own tests are not called as it is.
OWN = {
    "announcement.py": "test_messages.py",
    "base_round.py": "test_exchange.py",
    "fields.py": "test_messages.py",
    "peer_round.py": "test_exchange.py",
}
# For what the known answers and a file's own tests leave, in this order.
FOLDERS = ("protocol", "adversary", "peer", "flower", "aggregator", "runs", "net")
# Thousands of rounds, or gRPC: only if all else passes.
SLOW = re.compile(
    "test_(grpc_.*|diverging|any_moment|network_faults|schedules|soak|sum|uniformity)[.]py"
)
TIMEOUT_S = 3600  # of all tests together
# Decorators are not behaviour; `|` joins types, which mypy checks; what the core compares with `is` (None,
# phases, reasons) is equal only to itself.
SKIPPED_OPERATORS = (
    "core/RemoveDecorator",
    "core/ReplaceBinaryOperator_BitOr_",
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
)
EQUIVALENT = {
    "admission.py": {
        "self, signed: SignedTicket, /, highest_serial: int, running: bytes | None, now_ms: int": (
            "whoever names the arguments calls it as before"
        ),
    },
    "peer_round.py": {
        "if self._survivors is None and self._agreement is None:": "the two are set together",
        "if index <= self.me and neighbour.announcement is None:": "nobody neighbours itself",
    },
    "survivors.py": {
        "if missing := set(message.survivors) ^ headers.keys():": (
            "`Survivors` refuses headers of others than its survivors"
        ),
    },
    "ticket.py": {
        "and all(0 != len(peer) <= MAX_PEER_ID for peer in self.cohort)": "no length is negative",
    },
}
"""File and line, as the fault makes it, to why that changes nothing that anybody could see."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="faults to plant [100]")
    parser.add_argument("--seed", type=int, default=1, help="of the sample [1]")
    parser.add_argument("--only", default=CORE, help=f"file or folder to plant them in [{CORE}]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__"))
        work_in(copy)
        faults = sample(Path(options.only), options.count, options.seed)
        print("the tests without any fault:", flush=True)
        subprocess.run([*PYTEST, FAST, ANSWERS, *others()], check=True)
        return report([plant(fault) for fault in faults])


def work_in(copy: Path) -> None:
    """Makes a copy of the checkout the one that is imported and tested."""
    os.chdir(copy)
    paths = [str(copy / "services"), str(copy / "tests"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def sample(only: Path, count: int, seed: int) -> list[MutationSpec]:
    with use_db("mutants.sqlite", WorkDB.Mode.create) as database:
        init(sorted(find_modules([only])), database, {})
        faults = [fault for item in database.work_items for fault in item.mutations]
    faults = [f for f in faults if not f.operator_name.startswith(SKIPPED_OPERATORS)]
    print(f"{count} of {len(faults)} faults, seed {seed}", flush=True)

    def lot(fault: MutationSpec) -> bytes:
        # Of the fault alone, so that an edit changes the sample in its own file only.
        drawn = (seed, fault.module_path.as_posix(), fault.operator_name, fault.occurrence)
        return hashlib.sha256(repr(drawn).encode()).digest()

    return sorted(faults, key=lot)[:count]


def plant(fault: MutationSpec) -> str:
    """`noticed`, `equivalent` or `missed`."""
    began, file = time.monotonic(), fault.module_path.name
    for tests in (first(fault.module_path), others()):
        result = mutate_and_test([fault], shlex.join([*PYTEST, FAST, *tests]), TIMEOUT_S)
        line = changed(result)
        if result.test_outcome is TestOutcome.KILLED:
            verdict, by = "noticed", noticing(result)
            break
        verdict, by = "missed", fault.operator_name
        if why := EQUIVALENT.get(file, {}).get(line):
            verdict, by = "equivalent", why
            break
    print(f"{verdict}: {file}:{fault.start_pos[0]}: {line}", flush=True)
    print(f"    {time.monotonic() - began:.0f} s; {by}", flush=True)
    return verdict


def first(module: Path) -> list[str]:
    """The file's own tests, if it has any, and the known answers."""
    own = Path("tests/protocol") / OWN.get(module.name, f"test_{module.name}")
    return [*([str(own)] if own.exists() else []), ANSWERS]


def others() -> list[str]:
    """All further test files, the slow ones last."""
    files = [str(f) for folder in FOLDERS for f in sorted(Path("tests", folder).rglob("test_*.py"))]
    return sorted(files, key=lambda name: bool(SLOW.search(name)))


def changed(result: WorkResult) -> str:
    """The line as the fault made it."""
    lines = (result.diff or "").splitlines()
    return next((n[1:].strip() for n in lines if re.match(r"\+(?!\+\+)", n)), "")


def noticing(result: WorkResult) -> str:
    """The test that failed."""
    output = result.output or ""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return found.group(1) if found else output.strip()[-60:]


def report(verdicts: list[str]) -> int:
    """0 if at least 97 of 100 are noticed, those apart that change nothing."""
    count = Counter(verdicts)
    total = count["noticed"] + count["missed"]
    print(f"\n{count['noticed']} of {total} noticed; {count['equivalent']} more change nothing")
    return 0 if count["noticed"] * 100 >= 97 * total else 1


if __name__ == "__main__":
    sys.exit(main())
