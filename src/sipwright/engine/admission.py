"""Who is let in: owns the bounds that new requests meet, and the 503 for those that are turned away.

One mechanism for a worker that is full and for one that stops: `limit` is how many transactions there may be, and 0
from the moment it stops. A request that is turned away costs no transaction and runs no script. The other bound is the
one on suspended transactions: a script whose suspension was refused may do something else; if it does not answer,
the 503 comes from here, too.

The log has one line when this begins and one when it is over.
"""

from __future__ import annotations

import logging
import sys
import zlib
from collections.abc import Callable

from sipwright.engine.stats import Counters
from sipwright.script.context import Context

Reply = Callable[[Context, int, str], bool]

UNLIMITED = sys.maxsize
# What began is over when it has not happened for so many seconds.
QUIET_SECONDS = 5


class Episode:
    """Something that happens again and again for a while: two lines in the log, with their own words and a count.

    `tick()` is to be called once a second.
    """

    __slots__ = ("_began", "_count", "_is_fresh", "_log", "_over", "_quiet", "_seconds")

    def __init__(self, log: logging.Logger, began: str, over: str) -> None:
        self._log = log
        self._began = began
        self._over = over
        self._count = 0
        self._seconds = 0
        self._quiet = 0
        self._is_fresh = False

    def happened(self, *numbers: int) -> None:
        """Take note of it once; `numbers` are for the words with which it begins."""
        if not self._count:
            self._log.warning(self._began, *numbers)
            self._seconds = self._quiet = 0
        self._count += 1
        self._is_fresh = True

    def tick(self) -> None:
        """Let a second pass."""
        if not self._count:
            return
        self._seconds += 1
        self._quiet = 0 if self._is_fresh else self._quiet + 1
        self._is_fresh = False
        if self._quiet >= QUIET_SECONDS:
            self._log.warning(self._over, self._count, max(1, self._seconds - self._quiet))
            self._count = 0


class Admission:
    """Turns requests away. `reply` answers within the context's transaction, `reply_stateless` without one.

    Compare the number of transactions with `limit` before a request gets any further, and call `turn_away` for one
    that has no place. `retry_after` is the least and the most number of seconds in a Retry-After header.
    """

    __slots__ = (
        "_full",
        "_full_of_suspended",
        "_number",
        "_reply",
        "_reply_stateless",
        "_stats",
        "is_stopping",
        "limit",
        "retry_after",
    )

    def __init__(self, reply: Reply, reply_stateless: Reply, stats: Counters, log: logging.Logger) -> None:
        self._reply = reply
        self._reply_stateless = reply_stateless
        self._stats = stats
        self._full = Episode(
            log,
            "overload: there are as many transactions as there may be (max_transactions, %d): new requests get a 503",
            "overload is over: %d requests were answered 503 within %d s",
        )
        self._full_of_suspended = Episode(
            log,
            "overload: %d transactions are suspended (max_suspended): no more can be",
            "overload is over: %d suspensions were refused within %d s",
        )
        self.is_stopping = False
        self.limit = self._number = UNLIMITED
        self.retry_after = (5, 15)

    def set_limit(self, number: int) -> None:
        """Set how many transactions there may be."""
        self.limit = self._number = number

    def stop(self) -> None:
        """Turn away all new requests from now on."""
        self.is_stopping = True
        self.limit = 0

    def turn_away(self, context: Context) -> None:
        """Answer a new request that has no place here."""
        if self.is_stopping:
            self._stats.refused += 1
        else:
            self._stats.overload += 1
            self._full.happened(self._number)
        self._unavailable(context)

    def suspension_refused(self, context: Context, limit: int) -> None:
        """Take note that a context could not be suspended, because `limit` others are."""
        context.overloaded = True
        if not self.is_stopping:
            self._stats.suspend_refused += 1
            self._full_of_suspended.happened(limit)

    def left(self, context: Context) -> bool:
        """Answer a request that its script left alone when it could not be suspended. False: it is not such a one.

        An ACK has no answer, and a CANCEL is answered with its INVITE's.
        """
        if not context.overloaded or context.message.method in ("ACK", "CANCEL"):
            return False
        if self.is_stopping:
            self._stats.refused += 1
        else:
            self._stats.overload += 1
        self._unavailable(context)
        return True

    def tick(self, weight: int) -> None:
        """Let a second pass. `weight` is what large transactions count besides their number."""
        if not self.is_stopping:
            # Once a second and not at each one: the network brings no more than some hundred MB meanwhile.
            self.limit = self._number - weight
        self._full.tick()
        self._full_of_suspended.tick()

    def _unavailable(self, context: Context) -> None:
        """Answer 503. Clients are told different times, so that they do not come back all at once (RFC 3261 20.33)."""
        least, most = self.retry_after
        # Made from the request: each repetition of it gets the same answer (8.2.7).
        seconds = least + zlib.crc32(context.message.data) % (most - least + 1)
        context.reply_headers = [f"Retry-After: {seconds}\r\n"]
        context.reply_body = None
        reply = self._reply_stateless if context.transaction is None else self._reply
        reply(context, 503, "Service Unavailable")
