"""Which files of an app's folder are the app: what is hashed, what peers allow, and what runs.

Flower's rule, which honours .gitignore and the project file's `fab-include` and `fab-exclude`, takes every
JSON and YAML file in the folder. A report or a result that was saved there would then make another app of it,
which no peer allows. So of those only the ones in the app's packages count, unless `fab-include` names more.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.cli.build import build_fab_from_disk, build_fab_from_files
from flwr.cli.utils import collect_files, filter_paths_for_publish
from flwr.common.config import get_fab_config, get_metadata_from_config
from flwr.common.constant import FAB_INCLUDE_KEY

from ..protocol.errors import LocalError

_PROJECT = "pyproject.toml"
_SAVED = (".json", ".jsonl", ".yaml", ".yml")


def table_of(app: Path) -> dict[str, Any]:
    """[tool.flwr.app] of the app in this folder. LocalError if there is none."""
    path = app / _PROJECT
    try:
        return dict(tomllib.loads(path.read_text())["tool"]["flwr"]["app"])
    except OSError as error:
        raise LocalError(f"{app} is no Flower app: {path}: {error.strerror}") from error
    except KeyError as error:
        raise LocalError(f"{app} is no Flower app: {path} has no [tool.flwr.app]") from error
    except ValueError as error:
        raise LocalError(f"{app} is no Flower app: {path}: {error}") from error


def files_of(app: Path) -> dict[str, Path]:
    """Of the app in this folder, by their path within it. LocalError if there is none."""
    own = table_of(app)
    files = collect_files(app.expanduser().resolve())
    if FAB_INCLUDE_KEY in own:
        return files
    packages = {name.split("/")[0] for name in files if "/" in name and name.endswith(".py")}
    return {name: path for name, path in files.items() if not _is_saved(name, packages)}


def left_out(app: Path) -> list[str]:
    """What `flwr run` would take into the bundle of this app, and we do not."""
    try:
        theirs = digests(build_fab_from_disk(app))
    except Exception:
        return []
    return sorted(theirs.keys() - digests(bundle_of(app)).keys())


def _is_saved(name: str, packages: set[str]) -> bool:
    return name.endswith(_SAVED) and name.split("/")[0] not in packages


def bundle_of(app: Path) -> bytes:
    """The app as Flower sends it to peers (a FAB). LocalError, with Flower's words, if there is none."""
    files = files_of(app)
    try:
        bundle, _ = build_fab_from_files(files)
    except Exception as error:  # also Flower's own, for a path that is too deep
        raise LocalError(f"{app} is no Flower app: {_one_line(error)}") from error
    return bundle


def stage(app: Path, folder: Path) -> None:
    """Copies what `bundle_of` is made of to `folder`, which is made anew: `flwr run` makes the same there."""
    files = files_of(app)
    try:
        kept = filter_paths_for_publish(files)
    except Exception as error:
        raise LocalError(f"{app} is no Flower app: {_one_line(error)}") from error
    shutil.rmtree(folder, ignore_errors=True)
    for name, path in kept.items():
        assert isinstance(path, Path)
        to = folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def hash_of(bundle: bytes) -> str:
    """SHA-256, in hex: what peers allow."""
    return hashlib.sha256(bundle).hexdigest()


def name_of(bundle: bytes) -> str:
    """Publisher and name, as Flower lists it."""
    return get_metadata_from_config(get_fab_config(bundle))[0]


def digests(bundle: bytes) -> dict[str, str]:
    """SHA-256 of each file in a bundle, in hex, by its path."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        names = [name for name in archive.namelist() if not name.startswith(".info/")]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in sorted(names)}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is another between two `digests`, in words: `client_app.py changed`."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        if name not in before:
            found.append(f"{name} is new")
        elif name not in now:
            found.append(f"{name} is gone")
        elif before[name] != now[name]:
            found.append(f"{name} changed")
    return found
