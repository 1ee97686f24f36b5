"""What a Flower user imports: one mod for the ClientApp, one wrapper for the strategy.

app = ClientApp(mods=[smpcfl.flower.secure_mod])

strategy = smpcfl.flower.SecureStrategy(FedAvg())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.mod import secure_mod as secure_mod
    from .server.strategy import SecureStrategy as SecureStrategy
    from .server.strategy import secure as secure

__all__ = ["SecureStrategy", "secure", "secure_mod"]


def __getattr__(name: str) -> Any:
    # A ClientApp is a process per message: it must not pay for importing the server's side.
    if name == "secure_mod":
        from .client.mod import secure_mod

        return secure_mod
    if name in ("SecureStrategy", "secure"):
        from .server import strategy

        return getattr(strategy, name)
    raise AttributeError(name)
