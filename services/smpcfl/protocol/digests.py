"""What a ticket says of everything but the model."""

from __future__ import annotations

from .encoding import digest


def config_digest(content_digest: bytes, app: bytes) -> bytes:
    """SHA-256, 32 bytes. `content_digest`: of message and run configuration; `app`: of the app's bundle."""
    return digest("config", content_digest, app)
