"""Generates the gRPC code from proto/ at build time; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def generate(into: Path) -> None:
    """Writes smpc/v1/*_pb2.py and *_pb2_grpc.py under `into`."""
    from importlib.resources import files

    from grpc_tools import protoc

    protos = sorted(str(path) for path in (ROOT / "proto").rglob("*.proto"))
    include = str(files("grpc_tools") / "_proto")
    arguments = [
        "protoc",
        f"-I{ROOT / 'proto'}",
        f"-I{include}",
        f"--python_out={into}",
        f"--grpc_python_out={into}",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed on proto/")


class BuildWithProto(build_py):
    def run(self) -> None:
        super().run()
        generate(ROOT / "services" if self.editable_mode else Path(self.build_lib))


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithProto})
