"""Server lists: each kind of mistake has its own message and place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_address, parse_group, parse_servers


def test_the_example_of_the_manual() -> None:
    assert parse_servers("localhost:9999,2 10.10.0.1:9999,2 backup.server:9999,1") == [
        ServerSpec(ServerAddress("localhost", 9999), 2),
        ServerSpec(ServerAddress("10.10.0.1", 9999), 2),
        ServerSpec(ServerAddress("backup.server", 9999), 1),
    ]


def test_addresses_of_every_kind_and_any_white_space() -> None:
    text = "  [2001:db8::1]:1,0\n[::1]:65535,-5\ta_b-c.d:080,10 tls:8080,1 "
    specs = parse_servers(text)
    assert [str(spec.address) for spec in specs] == ["[2001:db8::1]:1", "[::1]:65535", "a_b-c.d:80", "tls:8080"]
    assert [spec.priority for spec in specs] == [0, -5, 10, 1]


def test_tls_unix_and_srv_take_the_place_of_host_and_port() -> None:
    text = "tls:a:1,3 TLS:[::1]:2,3 tcp:b:3,2 unix:/run/x.sock,2 unix:@x,2 srv:_rpc._tls.example.org.,1"
    addresses = [spec.address for spec in parse_servers(text)]
    assert addresses == [
        ServerAddress("a", 1, "tls"),
        ServerAddress("::1", 2, "tls"),
        ServerAddress("b", 3),
        ServerAddress("/run/x.sock", 0, "unix"),
        ServerAddress("@x", 0, "unix"),
        ServerAddress("_rpc._tls.example.org", 0, "srv"),
    ]
    assert [parse_address(str(address)) for address in addresses] == addresses


def test_a_weight_stands_behind_the_priority() -> None:
    assert [spec.weight for spec in parse_servers("a:1,1 b:1,1,10 unix:/x,1,65535")] == [1, 10, 65535]


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_no_text_is_no_servers(text: str) -> None:
    assert parse_servers(text) == []


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("localhost", "no port", 9),
        ("localhost,1", "no port", 9),
        ("localhost:,1", "no port after", 10),
        ("localhost:", "no port after", 10),
        ("localhost:abc,1", "not a number", 10),
        ("localhost:-1,1", "not a number", 10),
        ("localhost:0,1", "out of range", 10),
        ("localhost:65536,1", "out of range", 10),
        ("localhost:99999999999999999999,1", "out of range", 10),
        ("localhost:80", "has no priority", 12),
        ("localhost:80,", "no priority after the comma", 13),
        ("localhost:80,high", "priority 'high' is not an integer", 13),
        ("localhost:80,1.5", "priority '1.5' is not an integer", 13),
        ("localhost:80,1,", "stray comma after", 14),
        ("localhost:80,1,b:80,1", "stray comma after", 19),
        ("localhost:80,,1", "stray comma", 13),
        (",a:80,1", "stray comma", 0),
        ("a:80,1 , b:80,1", "stray comma", 7),
        (":80,1", "no host", 0),
        ("::1:80,1", "no host", 0),
        ("fe80::1:80,1", "too many colons", 5),
        ("http://a:80,1", "'http://a:80,1' looks like a URL", 0),
        ("a:1,1 tcp://a:80,1", "'tcp://a:80,1' looks like a URL", 6),
        ("udp:a:80,1", "'udp:' is no kind of address, expected one of tcp:, tls:, unix:, srv:", 0),
        ("[::1:80,1", "not closed", 0),
        ("[]:80,1", "not an IPv6 address", 1),
        ("[10.0.0.1]:80,1", "not an IPv6 address", 1),
        ("[::1]80,1", "after the bracket", 5),
        ("[::1],1", "no port", 3),
        ("a b:80,1", "no port", 1),
        ("ok:80,1 bad/host:80,1", "cannot be at this place", 11),
        ("-a:80,1", "cannot be at this place", 0),
        ("a-:80,1", "cannot be at this place", 1),
        ("300.1.1.1:80,1", "not an IPv4 address", 0),
        ("10.1.1:80,1", "not an IPv4 address", 0),
        ("localhost:80,1,2,3", "stray comma after", 16),
        ("localhost:80,1,0", "weight '0'", 15),
        ("localhost:80,1,65536", "weight '65536'", 15),
        ("localhost:80,1,-1", "weight '-1'", 15),
        ("tls:host,1", "no port", 8),
        ("tls:host:0,1", "out of range", 9),
        ("tls:,1", "no host|no port", 4),
        ("unix:run/x.sock,1", "path of a socket", 5),
        ("unix:/,1", "path of a socket", 5),
        ("unix:/run/x.sock", "no priority", 16),
        ("a:80,1 unix:/" + "x" * 107 + ",1", "at most 107 bytes", 12),
        ("a:80,1 srv:_rpc.example.org,1", "SRV records", 11),
        ("srv:rpc._tcp.example.org,1", "SRV records", 4),
    ],
)
def test_each_mistake_has_its_message_and_place(text: str, message: str, offset: int) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        parse_servers(text)
    assert caught.value.offset == offset


def read(text: str) -> tuple[list[ServerSpec], ArgumentError | None]:
    try:
        return parse_servers(text), None
    except ArgumentError as fault:
        return [], fault


@given(st.text(alphabet="ab1:,[] .-=>tlsunixrv/9", max_size=30))
def test_any_text_is_read_or_refused_with_a_place_inside_it(text: str) -> None:
    specs, fault = read(text)
    if fault is not None:
        assert fault.offset is not None
        assert 0 <= fault.offset <= len(text)
    else:
        assert parse_servers(" ".join(f"{spec.address},{spec.priority},{spec.weight}" for spec in specs)) == specs


def test_a_named_group() -> None:
    assert parse_group("billing => a:1,1 b:2,1")[0] == "billing"
    assert len(parse_group("billing=>a:1,1 b:2,1")[1]) == 2


@pytest.mark.parametrize(("text", "offset"), [("a:1,1", 0), ("=>a:1,1", 0), ("g=>a:x,1", 5)])
def test_a_wrong_group_is_refused_with_its_place(text: str, offset: int) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_group(text)
    assert caught.value.offset == offset


def test_one_address_without_a_priority() -> None:
    assert parse_address("[::1]:80") == ServerAddress("::1", 80)
    with pytest.raises(ArgumentError, match="unexpected ',1'"):
        parse_address("a:80,1")
