"""The server transactions that live: owns which request belongs to which, and their numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, KeysView
from typing import Any, TypeAlias

from sipwright.sip.message import Request
from sipwright.transaction.host import Host
from sipwright.transaction.invite_server import InviteServerTransaction
from sipwright.transaction.key import DialogKey, cancelled_key, dialog_key, server_key, untagged_key
from sipwright.transaction.noninvite_server import NonInviteServerTransaction
from sipwright.transaction.retransmission_2xx import Retransmission2xx

AnyServerTransaction: TypeAlias = InviteServerTransaction | NonInviteServerTransaction

# A request of more bytes is a large one. Hardly any is; a flood of them would fill the memory with few transactions.
LARGE = 4096
WEIGHT_UNIT = 1024


class TransactionTable:
    """All server transactions of a worker, found by the requests that belong to them.

    Also the requests that are held, because it is not known yet whether they get a transaction.

    The host's `ended` has to call `remove`. `created`, `ended` and `absorbed` (retransmissions, and ACKs that belong
    to a transaction) only grow; `live` is how many there are now, and so is the length of `keys`, without a call. Of
    2xx that wait for their ACK there are at most `max_unacknowledged`: one more ends the repetition of the oldest,
    which `given_up` counts. `weight` is how much more than their number the transactions of large requests count, which
    keep more than others: 1 for each KB.
    """

    __slots__ = (
        "_held",
        "_new_key",
        "_new_request",
        "_surplus",
        "_transactions",
        "_unacknowledged",
        "absorbed",
        "created",
        "given_up",
        "keys",
        "max_unacknowledged",
        "weight",
    )

    def __init__(self) -> None:
        self._transactions: dict[bytes, AnyServerTransaction] = {}
        self._unacknowledged: dict[DialogKey, Retransmission2xx] = {}
        self._held: dict[bytes, Any] = {}
        self._surplus: dict[bytes, int] = {}
        self.weight = 0
        # The request that was last found to be new, and its key: most often its transaction is made next, and making
        # the key again costs 0.3 us.
        self._new_request: Request | None = None
        self._new_key = b""
        self.created = 0
        self.absorbed = 0
        self.given_up = 0
        self.max_unacknowledged = sys.maxsize
        self.keys: KeysView[bytes] = self._transactions.keys()

    def receive(self, request: Request) -> bool:
        """Give a request to the transaction that it belongs to. False: it is new, and the script's to see.

        Also new is the ACK of a 2xx (17: a transaction of its own); it stops the repetition of our 2xx on its way.
        """
        if request.method == "ACK":
            return self._receive_ack(request)
        key = server_key(request)
        transaction = self._transactions.get(key)
        if transaction is None:
            if self._held and key in self._held:
                self.absorbed += 1
                return True
            self._new_request = request
            self._new_key = key
            return False
        self.absorbed += 1
        transaction.receive_retransmission(request)
        return True

    def create(self, host: Host, request: Request, peer: Any, reliable: bool = False) -> AnyServerTransaction | None:
        """Make the transaction of a new request; not for an ACK, which has none.

        None: there is one already. That can be so when the script waited before it asked for one: a retransmission
        was taken for a new request meanwhile, and came first.
        """
        key = self._new_key if request is self._new_request else server_key(request)
        if key in self._transactions:
            return None
        self.created += 1
        if len(request.data) > LARGE:
            self._surplus[key] = surplus = len(request.data) // WEIGHT_UNIT
            self.weight += surplus
        if request.method == "INVITE":
            self._transactions[key] = invite = InviteServerTransaction(host, key, request, peer, reliable)
            return invite
        self._transactions[key] = transaction = NonInviteServerTransaction(host, key, request, peer, reliable)
        return transaction

    def hold(self, request: Request, user: Any) -> bytes | None:
        """Absorb the retransmissions of a new request without making its transaction, until `let_go` of the key.

        For a TU that has to wait before it knows whether it wants one. None: there is a transaction.
        """
        key = self._new_key if request is self._new_request else server_key(request)
        if key in self._transactions or key in self._held:
            return None
        self._held[key] = user
        return key

    def let_go(self, key: bytes) -> None:
        """End `hold`."""
        del self._held[key]

    def held_for_cancel(self, request: Request) -> Any:
        """Return the user of the INVITE that a CANCEL is for, where that is held; None where it is not."""
        return self._held.get(cancelled_key(request))

    def match(self, request: Request) -> AnyServerTransaction | None:
        """Return the transaction that a request belongs to (17.2.3): its own, or for an ACK that of the INVITE."""
        transaction = self._transactions.get(server_key(request))
        if transaction is None and request.method == "ACK":
            key = untagged_key(request)
            transaction = None if key is None else self._transactions.get(key)
            if transaction is not None and transaction.to_tag != request.to_tag:
                return None
        return transaction

    def match_cancel(self, request: Request) -> InviteServerTransaction | None:
        """Return the INVITE transaction that a CANCEL is for (9.2), in whatever state it is.

        Deviation: only INVITEs are found. 9.1: other requests SHOULD NOT be cancelled; for those, answer 481.
        """
        transaction = self._transactions.get(cancelled_key(request))
        return transaction if isinstance(transaction, InviteServerTransaction) else None

    def remove(self, transaction: AnyServerTransaction) -> None:
        """Forget a transaction that has ended."""
        del self._transactions[transaction.key]
        if self._surplus:
            self.weight -= self._surplus.pop(transaction.key, 0)

    def retransmit_2xx(self, host: Host, transaction: InviteServerTransaction, request: Request) -> None:
        """Repeat the 2xx that was just sent to an INVITE until its ACK comes (13.3.1.4): only for answers of our own.

        `request` is the INVITE; the transaction's `to_tag` is that of the 2xx. To be called once per 2xx.
        """
        unacknowledged = self._unacknowledged
        key = dialog_key(request, transaction.to_tag)
        former = unacknowledged.get(key)
        if former is not None:
            # The ACK for one is the ACK for the other.
            former.stop()
        elif len(unacknowledged) >= self.max_unacknowledged:
            next(iter(unacknowledged.values())).stop()
            self.given_up += 1
        Retransmission2xx(host, transaction, key, unacknowledged)

    @property
    def live(self) -> int:
        """How many transactions there are now."""
        return len(self._transactions)

    @property
    def ended(self) -> int:
        """How many transactions have ended so far."""
        return self.created - len(self._transactions)

    def __iter__(self) -> Iterator[AnyServerTransaction]:
        """Iterate over a snapshot of the live transactions: they may end meanwhile."""
        return iter(list(self._transactions.values()))

    def _receive_ack(self, request: Request) -> bool:
        transaction = self.match(request)
        if isinstance(transaction, InviteServerTransaction) and transaction.receive_ack(request):
            self.absorbed += 1
            return True
        if self._unacknowledged:
            retransmission = self._unacknowledged.get(dialog_key(request, request.to_tag))
            if retransmission is not None:
                retransmission.stop()
        return False
