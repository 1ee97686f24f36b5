"""What a ServerApp reports to the aggregator's service, as protobuf; local.proto has the messages."""

from __future__ import annotations

from smpc.v1 import local_pb2 as pb

from ..reports.record import RoundRecord


def encodable(text: str) -> str:
    """For protobuf: without the halves of characters that a file's name on disk may have."""
    return text.encode(errors="replace").decode()


def record_to_proto(record: RoundRecord) -> pb.RoundRecord:
    members = record.to_members()
    members["reason"] = encodable(record.reason)
    members["groups"] = [
        pb.GroupRecord(**{**group, "reason": encodable(group["reason"])})
        for group in members["groups"]
    ]
    members["suspected"] = {
        peer: pb.SuspectedRounds(runs=[run for run, _ in rounds], rounds=[n for _, n in rounds])
        for peer, rounds in record.suspected.items()
    }
    members["lost"] = {peer: encodable(why) for peer, why in record.lost.items()}
    return pb.RoundRecord(**members)


def record_from_proto(message: pb.RoundRecord) -> RoundRecord:
    """ValueError for values that no record has."""
    members: dict[str, object] = {
        field.name: getattr(message, field.name)
        for field in pb.RoundRecord.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }
    members["phase_seconds"] = dict(message.phase_seconds)
    members["lost"] = dict(message.lost)
    members["groups"] = [
        {field.name: getattr(group, field.name) for field in pb.GroupRecord.DESCRIPTOR.fields}
        for group in message.groups
    ]
    members["suspected"] = {
        peer: list(zip(found.runs, found.rounds, strict=True))
        for peer, found in message.suspected.items()
    }
    for name in ("accuracy", "loss", "train_loss"):
        members.setdefault(name, None)
    return RoundRecord.from_members(members)
