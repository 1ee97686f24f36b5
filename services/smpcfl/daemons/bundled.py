"""Where the bundled app is: the one that is run, and that peers allow, unless another is given."""

from pathlib import Path

BUNDLED = Path(__file__).parent.parent / "tasks" / "digits" / "app"
