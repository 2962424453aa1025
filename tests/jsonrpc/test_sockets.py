"""What all ways to connect have in common: options of sockets."""

from __future__ import annotations

import socket

from sipwright.jsonrpc.sockets import keep_alive, reason


def test_tcp_looks_after_silent_ends() -> None:
    with socket.socket() as one:
        keep_alive(one, 30)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_a_handshake_that_is_broken_off_is_told_in_words() -> None:
    assert "closed the connection during the TLS handshake" in reason(ConnectionResetError())
    assert reason(ConnectionResetError(104, "x")) == "Connection reset by peer"
