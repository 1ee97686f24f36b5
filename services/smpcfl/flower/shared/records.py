"""The record named `smpcfl` in Flower's messages, and digests over what a ClientApp is given."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from cryptography import x509
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.user_config import UserConfig
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from ...net.node_proof import check_proof, node_bytes
from ...protocol.encoding import digest
from ...protocol.errors import LocalError, Reason, RemoteError
from ...protocol.ring import Raw

RECORD = "smpcfl"
VECTOR = "smpcfl-vector"
ERROR_CODE = 17  # of a reply of ours: Flower's own codes are below 10
MOST_P2P_BYTES = 1 << 42  # shares of the longest vector for the largest cohort
ENVELOPE_BYTES = 500  # what Flower says of one message and its objects, as measured


def arrays_of(content: RecordDict, *, several: bool = False) -> dict[str, npt.NDArray[Any]]:
    """The model in a message, in C order, whatever order it came in: digests know no other.

    Of several ArrayRecords the arrays are named RECORD/ARRAY, and so are those of a reply that holds only one
    of `several`. LocalError if there is none.
    """
    records = content.array_records
    if not records:
        raise LocalError("no ArrayRecord in the message: a model is needed")
    return {
        f"{key}/{name}" if several or len(records) > 1 else name: array
        for key, record in records.items()
        for name, array in to_numpy(record).items()
    }


def with_arrays(content: RecordDict, model: Mapping[str, npt.NDArray[Any]]) -> RecordDict:
    """A copy of the message with `model`, named as `arrays_of` names it, in place of its own.

    Arrays that `model` lacks are left out, and so are records of which nothing is left.
    """
    single = len(content.array_records) == 1
    copied: dict[str, Any] = {}
    for key, record in content.items():
        if not isinstance(record, ArrayRecord):
            copied[key] = record
            continue
        names = {name: name if single else f"{key}/{name}" for name in record}
        found = {name: model[full] for name, full in names.items() if full in model}
        if found or not record:
            copied[key] = to_record(found)
    return RecordDict(copied)


def to_numpy(record: ArrayRecord) -> dict[str, npt.NDArray[Any]]:
    """In C order."""
    return {name: np.asarray(array.numpy(), order="C") for name, array in record.items()}


def to_record(arrays: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    """What numpy made a number of, as of an array of no dimension, is an array again."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def content_digest(content: RecordDict, message_type: str, run_config: UserConfig) -> bytes:
    """SHA-256 over all that a ClientApp can see but its model's contents and itself, 32 bytes.

    That is the message's type, its records in order, each with name, kind and contents (of the model the
    names of its arrays alone: it has a digest of its own), and the run's configuration as the node was given
    it. Our own record is left out: the mod takes it away.
    """
    return digest(
        "content",
        message_type,
        [[key, _plain(value)] for key, value in sorted(run_config.items())],
        [
            [name, type(record).__name__, _contents(record)]
            for name, record in content.items()
            if name != RECORD
        ],
    )


def _contents(record: ArrayRecord | ConfigRecord | MetricRecord) -> list[Any]:
    if isinstance(record, ArrayRecord):
        return list(record)
    return [[key, _plain(value)] for key, value in record.items()]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return ["bool", int(value)] if isinstance(value, bool) else value


def vector_record(vector: Raw) -> ArrayRecord:
    """As bytes in an array: Flower sends arrays in chunks, and configuration values whole."""
    return ArrayRecord({VECTOR: Array(np.frombuffer(vector, np.uint8))})


def upload_of(reply: Message) -> tuple[bytes, bytes, int]:
    """Serialised UploadMeta, the vector's bytes, and the bytes sent to other peers so far.

    RemoteError(MALFORMED) for anything else: a node may send what it likes.
    """
    try:
        ours = reply.content.config_records[RECORD]
        meta, p2p_bytes = ours["meta"], ours["p2p-bytes"]
        vector = _bytes_of(reply.content.array_records[VECTOR][VECTOR])
        if type(meta) is bytes and type(p2p_bytes) is int and vector is not None:
            if not 0 <= p2p_bytes < MOST_P2P_BYTES:
                raise RemoteError(Reason.MALFORMED, "p2p-bytes", found=p2p_bytes)
            return meta, vector, p2p_bytes
    except RemoteError:
        raise
    except Exception as error:
        raise RemoteError(
            Reason.MALFORMED, "no upload in the reply: does the ClientApp use secure_mod?"
        ) from error
    raise RemoteError(Reason.MALFORMED, "fields of another type in the upload")


def _bytes_of(array: Array) -> bytes | None:
    """The inverse of `vector_record`; None for an array of anything else.

    `Array.numpy` makes room for as much as the header says before it sees how much there is.
    """
    stream = io.BytesIO(array.data)
    if np.lib.format.read_magic(stream) != (1, 0):
        return None
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    data = stream.read()
    return data if dtype == np.uint8 and shape == (len(data),) else None


def identity_of(reply: Message, node: int, ca: x509.Certificate) -> tuple[str, bytes]:
    """Peer id, and which instance of its agent this is. RemoteError if `node` has not shown which peer it is.

    `node`: the one that was asked. Its word alone would let one peer's node take the place of another's.
    """
    if reply.has_error():
        raise RemoteError(Reason.MALFORMED, str(reply.error.reason))
    answer = config_of(reply.content) or ConfigRecord()
    # "start" is the agent's instance: what goes through Flower keeps its name.
    fields = [answer.get(name) for name in ("start", "certificate", "signature")]
    if not all(isinstance(item, bytes) for item in fields):
        raise RemoteError(Reason.MALFORMED, "no identity in the answer")
    instance, certificate, signature = (cast(bytes, item) for item in fields)
    member = check_proof(certificate, node_bytes(node, instance), signature, ca)
    return member.name, instance


def config_of(content: RecordDict) -> ConfigRecord | None:
    return content.config_records.get(RECORD)


def plain_bytes(model: Mapping[str, npt.NDArray[Any]]) -> int:
    """Payload of a reply with this model where it goes in the clear."""
    metrics = MetricRecord({"num-examples": 1, "loss": 0.0, "accuracy": 0.0})
    return message_bytes(RecordDict({"arrays": to_record(model), "metrics": metrics}))


def message_bytes(message: Message | RecordDict) -> int:
    """Payload of a message, or one with this content, on Flower's connection.

    Without HTTP's headers: each object goes in a request of its own, with 0.8 kB of them.
    """
    objects = get_all_nested_objects(message)
    return sum(len(item.deflate()) for item in objects.values()) + ENVELOPE_BYTES
