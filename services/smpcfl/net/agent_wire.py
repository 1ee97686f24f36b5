"""What an agent, of a real or a virtual peer, replies to its ClientApp: masks, frozen uploads, in chunks."""

from __future__ import annotations

from collections.abc import Iterator

from smpc.v1 import local_pb2 as pb
from smpc.v1 import messages_pb2 as messages

from ..protocol.additive import AdditivePeerRound
from ..protocol.errors import Reason, RemoteError
from ..protocol.masks import AdditiveMasks, SeededMasks
from ..protocol.messages import Header
from ..protocol.peer_round import PeerRound
from . import rpc, wire

Round = PeerRound | AdditivePeerRound


def frozen_chunks(round_: Round) -> Iterator[pb.UploadChunk]:
    """The frozen upload. RemoteError(WRONG_PHASE), before the first chunk, if there is none."""
    if round_.frozen is None or round_.header is None:
        raise RemoteError(Reason.WRONG_PHASE, "nothing is frozen")
    yield pb.UploadChunk(meta=_meta(round_, round_.header))
    for piece in rpc.pieces(round_.frozen):
        yield pb.UploadChunk(vector=piece)


def masks_chunks(
    round_: Round, masks: SeededMasks | AdditiveMasks, header: Header
) -> Iterator[pb.MasksChunk]:
    """The masks of this round, and what goes with the upload."""
    meta = _meta(round_, header)
    if isinstance(masks, SeededMasks):
        yield pb.MasksChunk(meta=meta, self_key=masks.self_key, plus=masks.plus, minus=masks.minus)
        return
    yield pb.MasksChunk(meta=meta)
    for piece in rpc.pieces(masks.vector):
        yield pb.MasksChunk(vector=piece)


def _meta(round_: Round, header: Header) -> messages.UploadMeta:
    announcement = round_.announcement if isinstance(round_, PeerRound) else None
    return wire.upload_meta_to_proto(header, announcement)
