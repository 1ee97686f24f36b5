"""What went over a link, as tcpdump wrote it down: packets by kind, and TCP streams, in VXLAN too."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dpkt

VXLAN = 4789
_VXLAN_HEADER = 8
_TLS_HEADER = 5
_TLS_TYPES = range(20, 24)  # change of cipher, alert, handshake, application data


class End(NamedTuple):
    address: str
    port: int


@dataclass
class Stream:
    """One direction of a connection, from its SYN on."""

    source: End
    target: End
    begin: int
    segments: dict[int, bytes] = field(default_factory=dict)

    @property
    def ports(self) -> set[int]:
        return {self.source.port, self.target.port}

    def data(self) -> bytes:
        """Its bytes, up to the first that was not captured."""
        found = bytearray()
        for place in sorted(self.segments):
            if place > len(found):
                break
            found += self.segments[place][len(found) - place :]
        return bytes(found)


def not_tls(data: bytes) -> bytes:
    """The beginning of what is no TLS record; empty if all is. The last one may be cut short."""
    place = 0
    while place < len(data):
        kind, version = data[place], data[place + 1 : place + 2] or b"\3"
        if kind not in _TLS_TYPES or version != b"\3":
            return data[place : place + 80]
        length = int.from_bytes(data[place + 3 : place + _TLS_HEADER], "big")
        place += _TLS_HEADER + length
    return b""


class Capture:
    """`kinds`: packets on the link by protocol and port. `streams`: of the link; `inner`: inside VXLAN."""

    def __init__(self, file: Path) -> None:
        self.kinds: Counter[str] = Counter()
        self.streams: list[Stream] = []
        self.inner: list[Stream] = []
        self._open: dict[tuple[End, End], Stream] = {}
        with file.open("rb") as raw:
            for _, packet in dpkt.pcap.Reader(raw):
                self._take(dpkt.ethernet.Ethernet(packet).data)

    def _take(self, packet: Any) -> None:
        inside = packet.data if isinstance(packet, dpkt.ip.IP) else None
        if isinstance(inside, dpkt.tcp.TCP):
            self.kinds[f"tcp {min(inside.sport, inside.dport)}"] += 1
            self._take_segment(packet, self.streams)
        elif isinstance(inside, dpkt.udp.UDP):
            self.kinds[f"udp {inside.dport}"] += 1
            if inside.dport == VXLAN:
                within = dpkt.ethernet.Ethernet(bytes(inside.data)[_VXLAN_HEADER:]).data
                if isinstance(within, dpkt.ip.IP) and isinstance(within.data, dpkt.tcp.TCP):
                    self._take_segment(within, self.inner)
                else:
                    self.kinds[f"in VXLAN: {_kind(within)}"] += 1
        else:
            self.kinds[_kind(packet)] += 1

    def _take_segment(self, packet: Any, streams: list[Stream]) -> None:
        segment = packet.data
        ends = (
            End(socket.inet_ntoa(packet.src), segment.sport),
            End(socket.inet_ntoa(packet.dst), segment.dport),
        )
        if segment.flags & dpkt.tcp.TH_SYN:
            begin = (segment.seq + 1) % 2**32
            if ends not in self._open or self._open[ends].begin != begin:  # not sent once more
                self._open[ends] = Stream(*ends, begin)
                streams.append(self._open[ends])
        elif ends in self._open and segment.data:
            stream = self._open[ends]
            place = (segment.seq - stream.begin) % 2**32
            if len(segment.data) > len(stream.segments.get(place, b"")):
                stream.segments[place] = bytes(segment.data)


def _kind(packet: Any) -> str:
    inside = getattr(packet, "data", None)
    port = f" {inside.dport}" if isinstance(inside, dpkt.udp.UDP | dpkt.tcp.TCP) else ""
    return f"{type(packet).__name__} {type(inside).__name__}{port}"
