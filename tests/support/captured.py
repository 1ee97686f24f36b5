"""What went over a link, as tcpdump wrote it down: by outer protocol, and the TCP streams inside VXLAN."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dpkt

VXLAN = 4789
_VXLAN_HEADER = 8
_TLS_HEADER = 5
_TLS_TYPES = range(20, 24)  # change cipher spec, alert, handshake, application data


class Flow(NamedTuple):
    """One direction of a TCP connection."""

    source: str
    source_port: int
    target: str
    target_port: int

    @property
    def ports(self) -> set[int]:
        return {self.source_port, self.target_port}


@dataclass
class Stream:
    """The bytes of one direction of a connection, from its SYN on."""

    flow: Flow
    begin: int
    segments: dict[int, bytes] = field(default_factory=dict)

    def data(self) -> bytes:
        """As far as nothing is missing."""
        found = bytearray()
        for place in sorted(self.segments):
            if place > len(found):
                break
            found += self.segments[place][len(found) - place :]
        return bytes(found)


def not_tls(data: bytes) -> bytes:
    """What follows the last whole TLS record and is no beginning of another one; empty if all is TLS."""
    place = 0
    while len(data) - place >= _TLS_HEADER:
        kind, major = data[place], data[place + 1]
        if kind not in _TLS_TYPES or major != 3:
            return data[place : place + 80]
        place += _TLS_HEADER + int.from_bytes(data[place + 3 : place + _TLS_HEADER], "big")
    return b""


class Capture:
    """`outer`: packets by protocol and port. `streams`: those inside VXLAN that were seen to begin."""

    def __init__(self, file: Path) -> None:
        self.outer: Counter[str] = Counter()
        self.inner: Counter[str] = Counter()
        self.streams: list[Stream] = []
        self._open: dict[Flow, Stream] = {}
        with file.open("rb") as raw:
            for _, packet in dpkt.pcap.Reader(raw):
                self._take(dpkt.ethernet.Ethernet(packet))

    def _take(self, frame: Any) -> None:
        packet = frame.data
        if isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.udp.UDP):
            datagram = packet.data
            self.outer[f"udp {datagram.dport}"] += 1
            if datagram.dport == VXLAN:
                self._take_inner(dpkt.ethernet.Ethernet(bytes(datagram.data)[_VXLAN_HEADER:]))
        elif isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.tcp.TCP):
            self.outer[f"tcp {min(packet.data.sport, packet.data.dport)}"] += 1
        else:
            self.outer[_kind(packet)] += 1

    def _take_inner(self, frame: Any) -> None:
        packet = frame.data
        if not (isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.tcp.TCP)):
            self.inner[_kind(packet)] += 1
            return
        segment = packet.data
        flow = Flow(
            socket.inet_ntoa(packet.src),
            segment.sport,
            socket.inet_ntoa(packet.dst),
            segment.dport,
        )
        self.inner[f"tcp {min(flow.ports)}"] += 1
        if segment.flags & dpkt.tcp.TH_SYN:
            if flow not in self._open or self._open[flow].begin != (segment.seq + 1) % 2**32:
                self._open[flow] = Stream(flow, (segment.seq + 1) % 2**32)
                self.streams.append(self._open[flow])
        elif flow in self._open and segment.data:
            stream = self._open[flow]
            place = (segment.seq - stream.begin) % 2**32
            known = stream.segments.get(place, b"")
            if len(segment.data) > len(known):
                stream.segments[place] = bytes(segment.data)

    def of_ports(self, ports: set[int]) -> Iterator[Stream]:
        """Streams from or to one of `ports`."""
        return (stream for stream in self.streams if stream.flow.ports & ports)


def _kind(packet: Any) -> str:
    inside = getattr(packet, "data", None)
    if isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6) and isinstance(inside, dpkt.udp.UDP):
        return f"{type(packet).__name__} udp {inside.dport}"
    return f"{type(packet).__name__} {type(inside).__name__}"
