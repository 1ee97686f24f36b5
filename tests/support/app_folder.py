"""The folder of a Flower app, as a user has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_PROJECT = """
[project]
name = "{name}"
version = "0.1.0"
description = "For tests alone"
license = "MIT"

[tool.flwr.app]
publisher = "somebody"

[tool.flwr.app.components]
serverapp = "{name}.{server}"
clientapp = "{name}.{client}"

[tool.flwr.app.config]
{config}
"""


def write_app(
    folder: Path,
    name: str,
    modules: Mapping[str, str],
    *,
    server: str,
    client: str,
    config: str = "num-server-rounds = 2",
) -> Path:
    """`folder`, made if need be, with the app's package `name`, whose `modules` are sources by file name.

    `server` and `client` are where the apps are, as `module:object`; `config` is in TOML.
    """
    package = folder / name
    package.mkdir(parents=True)
    project = _PROJECT.format(name=name, server=server, client=client, config=config)
    (folder / "pyproject.toml").write_text(project)
    for module, source in {"__init__": "", **modules}.items():
        (package / f"{module}.py").write_text(source)
    return folder
