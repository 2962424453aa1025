"""One index of a server: its sockets, the way in from other workers, its processes, and how they died."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from sipwright.workers.peering import channel
from sipwright.workers.process import WorkerProcess
from sipwright.workers.restarts import Restarts


@dataclass(slots=True)
class Slot:
    """The processes in `chain` are those of the index, the oldest first."""

    index: int
    sockets: list[socket.socket]
    way_in: tuple[socket.socket, socket.socket] = field(default_factory=channel)
    chain: list[WorkerProcess] = field(default_factory=list)
    restarts: Restarts = field(default_factory=Restarts)
