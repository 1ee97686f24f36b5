"""What tcpdump caught, put together: the bytes of each TCP stream, one way. Ethernet and IPv4 alone."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HANDSHAKE, _RECORDS = 22, {20, 21, 22, 23}  # change of cipher, alert, handshake, application data
_SYN = 0x02


class End(NamedTuple):
    address: str
    port: int


class Stream(NamedTuple):
    source: End
    target: End
    data: bytes


def streams(path: Path) -> list[Stream]:
    """Those with data whose start was seen, up to the first byte that was not."""
    starts: dict[tuple[End, End], int] = {}
    pieces: dict[tuple[End, End, int], list[tuple[int, bytes]]] = {}
    for source, target, sequence, flags, data in _segments(path):
        if flags & _SYN:
            starts[source, target] = sequence + 1
        elif data and (source, target) in starts:
            start = starts[source, target]
            place = (sequence - start) % 2**32
            pieces.setdefault((source, target, start), []).append((place, data))
    return [Stream(source, target, _joined(found)) for (source, target, _), found in pieces.items()]


def _joined(pieces: list[tuple[int, bytes]]) -> bytes:
    whole = b""
    for place, data in sorted(pieces):
        if place > len(whole):
            break
        whole += data[len(whole) - place :]
    return whole


def _segments(path: Path) -> Iterator[tuple[End, End, int, int, bytes]]:
    data = path.read_bytes()
    place = 24  # of the file's header
    while place + 16 <= len(data):
        size = struct.unpack_from("<8xI", data, place)[0]
        packet = data[place + 16 : place + 16 + size]
        place += 16 + size
        if packet[12:14] != b"\x08\x00" or packet[23] != 6:
            continue
        ip = packet[14:]
        tcp = ip[(ip[0] & 15) * 4 : struct.unpack_from("!H", ip, 2)[0]]
        source, target, sequence = struct.unpack_from("!HHI", tcp)
        addresses = [".".join(map(str, ip[at : at + 4])) for at in (12, 16)]
        ends = End(addresses[0], source), End(addresses[1], target)
        yield *ends, sequence, tcp[13], tcp[(tcp[12] >> 4) * 4 :]


def is_tls(stream: bytes) -> bool:
    """Whether it is records of TLS from its first byte to its last, which may be cut short."""
    if stream[:2] != bytes([_HANDSHAKE, 3]):
        return False
    place = 0
    while place + 5 <= len(stream):
        kind, version, size = struct.unpack_from("!BHH", stream, place)
        if kind not in _RECORDS or version >> 8 != 3:
            return False
        place += 5 + size
    return True
