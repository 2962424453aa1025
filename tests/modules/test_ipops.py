from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("condition", "true"),
    [
        ('is_ip("1.2.3.4")', True),
        ('is_ip("1.2.3")', False),
        ('is_ip("::1")', True),
        ('is_ip("[::1]")', True),
        ('is_ip("[1.2.3.4]")', False),
        ('is_ip("example.test")', False),
        ('is_pure_ip("::1")', True),
        ('is_pure_ip("[::1]")', False),
        ('is_ipv4("1.2.3.4")', True),
        ('is_ip4("::1")', False),
        ('is_ipv6("::1")', True),
        ('is_ip6("1.2.3.4")', False),
        ('is_ipv6("[::1]")', False),
        ('is_ipv6_reference("[::1]")', True),
        ('is_ipv6_reference("::1")', False),
        ('is_ip_rfc1918("172.31.1.1")', True),
        ('is_ip_rfc1918("172.32.1.1")', False),
        ('is_ip_rfc1918("10.0.0.1")', True),
        ('is_ip_rfc1918("192.168.1.1")', True),
        ('is_ip_rfc1918("::1")', False),
        ('is_in_subnet("10.1.2.3", "10.0.0.0/8")', True),
        ('is_in_subnet("10.1.2.3", "192.168.0.0/16,10.1.2.3")', True),
        ('ip_is_in_subnet("10.1.2.3", "192.168.0.0/16, nonsense")', False),
        ('is_in_subnet("2001:db8::5", "2001:db8::/32")', True),
        ('is_in_subnet("2001:db8::5", "10.0.0.0/8")', False),
        ('is_in_subnet("$si", "192.0.2.0/24")', False),
        ('compare_ips("::1", "[0::1]")', True),
        ('compare_ips("::1", "::2")', False),
        ('compare_ips("x", "x")', False),
        ('compare_pure_ips("::1", "0::1")', True),
        ('compare_pure_ips("::1", "[::1]")', False),
    ],
)
def test_questions_about_addresses(compiled: Any, condition: str, true: bool) -> None:
    assert compiled.is_true(condition) == [true]
