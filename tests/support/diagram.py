"""The phase table as a Mermaid diagram: `python -m support.diagram` prints what the docs must show."""

from __future__ import annotations

from pathlib import Path

from smpcfl.protocol.phases import TRANSITIONS, Phase

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
BEGIN, END = "<!-- phases:begin -->", "<!-- phases:end -->"


def mermaid() -> str:
    """A fenced stateDiagram-v2 of the table, in the table's order."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(Phase))}"]
    for phase, events in TRANSITIONS.items():
        lines += [f"    {phase} --> {after}: {event}" for event, after in events.items()]
    lines += [f"    {phase} --> [*]" for phase, events in TRANSITIONS.items() if not events]
    return "\n".join([*lines, "```"])


def documented() -> str | None:
    """The block between the markers of docs/protocol.md; None where there is none."""
    if not DOCUMENT.exists():
        return None
    text = DOCUMENT.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        return None
    return text.split(BEGIN, 1)[1].split(END, 1)[0].strip()


if __name__ == "__main__":
    print(mermaid())
