"""URLs of Redis servers."""

from __future__ import annotations

import pytest

from sipwright.errors import ArgumentError
from sipwright.redis.addresses import RedisAddress, parse_url


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://localhost", RedisAddress(), "redis://localhost:6379/0"),
        ("redis://10.0.0.1:6380/4", RedisAddress("10.0.0.1", 6380, db=4), "redis://10.0.0.1:6380/4"),
        ("redis://[::1]:6380?db=2", RedisAddress("::1", 6380, db=2), "redis://[::1]:6380/2"),
        ("redis://:p%40ss@h/1", RedisAddress("h", password="p@ss", db=1), "redis://h:6379/1"),
        ("redis://ann:secret@h", RedisAddress("h", user="ann", password="secret"), "redis://h:6379/0"),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
            RedisAddress("h", tls=True, ca_file="/ca.pem", verify=False),
            "rediss://h:6379/0",
        ),
        ("unix:///run/redis.sock", RedisAddress("", path="/run/redis.sock"), "unix:///run/redis.sock"),
        (
            "unix://:secret@/run/r.sock?db=3",
            RedisAddress("", path="/run/r.sock", db=3, password="secret"),
            "unix:///run/r.sock?db=3",
        ),
    ],
)
def test_urls(url: str, address: RedisAddress, shown: str) -> None:
    assert parse_url(url) == address
    assert str(address) == shown


def test_no_way_to_write_an_address_shows_its_password() -> None:
    address = parse_url("redis://ann:secret@h/1")
    assert "secret" not in str(address) + repr(address)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", "a Redis server is written redis://host:port/db"),
        ("http://:secret@h", "a Redis server is written redis://host:port/db"),
        ("redis://", "redis:// needs a host, like redis://localhost:6379/0"),
        ("redis://:secret@h:port", "bad host or port"),
        ("redis://:secret@h:99999", "bad host or port"),
        ("redis://:secret@h/one", "the database of a Redis server is a number, not 'one'"),
        ("redis://h?size=3", "unknown option 'size' of a Redis server"),
        ("redis://h?ssl_cert_reqs=none", "options of TLS need a URL that begins with rediss://"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs is required or none"),
        ("unix://", "unix:// needs the path of a socket"),
    ],
)
def test_faults(url: str, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_url(url)
    assert message in caught.value.message
    assert "secret" not in caught.value.message
