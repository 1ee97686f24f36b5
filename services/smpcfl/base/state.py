"""What lies where in a service's state folder, and in the folders for enrolment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class State:
    """The paths in one state folder. Nothing is made or read here, and no service has all of them."""

    path: Path

    # Every service's.

    @property
    def key(self) -> Path:
        return self.path / "key.pem"

    @property
    def certificate(self) -> Path:
        return self.path / "certificate.pem"

    @property
    def ca(self) -> Path:
        """The CA's certificate: the registry's own, or the aggregator's copy."""
        return self.path / "ca.pem"

    # The peer's and the aggregator's.

    @property
    def roster(self) -> Path:
        """As the registry last told it."""
        return self.path / "roster.bin"

    @property
    def serial(self) -> Path:
        """The highest that a peer accepted, or that the aggregator gave."""
        return self.path / "serial"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.sqlite"

    @property
    def draw(self) -> Path:
        """The newest draw: all of it at the registry and the aggregator, its own group at a peer."""
        return self.path / "draw.bin"

    def ledgers(self, draw: int) -> Path:
        """The aggregator's, of each group in that draw."""
        return self.path / "ledgers" / str(draw)

    @property
    def suspects(self) -> Path:
        return self.path / "suspects.json"

    @property
    def flower(self) -> Path:
        """Home of the Flower process that runs as a child."""
        return self.path / "flower"

    def log(self, child: str) -> Path:
        return self.path / "log" / f"{child}.log"

    def socket(self, service: str) -> Path:
        """`agent` or `rounds`; `files.socket_path` makes the folder."""
        return self.path / "run" / f"{service}.sock"

    # The peer's.

    @property
    def peer_id(self) -> Path:
        return self.path / "peer-id"

    @property
    def floors(self) -> Path:
        return self.path / "floors.json"

    @property
    def node_key(self) -> Path:
        return self.flower / "node-key"

    @property
    def run_apps(self) -> Path:
        return self.flower / "run-apps"

    @property
    def node_config(self) -> Path:
        """What the SuperNode was last started with."""
        return self.flower / "node-config.toml"

    @property
    def partitions(self) -> Path:
        """`num-partitions`, once that is fixed."""
        return self.path / "partitions"

    # The aggregator's.

    @property
    def records(self) -> Path:
        return self.path / "records.jsonl"

    @property
    def seen(self) -> Path:
        """Pictures of what the aggregator saw in the last run."""
        return self.path / "seen.json"

    @property
    def current_run(self) -> Path:
        """The training run in hand."""
        return self.path / "training.json"

    @property
    def runs(self) -> Path:
        """Which Flower runs carried each training run."""
        return self.path / "runs.jsonl"

    @property
    def apps(self) -> Path:
        """The files of each app as it was last started."""
        return self.path / "apps.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def superlink(self) -> Path:
        """Flower's database."""
        return self.path / "superlink.db"

    @property
    def results(self) -> Path:
        """The ServerApp's working directory: what it saves under a relative name is here."""
        return self.path / "results"

    @property
    def flower_cli(self) -> Path:
        return self.path / "flower-cli"

    # The registry's.

    @property
    def ca_key(self) -> Path:
        return self.path / "ca-key.pem"

    @property
    def indices(self) -> Path:
        return self.path / "indices.json"

    @property
    def tokens(self) -> Path:
        """A file for each join token."""
        return self.path / "tokens"

    @property
    def join_folder_closed(self) -> Path:
        """While it is there, the join folder gets no token for any number of peers."""
        return self.path / "join-folder-closed"

    @property
    def draw_wanted(self) -> Path:
        """While it is there, the operator wants a draw."""
        return self.path / "draw-wanted"

    @property
    def claims(self) -> Path:
        """A file for each id, with its key."""
        return self.path / "claims"

    @property
    def reserved(self) -> Path:
        """A file for each id that tokens were made for."""
        return self.path / "reserved"

    @property
    def revoked(self) -> Path:
        return self.path / "revoked"

    @property
    def shared(self) -> Path:
        """A file for each id that came by a token of the join folder."""
        return self.path / "shared"


@dataclass(frozen=True)
class JoinFolder:
    """What a machine needs to enrol: the registry writes one for each role, and a service reads its own."""

    path: Path

    @property
    def ca(self) -> Path:
        return self.path / "ca.pem"

    @property
    def token(self) -> Path:
        return self.path / "token"


@dataclass(frozen=True)
class AuthorityFolder:
    """CA and join tokens for a registry that is given them; `smpcfl authority` makes one."""

    path: Path

    @property
    def ca_key(self) -> Path:
        return self.path / "ca-key.pem"

    @property
    def ca(self) -> Path:
        return self.path / "ca.pem"

    @classmethod
    def given(cls, setting: str) -> AuthorityFolder | None:
        """The one that `SMPCFL_AUTHORITY` names; None if it is empty."""
        return cls(Path(setting)) if setting else None

    def token(self, role: str) -> Path:
        """For any number of machines of `role`."""
        return self.path / f"{role}-token"
