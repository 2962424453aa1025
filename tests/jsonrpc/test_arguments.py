"""Arguments of a client that cannot be meant are told when it is made, by both clients in the same words."""

import math
import ssl
from typing import Any

import pytest

from sipwright.errors import ArgumentError
from sipwright.jsonrpc import Client, ServerSpec, SyncClient
from sipwright.jsonrpc.addresses import parse_address
from sipwright.jsonrpc.arguments import check_number, read_codes, read_methods

WRONG: list[tuple[str, Any, str]] = [
    ("timeout", "1", "timeout is a number above 0, not '1'"),
    ("timeout", 0, "timeout is a number above 0, not 0"),
    ("timeout", -1.0, "timeout is a number above 0, not -1.0"),
    ("timeout", math.nan, "timeout is a number above 0, not nan"),
    ("timeout", None, "timeout is a number above 0, not None"),
    ("retry", -1, "retry is a number of 0 or more, not -1"),
    ("retry", True, "retry is a number of 0 or more, not True"),
    ("max_pending", 0, "max_pending is a number above 0, not 0"),
    ("max_waiting", -1, "max_waiting is a number of 0 or more, not -1"),
    ("max_size", 0, "max_size is a number above 0, not 0"),
    ("reconnect_interval", 0, "reconnect_interval is a number above 0, not 0"),
    ("probe_interval", 0, "probe_interval is a number above 0, not 0"),
    ("min_srv_ttl", -1, "min_srv_ttl is a number of 0 or more, not -1"),
    ("retry_delay", -1, "retry_delay is a number of 0 or more, not -1"),
    ("max_failures", -1, "max_failures is a number of 0 or more, not -1"),
    ("hedge", -1, "hedge is a number of 0 or more, not -1"),
    ("idempotent_methods", "get", "idempotent_methods are names of methods, such as ['get_user'], not 'get'"),
    ("idempotent_methods", [1], "idempotent_methods are names of methods, such as ['get_user'], not [1]"),
    ("retry_codes", "-1", "retry_codes are codes of errors and ranges of them, such as [-32000], not '-1'"),
    ("retry_codes", 1, "retry_codes are codes of errors and ranges of them, such as [-32000], not 1"),
    ("retry_codes", ["x"], "retry_codes has codes of errors and ranges of them, not 'x'"),
    ("tls", "ca.pem", "tls is a Tls, such as Tls(cafile='ca.pem'), not 'ca.pem'"),
]


@pytest.mark.parametrize("client", [Client, SyncClient])
@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_an_argument_that_cannot_be_meant_is_refused_at_once(client: Any, name: str, value: Any, said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        client("127.0.0.1:1,1", **{name: value})
    assert str(caught.value) == said


@pytest.mark.parametrize("client", [Client, SyncClient])
def test_what_is_at_the_edge_is_taken(client: Any) -> None:
    client("127.0.0.1:1,1", timeout=math.inf, retry=0, max_waiting=0, retry_delay=0, hedge=0, max_failures=0)
    client("127.0.0.1:1,1", idempotent_methods=["get"], retry_codes=[-32000, range(-32099, -32000)])


@pytest.mark.parametrize("client", [Client, SyncClient])
def test_a_list_of_servers_has_specs(client: Any) -> None:
    client([ServerSpec(parse_address("127.0.0.1:1"), 1)])
    for servers, said in (
        (["127.0.0.1:1,1"], "a list of servers has a ServerSpec for each, not '127.0.0.1:1,1'"),
        (None, "servers are a text like 'host:port,priority' or a list of ServerSpec, not None"),
    ):
        with pytest.raises(ArgumentError) as caught:
            client(servers)
        assert str(caught.value) == said


@pytest.mark.parametrize("client", [Client, SyncClient])
def test_a_context_of_ssl_is_no_tls(client: Any) -> None:
    with pytest.raises(ArgumentError, match=r"tls is a Tls, such as Tls\(cafile='ca.pem'\)"):
        client("tls:127.0.0.1:1,1", tls=ssl.create_default_context())


def test_each_reader_gives_what_it_was_given() -> None:
    assert read_methods(["a", "b"]) == {"a", "b"}
    codes: list[int | range] = [1, range(2, 4)]
    assert read_codes(iter(codes)) == (1, range(2, 4))
    check_number("x", 0.5, above=0)
    check_number("x", 0, least=0)
