"""Peak memory of a peer's quantiser, in a process of its own: `python -m smpcfl.bench.peak PARAMETERS`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ..protocol.errors import LocalError
from ..protocol.quantise import Quantiser
from .inputs import WEIGHT_CAP, encode, update_of


def least(parameters: int) -> int:
    """Bytes of what has to be there: the model, the trained one, the upload."""
    return parameters * (4 + 4 + 2)


def peak(parameters: int) -> int:
    """Bytes of these, and of all that the quantiser needs beyond them, at its peak."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(parameters)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalError(
            f"the process that measures memory ended with {done.returncode}: {done.stderr.strip()}"
        )
    return int(done.stdout)


def _resident(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(rf"^{name}:\s*(\d+) kB$", status, re.M)
    if found is None:
        raise LocalError(f"no {name} in /proc/self/status: memory is measured on Linux alone")
    return int(found[1]) * 1024


def main(parameters: int) -> None:
    rule = Quantiser(16, clip=1.0, weight_cap=WEIGHT_CAP, cohort=8)
    for size in (10, parameters):  # the first loads what is loaded once
        given, trained = update_of(size)
        before = _resident("VmRSS")
        upload = encode(rule, {"all": given}, {"all": trained})
        after = _resident("VmHWM")
    assert len(upload.body) == parameters
    beyond = after - before - upload.body.nbytes
    print(least(parameters) + max(beyond, 0))


if __name__ == "__main__":
    main(int(sys.argv[1]))
