"""What each TCP connection of this machine has carried, as the kernel counts it (sock_diag(7)).

Linux alone has this; it needs no privilege, and shows the sockets of this network namespace. Read by hand: a
library for netlink takes 20 ms for 200 sockets, where this takes 2, and does not hear of those that end.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_NETLINK_SOCK_DIAG = 4
_ENDED_GROUPS = 1 << 0 | 1 << 2  # SKNLGRP_INET_TCP_DESTROY and its twin for IPv6
_SOCK_DIAG_BY_FAMILY, _ERROR, _DONE = 20, 2, 3
_REQUEST_DUMP = 0x301
_INFO = 2  # INET_DIAG_INFO: a struct tcp_info
_LISTEN, _TIME_WAIT = 10, 6
_STATES = 0xFFF & ~(1 << _LISTEN | 1 << _TIME_WAIT)  # those with counts
_DATAGRAM_BYTES = 1 << 18
_BUFFER_BYTES = 1 << 20

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_QUERY = struct.Struct("=BBBxI48x")  # inet_diag_req_v2: family, protocol, extensions, states
# inet_diag_msg: family, both ports, both addresses, cookie, inode
_SOCKET = struct.Struct("=Bxxx2s2s16s16s4xQ16xI")
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_COUNTS = struct.Struct("=120x2Q")  # of tcp_info: bytes_acked, bytes_received (since Linux 4.2)


class TcpSocket(NamedTuple):
    """`cookie` is unique as long as the machine runs; `inode` is 0 once no process has the socket.

    `sent` is what the other end acknowledged. Both counts are of what TCP carries, without headers; the
    kernel adds one for each SYN it sent and each FIN.
    """

    cookie: int
    inode: int
    local: tuple[bytes, int]  # address, port
    remote: tuple[bytes, int]
    sent: int
    received: int


class TcpSockets:
    """OSError where the system does not tell: no Linux, no such kernel module, a sandbox."""

    def __init__(self) -> None:
        self._ended = _netlink()
        try:
            # As much as the system allows: some 300 ends between two calls of `ended`.
            self._ended.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            self._ended.bind((0, _ENDED_GROUPS))
            self._ended.setblocking(False)
        except OSError:
            self._ended.close()
            raise

    def living(self) -> Iterator[TcpSocket]:
        """All connections, but those that wait out their time without a process."""
        with _netlink() as asking:
            for family in (socket.AF_INET, socket.AF_INET6):
                query = _QUERY.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), _STATES)
                size = _HEADER.size + len(query)
                header = _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0)
                asking.send(header + query)
                done = False
                while not done:
                    found, done = _read(asking.recv(_DATAGRAM_BYTES))
                    yield from found

    def ended(self) -> tuple[list[TcpSocket], bool]:
        """Those that came to their end since the last call, and whether these are all."""
        found: list[TcpSocket] = []
        complete = True
        while True:
            try:
                found += _read(self._ended.recv(_DATAGRAM_BYTES))[0]
            except BlockingIOError:
                return found, complete
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more than fit since the last call
                    raise
                complete = False

    def close(self) -> None:
        self._ended.close()


def _netlink() -> socket.socket:
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(errno.ENOSYS, "only Linux tells")
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)


def _read(data: bytes) -> tuple[list[TcpSocket], bool]:
    """The sockets in one datagram, and whether the last one is among them."""
    found: list[TcpSocket] = []
    place = 0
    while place < len(data):
        size, kind, *_ = _HEADER.unpack_from(data, place)
        start, end = place + _HEADER.size, place + size
        if kind == _DONE:
            return found, True
        if kind == _ERROR:
            number = -struct.unpack_from("=i", data, start)[0]
            raise OSError(number, os.strerror(number))
        if (counts := _counts(data, start + _SOCKET.size, end)) is not None:
            _, local_port, remote_port, local, remote, cookie, inode = _SOCKET.unpack_from(
                data, start
            )
            here = local, int.from_bytes(local_port, "big")
            there = remote, int.from_bytes(remote_port, "big")
            found.append(TcpSocket(cookie, inode, here, there, *counts))
        place += (size + 3) & ~3
    return found, False


def _counts(data: bytes, place: int, end: int) -> tuple[int, int] | None:
    while place < end:
        size, kind = _ATTRIBUTE.unpack_from(data, place)
        if kind == _INFO:
            sent, received = _COUNTS.unpack_from(data, place + _ATTRIBUTE.size)
            return sent, received
        place += (size + 3) & ~3
    return None


def inodes(pids: Iterable[int]) -> set[int]:
    """Of the sockets that these processes have open; none of a process that has ended."""
    found: set[int] = set()
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            numbers = os.listdir(folder)
        except OSError:
            continue
        for number in numbers:
            try:
                target = os.readlink(f"{folder}/{number}")
            except OSError:  # closed since
                continue
            if target.startswith("socket:["):
                found.add(int(target[len("socket:[") : -1]))
    return found
