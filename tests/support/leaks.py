"""Where a secret stands that must not stand anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

LEAST_BYTES = 16  # what is shorter may stand anywhere by chance


def renderings(secret: bytes) -> Iterator[bytes]:
    """The ways in which bytes are written: as they are, and as text of some kind."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    yield repr(secret)[2:-1].encode()
    yield str(int.from_bytes(secret, "big")).encode()
    yield ", ".join(map(str, secret)).encode()


class Leaks:
    """Looks for `secrets` in texts, all of them."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self.secrets = {secret for secret in secrets if len(secret) >= LEAST_BYTES}
        self._needles = {needle for secret in self.secrets for needle in renderings(secret)}

    def found_in(self, places: Iterable[tuple[str, bytes]]) -> list[str]:
        """Each place with a secret in it, with what stands around that."""
        found = []
        for name, content in places:
            for needle in self._needles:
                if (at := content.find(needle)) >= 0:
                    found.append(f"{name}: {content[max(at - 80, 0) : at]!r}")
                    break
        return found


def of_key(path: Path) -> list[bytes]:
    """A private key as it may be written: the text of the file, and the number that it is."""
    pem = path.read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    lines = [line for line in pem.splitlines() if not line.startswith(b"---")]
    return [*lines[1:], key.private_numbers().private_value.to_bytes(32, "big")]


def of_process(pid: int) -> Iterator[tuple[str, bytes]]:
    """Its command line and environment; nothing once it has ended."""
    for name in ("cmdline", "environ"):
        path = Path(f"/proc/{pid}/{name}")
        try:
            yield str(path), path.read_bytes()
        except OSError:
            return
