"""A host for transactions under test: owns what they sent and what they said, and when; sends nothing."""

from __future__ import annotations

from typing import Any

from sipwright.testing.clock import FakeClock
from sipwright.transaction.timers import TimerSettings


class RecordingHost:
    """The world of server and client transactions, on a `FakeClock`, with a record of all that they do.

    It satisfies `Host` and `ClientHost` of `sipwright.transaction.host`:

        host = RecordingHost()
        transaction = NonInviteServerTransaction(host, b"key", request, peer="alice")
        transaction.respond(200, b"SIP/2.0 200 OK...")
        assert host.sent == [b"SIP/2.0 200 OK..."]
        host.clock.advance(32.0)
        assert host.ended_transactions == [transaction]

    `sends` has (time, transaction, bytes) of everything sent. `responses` has (transaction, response) of what client
    transactions passed up. `timeouts`, `transport_errors` and `ended_transactions` have transactions. `trying_bytes`
    and `ack_bytes` are what it gives out as a 100 Trying and an ACK. With a `table`, an ended transaction is removed
    from it.
    """

    def __init__(self, clock: FakeClock | None = None, timers: TimerSettings | None = None, table: Any = None) -> None:
        self.clock = FakeClock() if clock is None else clock
        self.timers = TimerSettings() if timers is None else timers
        self.table = table
        self.start_timer = self.clock.start_timer
        self.sends: list[tuple[float, Any, bytes]] = []
        self.responses: list[tuple[Any, Any]] = []
        self.timeouts: list[Any] = []
        self.transport_errors: list[Any] = []
        self.ended_transactions: list[Any] = []
        self.trying_bytes = b"SIP/2.0 100 Trying\r\n\r\n"
        self.ack_bytes = b"ACK sip:test SIP/2.0\r\n\r\n"

    @property
    def sent(self) -> list[bytes]:
        """The bytes of everything sent, in order."""
        return [data for _, _, data in self.sends]

    def sent_at(self, data: bytes) -> list[float]:
        """Return the times, in seconds, at which these bytes were sent."""
        return [time for time, _, sent in self.sends if sent == data]

    def send(self, transaction: Any, data: bytes, /) -> None:
        """Record what is sent."""
        self.sends.append((self.clock.now, transaction, data))

    def trying(self, _transaction: Any, /) -> bytes:
        """Return `trying_bytes`."""
        return self.trying_bytes

    def ack(self, _transaction: Any, _response: Any, /) -> bytes:
        """Return `ack_bytes`."""
        return self.ack_bytes

    def response(self, transaction: Any, response: Any, /) -> None:
        """Record a response that a client transaction passes up."""
        self.responses.append((transaction, response))

    def timeout(self, transaction: Any, /) -> None:
        """Record a transaction that waited in vain."""
        self.timeouts.append(transaction)

    def transport_error(self, transaction: Any, /) -> None:
        """Record a transaction that could not send."""
        self.transport_errors.append(transaction)

    def ended(self, transaction: Any, /) -> None:
        """Record a transaction that has ended, and take it out of the table."""
        self.ended_transactions.append(transaction)
        if self.table is not None:
            self.table.remove(transaction)
