"""What all ways to connect have in common: options of sockets."""

from __future__ import annotations

import socket

from sipwright.jsonrpc.sockets import keep_alive


def test_tcp_looks_after_silent_ends() -> None:
    with socket.socket() as one:
        keep_alive(one, 30)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
