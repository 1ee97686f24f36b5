"""The last version that was released, to be run beside this one."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "PREVIOUS"


def revision() -> str:
    """As git names it; empty where no version is tagged yet, or no clone. Or what `PREVIOUS` names."""
    if given := os.environ.get(VARIABLE):
        return given
    command = ["git", "tag", "--list", "v*", "--merged", "HEAD", "--sort", "-version:refname"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return next(iter(done.stdout.split()), "")


def unpack(name: str, folder: Path) -> Path:
    """That revision with its generated code under `folder`; where its package is imported from."""
    packed = subprocess.run(
        ["git", "archive", name, "services", "proto"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    services = folder / "services"
    protos = sorted(str(path) for path in (folder / "proto").rglob("*.proto"))
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            *(f"-I{folder / 'proto'}", f"-I{files('grpc_tools') / '_proto'}"),
            *(f"--python_out={services}", f"--grpc_python_out={services}"),
            *protos,
        ],
        check=True,
    )
    return services


def protocol_of(services: Path) -> int:
    """The version of its tickets."""
    text = (services / "smpcfl/protocol/encoding.py").read_text()
    found = re.search(r"^VERSION = (\d+)$", text, re.MULTILINE)
    assert found is not None
    return int(found[1])
