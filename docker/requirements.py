"""Writes base.txt, torch.txt and data.txt from pyproject.toml, so that versions stand in one place."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
folder = Path(sys.argv[2])
torch, data = project["optional-dependencies"]["demo"]
for name, lines in {"base": project["dependencies"], "torch": [torch], "data": [data]}.items():
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
