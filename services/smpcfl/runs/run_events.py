"""What a ServerApp reports to the aggregator's service, as protobuf; local.proto has the messages."""

from __future__ import annotations

from smpc.v1 import local_pb2 as pb

from ..reports.record import RoundRecord


def encodable(text: str) -> str:
    """For protobuf: without the halves of characters that a file's name on disk may have."""
    return text.encode(errors="replace").decode()


def record_to_proto(record: RoundRecord) -> pb.RoundRecord:
    members = record.to_members()
    return pb.RoundRecord(**{**members, "reason": encodable(record.reason)})


def record_from_proto(message: pb.RoundRecord) -> RoundRecord:
    """ValueError for values that no record has."""
    members: dict[str, object] = {
        field.name: getattr(message, field.name)
        for field in pb.RoundRecord.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }
    members["phase_seconds"] = dict(message.phase_seconds)
    for name in ("accuracy", "loss", "train_loss"):
        members.setdefault(name, None)
    return RoundRecord.from_members(members)
