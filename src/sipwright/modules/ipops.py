"""Module ipops: questions about IP addresses. A host name is no address: nothing is looked up in the DNS.

An IPv6 address stands in brackets or without; the functions with `pure` in their name take none in brackets.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from sipwright.script.context import Context
from sipwright.script.kinds import NullableStr
from sipwright.script.module import Module, function

_PRIVATE = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


class Ipops(Module):
    """IP addresses as texts."""

    name = "ipops"

    @function()
    def is_ip(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is an IP address."""
        return 1 if _address(text) is not None else -1

    @function()
    def is_pure_ip(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is an IP address without brackets."""
        return 1 if _pure_address(text) is not None else -1

    @function("is_ip4")
    @function()
    def is_ipv4(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is an IPv4 address."""
        return 1 if isinstance(_pure_address(text), IPv4Address) else -1

    @function("is_ip6")
    @function()
    def is_ipv6(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is an IPv6 address without brackets."""
        return 1 if isinstance(_pure_address(text), IPv6Address) else -1

    @function("is_ip6_reference")
    @function()
    def is_ipv6_reference(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is an IPv6 address in brackets."""
        return 1 if text[:1] == "[" and isinstance(_address(text), IPv6Address) else -1

    @function()
    def is_ip_rfc1918(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is an IPv4 address of a private network (RFC 1918 section 3)."""
        address = _pure_address(text)
        return 1 if isinstance(address, IPv4Address) and any(address in network for network in _PRIVATE) else -1

    @function("ip_is_in_subnet")
    @function()
    def is_in_subnet(self, _ctx: Context, text: NullableStr, networks: NullableStr) -> int:
        """Tell whether an address is in one of some networks, `10.0.0.0/8,192.0.2.1`, with commas between."""
        address = _address(text)
        return 1 if address is not None and any(address in network for network in _networks(networks)) else -1

    @function()
    def compare_ips(self, _ctx: Context, left: NullableStr, right: NullableStr) -> int:
        """Tell whether two addresses are the same, however they are written."""
        address = _address(left)
        return 1 if address is not None and address == _address(right) else -1

    @function()
    def compare_pure_ips(self, _ctx: Context, left: NullableStr, right: NullableStr) -> int:
        """Tell whether two addresses without brackets are the same."""
        address = _pure_address(left)
        return 1 if address is not None and address == _pure_address(right) else -1


def _pure_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    if text[:1] == "[" and text[-1:] == "]":
        address = _pure_address(text[1:-1])
        return address if isinstance(address, IPv6Address) else None
    return _pure_address(text)


@lru_cache(maxsize=1024)
def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = []
    for item in text.split(","):
        try:
            networks.append(ip_network(item.strip(), strict=False))
        except ValueError:
            continue
    return tuple(networks)
