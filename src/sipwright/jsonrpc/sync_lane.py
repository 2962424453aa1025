"""Threads that wait for the answers of some connections (L2): one of them reads for all, the leader.

Whoever waits first leads: it waits for all sockets of the lane, reads, and wakes whose answers came. When its own has
come, or its time is over, another one that still waits leads. There is no thread besides those that call.

A client has two lanes, with connections of their own: one for the main thread and one for all others. Signal handlers
run in the main thread, at any point of any line, and may raise there (KeyboardInterrupt). What that leaves half done,
a piece of a request sent or an answer half read, is then in a connection that carries nobody else's calls, and it is
given up.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from select import POLLIN, POLLOUT, poll
from threading import Lock
from typing import TYPE_CHECKING

from sipwright.jsonrpc.sync_calls import Waiter

if TYPE_CHECKING:  # a cycle: connections are in a lane, and know it
    from sipwright.jsonrpc.sync_connection import SyncConnection

# Seconds; the system has no room for some that are longer.
MAX_SLEEP = 86_400.0


class Lane:
    """The connections that some threads share. `lock` is the client's; `clock` tells the monotonic time in seconds.

    Methods are called with the lock held, but for `wait`.
    """

    def __init__(self, lock: Lock, clock: Callable[[], float]) -> None:
        self.connections: dict[int, SyncConnection] = {}
        self._lock = lock
        self._clock = clock
        self._poll = poll()
        self._leader: Waiter | None = None
        self._followers: dict[Waiter, None] = {}
        # Sockets that are done with; not closed while a leader may wait for them, since their numbers are used again.
        self._closing: list[socket.socket] = []
        # Wakes the leader when there is something that it does not wait for yet.
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._poll.register(self._ear, POLLIN)
        self._is_closed = False
        self._is_handling = False

    def add(self, connection: SyncConnection) -> None:
        """Wait for a connection, too."""
        number = connection.sock.fileno()
        self.connections[number] = connection
        self._poll.register(number, POLLIN)
        self._ring()

    def watch(self, connection: SyncConnection, is_writing: bool) -> None:
        """Wait until a connection can be written to, or do not."""
        self._poll.modify(connection.sock.fileno(), POLLIN | POLLOUT if is_writing else POLLIN)
        self._ring()

    def remove(self, connection: SyncConnection) -> None:
        """Wait no more for a connection, and close it."""
        number = connection.sock.fileno()
        del self.connections[number]
        self._poll.unregister(number)
        with suppress(OSError):  # the other end may have gone already
            connection.sock.shutdown(socket.SHUT_RDWR)
        self._closing.append(connection.sock)
        self._ring()
        self._sweep()

    def wake(self, waiter: Waiter) -> None:
        """Have a thread of the lane look around."""
        if waiter is self._leader:
            self._ring()
        else:
            waiter.nudge()

    def look(self) -> None:
        """Take what has come since somebody waited last, unless somebody waits now."""
        if self._leader is None and self.connections:
            events = self._poll.poll(0)
            if events:
                self._handle(events)

    def wait(self, waiter: Waiter, until: float) -> None:
        """Wait (without the lock) until the waiter is woken or the time has come."""
        is_leader = is_follower = False
        events: Iterable[tuple[int, int]] = ()
        try:
            while True:
                with self._lock:
                    waiter.lane = self
                    if is_leader:
                        self._handle(events)
                    elif is_follower and waiter.sleep is not None and waiter.sleep.locked():
                        waiter.was_released = False
                    left = until - self._clock()
                    if waiter.is_woken or left <= 0:
                        self._leave(waiter)
                        is_leader = is_follower = False
                        return
                    if self._leader is None:
                        self._leader = waiter
                        is_leader = True
                    elif not is_leader:
                        is_follower = True
                        self._follow(waiter)
                if is_leader:
                    events = self._poll.poll(min(left, MAX_SLEEP) * 1000)
                else:
                    assert waiter.sleep is not None
                    waiter.sleep.acquire(timeout=min(left, MAX_SLEEP))
        finally:
            if is_leader or is_follower:
                with self._lock:
                    self._leave(waiter)

    def _follow(self, waiter: Waiter) -> None:
        self._followers[waiter] = None
        if waiter.sleep is None:
            waiter.sleep = Lock()
            waiter.sleep.acquire()

    def _leave(self, waiter: Waiter) -> None:
        self._followers.pop(waiter, None)
        if self._leader is waiter:
            self._leader = None
            self._sweep()
        if self._leader is None:
            # Also when this one was to lead and has not begun: somebody has to.
            for follower in self._followers:
                if not follower.is_woken:
                    follower.nudge()
                    break

    def _handle(self, events: Iterable[tuple[int, int]]) -> None:
        self._is_handling = True
        for number, event in events:
            connection = self.connections.get(number)
            if connection is None:
                if number == self._ear.fileno():
                    self._listen()
                continue
            if event & POLLOUT:
                connection.flush()
            if event & ~POLLOUT and not connection.is_lost:
                connection.read()
        self._is_handling = False

    def _ring(self) -> None:
        if self._leader is not None and not self._is_handling:
            with suppress(BlockingIOError):  # it has been rung often enough
                self._bell.send(b"!")

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            self._ear.recv(4096)

    def _sweep(self) -> None:
        if self._leader is None:
            for sock in self._closing:
                sock.close()
            self._closing.clear()
            if self._is_closed:
                self._bell.close()
                self._ear.close()

    def mend(self) -> None:
        """Give up the connections that a thread was interrupted at."""
        self._is_handling = False
        for connection in list(self.connections.values()):
            if connection.is_busy:
                connection.lose("a thread was interrupted while it used the connection")

    def forget(self) -> None:
        """Close this process's copies of the sockets: the parent goes on with them."""
        for connection in self.connections.values():
            connection.sock.close()
        for sock in (*self._closing, self._bell, self._ear):
            sock.close()

    def interrupt(self) -> None:
        """Have the thread that waits look around; for signal handlers, which cannot take the lock."""
        leader = self._leader
        if leader is not None:
            leader.is_woken = True
        with suppress(OSError):
            self._bell.send(b"!")

    def close(self) -> None:
        """Let everything go; the connections are lost already."""
        self._is_closed = True
        self._ring()
        self._sweep()
