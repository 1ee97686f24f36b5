"""Writes dashboards/*.json from boards/:  python grafana/build.py  (or make dashboards)

    python grafana/build.py --check     writes nothing, and fails if a file is not what it would write

Grafana reads the files as they are; they are committed, so that nobody who starts it needs this.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from boards import whole

FOLDER = Path(__file__).parent / "dashboards"


def texts() -> dict[Path, str]:
    """Each file with what belongs into it."""
    boards = {"home": whole.home(), "modes": whole.compared(), "peer": whole.one_peer()}
    return {
        FOLDER / f"{name}.json": json.dumps(
            board, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False
        )
        + "\n"
        for name, board in boards.items()
    }


def differences() -> list[str]:
    """What `--check` has to say, a line each."""
    wanted = texts()
    found = []
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            found.append(f"{path} is not what boards/ makes: run python grafana/build.py")
    found += [f"{path} is made by nothing" for path in FOLDER.iterdir() if path not in wanted]
    return found


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    if arguments:
        found = differences()
        print("\n".join(found), end="\n" if found else "")
        return bool(found)
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
