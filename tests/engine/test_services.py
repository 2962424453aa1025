"""What modules get from the worker: which addresses are its own."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.script.settings import ListenAddress


@pytest.mark.parametrize(
    ("listen", "host", "port", "is_it"),
    [
        (ListenAddress("udp", "192.0.2.1", 5060), "192.0.2.1", 5060, True),
        (ListenAddress("udp", "192.0.2.1", 5060), "192.0.2.1", 0, True),
        (ListenAddress("udp", "192.0.2.1", 5060), "192.0.2.1", 5061, False),
        (ListenAddress("udp", "192.0.2.1", 5060), "192.0.2.2", 5060, False),
        (ListenAddress("udp", "2001:db8::A", 5060), "[2001:DB8::a]", 5060, True),
        (ListenAddress("udp", "192.0.2.1", 5060, ("Sip.Example.org", 5080)), "sip.example.ORG", 5080, True),
        (ListenAddress("udp", "192.0.2.1", 5060, ("Sip.Example.org", 5080)), "sip.example.org", 5060, False),
        (ListenAddress("udp", "0.0.0.0", 5060), "127.0.0.1", 5060, True),
        (ListenAddress("udp", "0.0.0.0", 5060), "127.0.0.1", 5061, False),
        (ListenAddress("udp", "0.0.0.0", 5060), "198.51.100.7", 5060, False),
        (ListenAddress("udp", "0.0.0.0", 5060), "224.0.0.1", 5060, False),
        (ListenAddress("udp", "0.0.0.0", 5060), "localhost", 5060, False),
    ],
)
def test_its_own_are_the_addresses_that_it_listens_on(
    server: Any, listen: ListenAddress, host: str, port: int, is_it: bool
) -> None:
    server.route(lambda _ctx: 1)
    services = server.core.services
    services.listen = [listen]
    assert services.is_myself(host, port) is is_it
