"""What the kernel tells of TCP connections, against what was sent through them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from smpcfl.base import tcp_sockets
from smpcfl.base.tcp_sockets import TcpSocket, TcpSockets, inodes

pytestmark = pytest.mark.sockets
LONG_S = 30.0

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both ends of a connection, over IPv4 and IPv6."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        server = socket.create_server((request.param, 0), family=family)
    except OSError as error:
        pytest.skip(f"no {request.param} here: {error}")
    with server, socket.create_connection(server.getsockname()[:2]) as one:
        other, _ = server.accept()
        with other:
            yield one, other


@pytest.fixture
def sockets() -> Iterator[TcpSockets]:
    found = TcpSockets()
    yield found
    found.close()


def found_in(sockets: TcpSockets, one: socket.socket) -> TcpSocket | None:
    port = one.getsockname()[1]
    return next((item for item in sockets.living() if item.local[1] == port), None)


def until(condition: Callable[[], object]) -> None:
    """What the kernel does a moment later."""
    latest = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.001)


def test_both_ends_of_a_connection_and_whose_they_are(pair: Pair, sockets: TcpSockets) -> None:
    one, other = pair
    one.sendall(bytes(1000))
    other.sendall(bytes(70))
    until(lambda: found_in(sockets, one).received == 70)  # type: ignore[union-attr]
    until(lambda: found_in(sockets, other).received == 1000)  # type: ignore[union-attr]
    here, there = found_in(sockets, one), found_in(sockets, other)
    assert here is not None
    assert there is not None
    assert (here.sent, there.sent) == (1001, 70), "a SYN counts as one"
    assert (here.remote, there.remote) == (there.local, here.local)
    assert {here.inode, there.inode} == {os.fstat(item.fileno()).st_ino for item in pair}
    assert {here.inode, there.inode} <= inodes([os.getpid()])
    assert not {here.inode, there.inode} & inodes([os.getppid(), 2**31 - 1])


def test_a_connection_that_nobody_looked_at_tells_at_its_end(
    pair: Pair, sockets: TcpSockets
) -> None:
    ports = {item.getsockname()[1]: item for item in pair}
    pair[0].sendall(bytes(1000))
    for item in pair:
        item.close()
    told: dict[int, TcpSocket] = {}

    def all_told() -> bool:
        ended, complete = sockets.ended()
        assert complete
        told.update({item.local[1]: item for item in ended if item.local[1] in ports})
        return len(told) == 2

    until(all_told)
    (most,) = [item for item in told.values() if item.sent > 900]
    assert most.sent in {1001, 1002}, "and so may a FIN"
    assert all(item.inode == 0 for item in told.values())


def test_more_ends_than_are_kept_for_us_are_said_to_be_missing(sockets: TcpSockets) -> None:
    sockets._ended.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(20):
            with socket.create_connection(server.getsockname()):
                server.accept()[0].close()
    until(lambda: not sockets.ended()[1])
    assert sockets.ended()[1], "said once"


def test_a_refusal_of_the_kernel_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_sockets, "_QUERY", struct.Struct("=BBBxI8x"))  # too short
    sockets = TcpSockets()
    with pytest.raises(OSError, match="Invalid argument"):
        list(sockets.living())
    sockets.close()


def test_without_linux_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    with pytest.raises(OSError, match="only Linux") as caught:
        TcpSockets()
    assert caught.value.errno == errno.ENOSYS
