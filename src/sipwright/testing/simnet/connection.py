"""A simulated connection: its two transports and two flows, and what a test may do to it."""

from __future__ import annotations

import errno
import os

from sipwright.testing.simnet.flow import Flow, Link, Medium
from sipwright.testing.simnet.transport import Side, SimTransport


class SimConnection:
    """A connection: what a test may do to it. `number` counts them; `client` and `server` are "host:port" names."""

    def __init__(self, medium: Medium, number: int, client: Side, server: Side, links: tuple[Link, Link]) -> None:
        self.number = number
        self.client, self.server = client.name, server.name
        self.client_end = SimTransport(medium.loop, self, client, server.address)
        self.server_end = SimTransport(medium.loop, self, server, client.address)
        self.to_server = Flow(medium, self.client_end, self.server_end, links[0], is_to_server=True)
        self.to_client = Flow(medium, self.server_end, self.client_end, links[1], is_to_server=False)
        self.to_server.back, self.to_client.back = self.to_client, self.to_server
        self.client_end.incoming = self.server_end.outgoing = self.to_client
        self.client_end.outgoing = self.server_end.incoming = self.to_server
        self._ended = medium.connection_ended

    def __repr__(self) -> str:
        return f"<SimConnection {self.number}: {self.client} to {self.server}>"

    def reset(self) -> None:
        """Break the connection: both ends lose it now, and what is under way is gone."""
        self.to_server.note("reset")
        for end in (self.client_end, self.server_end):
            end.lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        for flow in (self.to_server, self.to_client):
            flow.drop()

    def reset_after(self, *, to_server: int | None = None, to_client: int | None = None) -> None:
        """Break the connection after so many bytes more in one direction or, whichever is first, in both."""
        if to_server is not None:
            self.to_server.left = to_server
        if to_client is not None:
            self.to_client.left = to_client

    def end_gone(self) -> None:
        """Take note that one end has finished."""
        if self.client_end.is_finished and self.server_end.is_finished:
            self.to_server.drop()
            self.to_client.drop()
            self._ended(self)
