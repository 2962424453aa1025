"""A worker process, from the fork to its end: puts a worker and its ways to the others together, and obeys.

It ends when it is told to, when it gets SIGTERM, or when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sipwright.engine.worker import Worker
from sipwright.errors import SipwrightError, StartError
from sipwright.script.loader import Script
from sipwright.script.settings import ListenAddress
from sipwright.workers.answering import Answering, add_worker_commands
from sipwright.workers.control import (
    Answer,
    Ask,
    Beat,
    Drained,
    End,
    Failed,
    Follow,
    FromSupervisor,
    FromWorker,
    Notice,
    Read,
    Ready,
    Stop,
    ToWorker,
    pack,
)
from sipwright.workers.log import LogSettings, OpenLog, open_log
from sipwright.workers.peering import Handover, Inlet, Outlet
from sipwright.workers.rounds import Outcome
from sipwright.workers.scoreboard import Scoreboard
from sipwright.workers.shared import SharedStores, make_directory
from sipwright.workers.steering import Steering

logger = logging.getLogger("sipwright")

BEAT_INTERVAL = 1.0
# Of a worker that is being replaced, after its last suspended request has ended: the longest that RFC 3261 lets a
# transaction wait for retransmissions, and a little more.
LINGER = 34.0
# What a worker that ends still has for its successor has to go out in this time.
FLUSH_SECONDS = 1.0


@dataclass(slots=True)
class Plan:
    """What a worker is to be.

    `sockets` are those of its index, one for each address of `listen`; `inlet` is where other workers' datagrams for
    the index come in, `peers` where those for other indices go. `heir` leads to a later successor; `predecessors` are
    the ways from the workers of this index that are being replaced, by process id, the oldest first: the last of them
    gives to this one. Without any the worker reads the sockets itself. `place` is the worker's place on the scoreboard,
    `store_path` the directory of the stores that all workers share, `notices` those that workers have put up, `streams`
    the listening sockets that modules want.
    """

    script: Script
    listen: Sequence[ListenAddress]
    log: LogSettings
    index: int
    steering: Steering | None
    sockets: Sequence[socket.socket]
    inlet: socket.socket
    peers: Mapping[int, socket.socket]
    heir: socket.socket
    predecessors: Mapping[int, socket.socket]
    scoreboard: Scoreboard
    place: int
    store_path: Path
    notices: Mapping[str, bytes]
    streams: Mapping[str, Sequence[socket.socket]]


def run_worker(plan: Plan, control: socket.socket) -> int:
    """Run a worker until its end; return the exit status of its process."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        # For the supervisor, which says what is to be done; a terminal sends them to all.
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = open_log(plan.log, plan.index)
    try:
        return asyncio.run(_run(plan, control, log))
    except Exception:
        logger.exception("fault in the worker's own code")
        return 1
    finally:
        log.close()


async def _run(plan: Plan, control: socket.socket, log: OpenLog) -> int:
    loop = asyncio.get_running_loop()
    child = _Child(plan, loop)
    log.follow(child.worker.services)
    transport, _protocol = await loop.create_unix_connection(lambda: child, sock=control)
    try:
        child.start()
    except SipwrightError as error:
        transport.write(pack(Failed(str(error))))
        child.ended.set()
        transport.close()
        # The next turns of the loop write it.
        await asyncio.sleep(0.05)
        return 1
    loop.add_signal_handler(signal.SIGTERM, child.obey, Stop(plan.script.settings.drain_timeout / 1000))
    await child.ended.wait()
    child.beat()
    child.close()
    transport.close()
    await asyncio.sleep(0)
    return 0


