"""From listening addresses to bound sockets."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from sipwright.script.settings import ListenAddress
from sipwright.transport import udp


def open_sockets(
    listen: Sequence[ListenAddress], workers: int = 1, receive_buffer: int = udp.RECEIVE_BUFFER
) -> list[list[socket.socket]]:
    """Bind each address for as many workers; return the sockets of each worker, one for each address in their order.

    `receive_buffer` is what may wait in each, in bytes. Host and port of an address become what was bound. StartError:
    one of them cannot be had; then none is open.
    """
    groups: list[list[socket.socket]] = []
    try:
        for address in listen:
            group = udp.bind(address.host, address.port, workers, receive_buffer)
            groups.append(group)
            address.host, address.port = group[0].getsockname()[:2]
    except BaseException:
        for group in groups:
            for bound in group:
                bound.close()
        raise
    return [list(sockets) for sockets in zip(*groups, strict=True)]
