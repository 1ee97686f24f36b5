"""Writes v2/*.json from the code: `python -m vectors.generate`, in tests/; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Callable

from vectors import (
    make_draw,
    make_hashes,
    make_messages,
    make_metrics,
    make_numbers,
    make_policy,
    make_receipts,
    make_rotated,
    make_rounds,
    make_secrets,
    make_signed,
    make_survivors,
)
from vectors.files import FOLDER, Json, text

TOPICS: dict[str, Callable[[], Json]] = {
    **make_hashes.TOPICS,
    **make_secrets.TOPICS,
    **make_numbers.TOPICS,
    **make_rotated.TOPICS,
    **make_metrics.TOPICS,
    **make_signed.TOPICS,
    **make_messages.TOPICS,
    **make_survivors.TOPICS,
    **make_policy.TOPICS,
    **make_receipts.TOPICS,
    **make_draw.TOPICS,
    **make_rounds.TOPICS,
}


def generated() -> dict[str, str]:
    """What each file holds, by its name."""
    return {f"{name}.json": text(make()) + "\n" for name, make in TOPICS.items()}


def differing() -> list[str]:
    """Names of files that are not what the code makes, or that no topic makes."""
    new = generated()
    old = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    return sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))


def main() -> int:
    if "--check" in sys.argv[1:]:
        found = differing()
        print("\n".join(f"{name} is not what the code makes" for name in found) or "all the same")
        return bool(found)
    FOLDER.mkdir(exist_ok=True)
    for name, content in generated().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
