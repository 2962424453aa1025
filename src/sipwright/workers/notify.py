"""What systemd is told of the server (sd_notify(3)): owns the socket and the form, knows nothing of workers.

Without `NOTIFY_SOCKET` in the environment nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Tells the service manager the server's state. `watchdog_interval` is in seconds; None: it does not watch."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            # The abstract namespace of Linux.
            self._address = "\0" + self._address[1:]
        self._status = ""
        self.watchdog_interval: float | None = None
        watched = environment.get("WATCHDOG_PID", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        if self._address and microseconds.isdecimal() and watched in ("", str(os.getpid())):
            # Half of what is allowed, as sd_watchdog_enabled(3) advises.
            self.watchdog_interval = int(microseconds) / 2_000_000

    def ready(self, status: str) -> None:
        """Say that the server serves, also after a reload."""
        self._status = status
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say how it goes, if that is new."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload has begun."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the server ends."""
        self._send("STOPPING=1", "STATUS=stopping")

    def watchdog(self) -> None:
        """Say that the server is well."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            try:
                notify.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                # The service manager is not there or does not listen: nothing here depends on it.
                return
