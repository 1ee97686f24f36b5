"""Where `make` and the images take torch from: not gigabytes of CUDA by accident."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = """#!/bin/sh
[ "$1" != config ] || { echo "$PIP_CONFIGURED"; exit 0; }
echo "$(basename "$0") $*" >> "$LOG"
"""
# Makes the environment, and writes nothing else.
PYTHON = """#!/bin/sh
[ "$2" != venv ] || for tool in pip uv python; do
  mkdir -p "$3/bin" && cp "$(dirname "$0")/tool" "$3/bin/$tool"
done
"""

pytestmark = [
    pytest.mark.commands,
    pytest.mark.skipif(shutil.which("make") is None, reason="no make"),
]


def installed(folder: Path, **environment: str) -> list[str]:
    """The calls of pip and uv that install torch."""
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    for name, text in (("python", PYTHON), ("tool", TOOL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    given = {key: value for key, value in os.environ.items() if key != "TORCH_BACKEND"}
    subprocess.run(
        ["make", f"PYTHON={folder / 'python'}", ".venv/.installed"],
        cwd=folder,
        env={**given, "LOG": str(folder / "log"), "PIP_CONFIGURED": "", **environment},
        check=True,
        capture_output=True,
    )
    return [line for line in (folder / "log").read_text().splitlines() if "torch.txt" in line]


@pytest.mark.parametrize(
    ("environment", "backend"),
    [
        ({}, "cpu"),
        ({"PIP_CONFIGURED": "global.timeout='60'"}, "cpu"),
        ({"PIP_CONFIGURED": ":env:.find-links='/wheels'"}, ""),
        ({"PIP_CONFIGURED": "global.extra-index-url='https://mirror.invalid'"}, ""),
        ({"PIP_CONFIGURED": "global.index-url='https://x.invalid'", "TORCH_BACKEND": "cpu"}, "cpu"),
        ({"TORCH_BACKEND": "cu126"}, "cu126"),
        ({"TORCH_BACKEND": "none"}, ""),
        ({"TORCH_BACKEND": ""}, ""),
    ],
    ids=str,
)
def test_torch_is_the_cpu_build_unless_said_otherwise(
    environment: dict[str, str], backend: str, tmp_path: Path
) -> None:
    first, *_ = installed(tmp_path, **environment)
    if backend:
        assert first.startswith("uv pip install")
        assert f"--torch-backend={backend} " in first
    else:
        assert first.startswith("pip install")


@pytest.mark.parametrize(
    ("backend", "option"), [("cpu", ["--torch-backend=cpu"]), ("none", []), ("", [])]
)
def test_the_images_take_the_same_switch(backend: str, option: list[str], tmp_path: Path) -> None:
    text = (ROOT / "Dockerfile").read_text()
    (run,) = re.findall(r"^RUN ((?:.*\\\n)*.*-r /torch\.txt.*(?:\\\n.*)*)", text, re.MULTILINE)
    (tmp_path / "uv").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "uv").chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", run],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TORCH_BACKEND": backend},
        check=True,
        capture_output=True,
        text=True,
    )
    words = done.stdout.splitlines()[0].split()
    assert [word for word in words if word.startswith("--torch")] == option


@pytest.mark.parametrize(
    ("packages", "backend", "words"),
    [
        ("", "cpu", []),
        ("pandas>=2 a==1.*", "", ["pandas>=2", "a==1.*"]),
        ("torchvision", "cpu", ["torchvision", "--torch-backend=cpu"]),
    ],
)
def test_the_images_take_packages_for_ones_own_apps(
    packages: str, backend: str, words: list[str], tmp_path: Path
) -> None:
    text = (ROOT / "Dockerfile").read_text()
    (run,) = re.findall(r"^ARG PACKAGES=\nRUN ((?:.*\\\n)*.*)", text, re.MULTILINE)
    (tmp_path / "uv").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "uv").chmod(0o755)
    (tmp_path / "a==1.0").touch()  # no pattern of the shell's
    done = subprocess.run(
        ["sh", "-c", run],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TORCH_BACKEND": backend, "PACKAGES": packages},
        check=True,
        capture_output=True,
        text=True,
    )
    given = done.stdout.split()
    assert set(words) <= set(given)
    assert bool(given) == bool(packages)
    assert not given or " ".join(given).count("-c /base.txt -c /torch.txt") == 1