class _Child(asyncio.Protocol):
    """A worker and its control connection."""

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop) -> None:
        self._plan = plan
        self._loop = loop
        self._messages = FromSupervisor()
        self._transport: asyncio.WriteTransport | None = None
        self._ending: asyncio.Task[None] | None = None
        self._is_retiring = False
        # Whether the supervisor is gone.
        self._is_alone = False
        # Set when nobody needs this worker any more to refuse requests.
        self._released = asyncio.Event()
        self.ended = asyncio.Event()
        self._stores = SharedStores(plan.store_path, loop.time, plan.script.settings.shm_mem_size << 20)
        steering = plan.steering
        self.worker = worker = Worker(
            plan.script,
            plan.listen,
            plan.sockets,
            index=plan.index,
            tag_prefix=None if steering is None else steering.tag_prefix(plan.index),
            stateless_prefix=None if steering is None else steering.stateless_prefix,
            shared_store=self._stores.open,
        )
        receive = worker.core.receive
        self._inlet = Inlet(plan.inlet, worker.sockets, receive, self._hear, loop)
        # From the workers that were there before, by process id. The last one gives to this worker.
        self._predecessors = {
            pid: Inlet(end, worker.sockets, receive, self._hear, loop) for pid, end in plan.predecessors.items()
        }
        self._inherited = 0
        # Set when this worker reads the sockets of its index.
        self._is_reader = asyncio.Event()
        peers = {index: Outlet(end, loop) for index, end in plan.peers.items()}
        self._handover = Handover(steering, plan.index, worker.sockets, peers)
        if steering is not None and steering.workers > 1:
            worker.core.hand_over(self._handover)
        worker.services.tell_worker = self._handover.tell
        worker.services.notices.send = self._post
        worker.services.streams = plan.streams
        worker.services.private_directory = self._private_directory
        self._answering = Answering(worker.services, loop)

    def start(self) -> None:
        """Start the modules, and receive."""
        services, plan = self.worker.services, self._plan
        services.add_statistics(self._statistics)
        services.statistics_table.others = lambda: plan.scoreboard.others(plan.place)
        for name, value in plan.notices.items():
            services.notices.take(name, value)
        add_worker_commands(services, self.beat)
        self.worker.start()
        if self._predecessors:
            self._predecessor.open()
        else:
            self._read()
        self.tell(Ready(list(services.commands)))
        self._beat_on()

    def close(self) -> None:
        """Let go what the worker had open, after its end."""
        if self._is_alone:
            # What the supervisor would do. The others do it, too: the last one has it right.
            self._plan.script.registry.mod_destroy(self._stores.open)
        self._stores.close()

    def tell(self, message: FromWorker) -> None:
        """Send the supervisor a message."""
        if self._transport is not None:
            self._transport.write(pack(message))

    def obey(self, command: ToWorker) -> None:
        """Do what the supervisor says."""
        if isinstance(command, Read):
            self._read()
        elif isinstance(command, Follow):
            self._follow(command.pid)
        elif isinstance(command, End):
            self._released.set()
        elif isinstance(command, Ask):
            self._answering.run(command.number, command.name, command.params, partial(self._answer, command.number))
        elif isinstance(command, Notice):
            self._heed(command)
        elif isinstance(command, Stop):
            self._stop(command.drain_timeout)
        elif self._ending is None:
            self._is_retiring = True
            self._handover.heir = Outlet(self._plan.heir, self._loop)
            self.worker.core.hand_over(self._handover)
            self._ending = self._loop.create_task(self._retire(command.drain_timeout))

    def _private_directory(self) -> Path:
        try:
            make_directory(self._plan.store_path)
        except OSError as error:
            raise StartError(f"the directory {self._plan.store_path} cannot be used: {error}") from error
        return self._plan.store_path

    def _answer(self, number: int, outcome: Outcome) -> None:
        self.tell(Answer(number, outcome.result, outcome.fault))

    def _post(self, name: str, value: bytes | None, is_lasting: bool, stamp: int) -> None:
        self.tell(Notice(name, value, is_lasting, stamp))

    def _heed(self, notice: Notice) -> None:
        try:
            self.worker.services.notices.take(notice.name, notice.value, notice.stamp)
        except Exception:  # the boundary to a module
            logger.exception("fault of a module that was told of %s", notice.name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what the supervisor says."""
        for command in self._messages.feed(data):
            self.obey(command)

    def connection_lost(self, _error: Exception | None) -> None:
        """End at once: a worker without supervisor would hold the ports of the next one."""
        self._transport = None
        self._released.set()
        if not self.ended.is_set():
            logger.error("the supervisor is gone: stopping")
            # Also a worker that drains, for there is nobody left to tell it that this takes too long.
            self._is_retiring = True
            self._is_alone = True
            self._stop(0.0)

    def _hear(self, name: str, payload: bytes) -> None:
        heir = self._handover.heir
        if not self.worker.services.heard(name, payload) and heir is not None:
            heir.tell(name, payload)

    @property
    def _predecessor(self) -> Inlet:
        return next(reversed(self._predecessors.values()))

    def _read(self) -> None:
        if self._predecessors:
            # What the last one has handed over was there before what the sockets have now.
            self._predecessor.drain()
        while self._predecessors:
            self._leave_predecessor()
        self.worker.read()
        self._inlet.open()
        self._is_reader.set()

    def _follow(self, pid: int) -> None:
        self._predecessor.drain()
        while next(reversed(self._predecessors)) != pid:
            self._leave_predecessor()
        self._predecessor.open()

    def _leave_predecessor(self) -> None:
        _pid, inlet = self._predecessors.popitem()
        self._inherited += inlet.received
        inlet.close()

    def _stop(self, drain_timeout: float) -> None:
        if self._ending is not None:
            if not self._is_retiring:
                return
            self._ending.cancel()
            self._is_retiring = False
        self._ending = self._loop.create_task(self._end(drain_timeout))

    async def _end(self, drain_timeout: float) -> None:
        await self.worker.drain(drain_timeout)
        self.tell(Drained())
        # Other workers may still drain: until they have, the requests of this index are refused, not left unread.
        await self._released.wait()
        self.worker.close()
        self.ended.set()

    async def _retire(self, drain_timeout: float) -> None:
        await self.worker.retire(drain_timeout, LINGER)
        # As long as an older one reads the sockets, what it hands over goes on to the successor through here.
        await self._is_reader.wait()
        heir = self._handover.heir
        assert heir is not None
        # What is left to do does not take long enough to be broken off.
        self._is_retiring = False
        # From here on nothing is read any more: what comes now is the successor's to find.
        self.worker.close()
        self._inlet.close()
        until = self._loop.time() + FLUSH_SECONDS
        heir.flush()
        while heir.is_waiting and self._loop.time() < until:
            # Meanwhile the successor reads.
            await asyncio.sleep(0.01)
        heir.close()
        self.ended.set()

    def beat(self) -> None:
        """Tell the others and the supervisor the counters."""
        counters = self.worker.services.statistics_table.read_own()
        self._plan.scoreboard.write(self._plan.place, counters)
        self.tell(Beat(counters))

    def _beat_on(self) -> None:
        self.beat()
        self._loop.call_later(BEAT_INTERVAL, self._beat_on)

    def _statistics(self) -> dict[str, int]:
        inherited = self._inherited + sum(inlet.received for inlet in self._predecessors.values())
        return {**self._handover.statistics(), "peering:received": self._inlet.received + inherited}
