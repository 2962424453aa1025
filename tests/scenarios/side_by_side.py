"""One script and one service for Kamailio and for sipwright, and what was seen of either.

`running` starts the server of that name; everything after it is the same for both, so a test that takes the name as its
parameter compares them: by expecting the same of both, or by saying for each what it does.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.scenarios.processes import KamailioProcess, SipServerProcess, SipwrightProcess
from tests.scenarios.scripted_service import Behaviour, Call, ScriptedService
from tests.scenarios.scripts import script
from tests.scenarios.sip_client import SipClient, SipReply

SERVERS: dict[str, Callable[[str, Path], SipServerProcess]] = {
    "kamailio": KamailioProcess,
    "sipwright": SipwrightProcess,
}


@dataclass
class Seen:
    """The final reply to one request, how long it took (seconds), and the JSON-RPC calls made meanwhile."""

    reply: SipReply
    seconds: float
    calls: list[Call]

    @property
    def status(self) -> int:
        return self.reply.status

    @property
    def route(self) -> str | None:
        """The name of the route that replied, if it told."""
        return self.reply.header("X-Route")

    @property
    def result(self) -> Any:
        """What the result variable held: parsed when it is a JSON object or array, whose white space is free."""
        return meaning(self.reply.header("X-Result"))

    @property
    def wire(self) -> list[tuple[str, Any]]:
        """Method and parsed params of each call."""
        return [(call.method, call.params) for call in self.calls]


@dataclass
class Running:
    """A server with its service."""

    name: str
    server: SipServerProcess
    service: ScriptedService

    def connect(self) -> SipClient:
        """Make a client of its own socket, so that no reply to an earlier request can come to it."""
        return SipClient(self.server.address)

    def wait_until_connected(self, *services: ScriptedService, seconds: float = 5.0) -> None:
        """Wait until the server can ask every one of these services; Kamailio asks only the first of equal ones."""
        for service in services:
            service.wait_for_connections()
        before, deadline = [service.probes for service in services], time.monotonic() + seconds
        reached = any if self.name == "kamailio" else all
        while not reached(service.probes > was for service, was in zip(services, before, strict=True)):
            assert time.monotonic() < deadline, f"not every service could be asked within {seconds} s"
            self.ask("connected")
            time.sleep(0.01)

    def ask(self, user: str, method: str = "OPTIONS", headers: Mapping[str, str] | None = None) -> Seen:
        """Send a request for a user and wait for its final reply."""
        before, began = len(self.service.calls), time.monotonic()
        with self.connect() as client:
            reply = client.ask(method, user=user, headers=headers or {})
        return Seen(reply, time.monotonic() - began, self.service.calls[before:])


@contextlib.contextmanager
def running(
    name: str,
    routes: str,
    behaviour: Behaviour,
    directory: Path,
    *,
    servers: str | None = None,
    parameters: str = "",
) -> Iterator[Running]:
    """Run the server of that name with a script around `routes`, beside a service of that behaviour.

    `servers` replaces the address of that service in the script; `parameters` are further lines of its head.
    """
    with ScriptedService(behaviour) as service:
        text = script(routes, service.port, servers=servers, parameters=parameters)
        with SERVERS[name](text, directory) as server:
            started = Running(name, server, service)
            if servers is None:
                started.wait_until_connected(service)
            try:
                yield started
            finally:
                started.service.close()  # a test may have put another in the place of the first


def meaning(text: str | None) -> Any:
    """Parse the text of a JSON object or array; return any other text as it is, since its spelling counts."""
    return json.loads(text) if text and text[0] in "{[" else text
