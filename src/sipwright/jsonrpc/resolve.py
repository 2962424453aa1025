"""DNS SRV records (L2): what a name stands for, and for how long (RFC 2782).

`DnsResolver` asks with dnspython; whoever resolves names otherwise gives the client an object like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """One record: a lower `priority` number is asked first, `weight` is the share within one priority."""

    priority: int
    weight: int
    port: int
    target: str


class Resolver(Protocol):
    """Asks for SRV records."""

    async def resolve_srv(self, name: str, /) -> tuple[list[SrvRecord], float]:
        """Return the records of a name and the seconds for which they hold.

        No records: the name exists, and the service is decidedly not offered there (a single record whose target is
        "."). Raises OSError, with a text for a person, when nothing can be learned.
        """


class DnsResolver:
    """The resolver that is used where none is given.

    `nameservers` are IP addresses instead of those in /etc/resolv.conf, `port` is theirs, `timeout` (seconds) that of
    one question to all of them.
    """

    def __init__(self, nameservers: list[str] | None = None, *, port: int = 53, timeout: float = 5.0) -> None:
        self._nameservers = nameservers
        self._port = port
        self._timeout = timeout

    async def resolve_srv(self, name: str) -> tuple[list[SrvRecord], float]:
        """Return the records of a name and the seconds for which they hold. Raises OSError."""
        # Imported here: it takes 50 ms, and only who has SRV names needs it.
        import dns.asyncresolver
        import dns.exception

        try:
            resolver = self._resolver(dns.asyncresolver.Resolver)
            return _records(await resolver.resolve(name, "SRV", lifetime=self._timeout, search=False))
        except dns.exception.DNSException as error:
            raise OSError(f"no SRV records of {name}: {error}") from None

    def resolve_srv_now(self, name: str, timeout: float) -> tuple[list[SrvRecord], float]:
        """Do what `resolve_srv` does, and hold the thread up meanwhile, for at most `timeout` seconds."""
        import dns.exception
        import dns.resolver

        try:
            resolver = self._resolver(dns.resolver.Resolver)
            lifetime = max(0.001, min(timeout, self._timeout))
            return _records(resolver.resolve(name, "SRV", lifetime=lifetime, search=False))
        except dns.exception.DNSException as error:
            raise OSError(f"no SRV records of {name}: {error}") from None

    def _resolver(self, make: Any) -> Any:
        if self._nameservers is None:
            return make()
        resolver = make(configure=False)
        resolver.nameservers = self._nameservers
        resolver.port = self._port
        return resolver


def _records(answer: Any) -> tuple[list[SrvRecord], float]:
    records = [
        SrvRecord(item.priority, item.weight, item.port, item.target.to_text(omit_final_dot=True))
        for item in answer.rrset
        if item.target.to_text() != "."
    ]
    return records, float(answer.rrset.ttl)
