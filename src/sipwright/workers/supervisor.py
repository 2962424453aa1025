"""The supervisor: owns the sockets and the worker processes, from the first start to the last end.

It handles no SIP. It has neither event loop nor threads, so it can fork at any moment; a worker inherits the checked
script and its sockets. The sockets stay open here, so a worker that dies is replaced and finds the datagrams that
came meanwhile.

For each index there is a chain of processes, oldest first: one, or more while a reload is under way. The first one
reads the sockets; what is new it gives to the next one, once that is ready. When it ends, the next one reads.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sipwright.engine.listen import open_sockets
from sipwright.errors import ConfigErrors, StartError
from sipwright.script.loader import Script
from sipwright.script.settings import ListenAddress
from sipwright.timerqueue import Timer, TimerQueue
from sipwright.workers.child import LINGER, Plan, run_worker
from sipwright.workers.control import Beat, Failed, Read, Ready, Retire, Stop
from sipwright.workers.notify import Notifier
from sipwright.workers.peering import channel
from sipwright.workers.privileges import Identity, PidFile, become, find_identity
from sipwright.workers.process import Closable, WorkerProcess, describe_end
from sipwright.workers.restarts import Restarts
from sipwright.workers.scoreboard import Board
from sipwright.workers.silence import Silence
from sipwright.workers.steering import MAX_WORKERS, Steering

logger = logging.getLogger("sipwright")

# Reported, and no longer vouched for to systemd's watchdog, after so many seconds without a beat; then killed.
SILENT_SECONDS = 10.0
HUNG_SECONDS = 30.0
# What a worker has to end in beyond its drain timeout.
GRACE = 5.0
STATUS_INTERVAL = 5.0

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


@dataclass(slots=True)
class Options:
    """What the command line says of the processes. `workers`: None for what the script says, or one per core."""

    workers: int | None = None
    pid_file: Path | None = None
    user: str | None = None
    group: str | None = None
    # `kernel`, `peering` (workers hand everything over that comes to the wrong one), `none` (only to be measured).
    steering: str = "kernel"


@dataclass(slots=True)
class Slot:
    """One index: its sockets, the way in from other workers, its processes, and how they died."""

    index: int
    sockets: list[socket.socket]
    way_in: tuple[socket.socket, socket.socket] = field(default_factory=channel)
    chain: list[WorkerProcess] = field(default_factory=list)
    restarts: Restarts = field(default_factory=Restarts)
    restart: Timer | None = None


class Supervisor:
    """Runs the workers of a script until it is told to stop.

    `load` reads and checks the script anew for a reload (ConfigErrors), `listen_of` gives a script's addresses.
    `announce(addresses, workers)` is called once, when all workers are ready.
    """

    def __init__(
        self,
        script: Script,
        load: Callable[[], Script],
        listen_of: Callable[[Script], list[ListenAddress]],
        options: Options,
        announce: Callable[[Sequence[ListenAddress], int], None],
    ) -> None:
        self._script = script
        self._load = load
        self._listen_of = listen_of
        self._options = options
        self._announce = announce
        self._listen = listen_of(script)
        self._asked_for = [str(address) for address in self._listen]
        self._number = worker_count(options, script)
        self._steering = Steering(self._number)
        self._slots: list[Slot] = []
        self._generation = 0
        # A generation that is starting, and its script.
        self._next: tuple[int, Script] | None = None
        self._reload_again = False
        self._is_stopping = False
        self._is_serving = False
        self._failure: str | None = None
        self._armed: float | None = None
        self._timers = TimerQueue(time.monotonic, self._arm)
        self._notifier = Notifier()
        self._silence = Silence(time.monotonic(), SILENT_SECONDS)
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_writer = socket.socketpair()
        self._processes: dict[int, WorkerProcess] = {}
        self._board = Board(self._number)

    def run(self) -> None:
        """Start everything and stay until the end. StartError: it could not start, or gave up later."""
        identity = self._identity()
        pid_file = None if self._options.pid_file is None else PidFile(self._options.pid_file)
        try:
            for index, sockets in enumerate(open_sockets(self._listen, self._number)):
                self._slots.append(Slot(index, sockets))
            if self._number > 1 and self._options.steering == "kernel":
                self._steering.attach(self._slots[0].sockets)
            if pid_file is not None:
                pid_file.write(identity)
            become(identity)
            with self._signals():
                _collect()
                for slot in self._slots:
                    self._start_worker(slot)
                self._tend(None)
                self._loop()
        finally:
            self._close()
            if pid_file is not None:
                pid_file.remove()
        if self._failure is not None:
            raise StartError(self._failure)

    def _close(self) -> None:
        for process in self._processes.values():
            # Only when something went wrong here.
            process.kill()
        self._selector.close()
        for thing in (self._wakeup, self._wakeup_writer):
            thing.close()
        for slot in self._slots:
            for end in (*slot.sockets, *slot.way_in):
                end.close()

    def _identity(self) -> Identity:
        user, group, settings = self._options.user, self._options.group, self._script.settings
        if os.geteuid() == 0:
            user, group = user or settings.user, group or settings.group
        elif settings.user or settings.group:
            logger.info("note: user and group of the script are for a server that root starts")
        return find_identity(user, group)

    # ---- the loop

    def _loop(self) -> None:
        while self._processes or not self._is_stopping:
            wait = None if self._armed is None else max(0.0, self._armed - time.monotonic())
            for key, _events in self._selector.select(wait):
                if key.data is None:
                    self._take_signals()
                else:
                    self._hear(key.data)
            if self._armed is not None and self._armed <= time.monotonic():
                self._armed = None
                self._timers.expire()

    def _arm(self, when: float) -> None:
        self._armed = when

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals written to a socket that the loop reads."""
        for end in (self._wakeup, self._wakeup_writer):
            end.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, None)
        before = signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, _be_woken) for number in SIGNALS}
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _take_signals(self) -> None:
        try:
            numbers = self._wakeup.recv(1024)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
            elif number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR1:
                self._log_statistics()
        # Always: a full wake-up socket may have lost the byte of a SIGCHLD.
        self._reap()

    # ---- workers

    def _start_worker(self, slot: Slot) -> None:
        """Fork a worker at the end of a slot's chain."""
        generation, script = (self._generation, self._script) if self._next is None else self._next
        process = WorkerProcess(slot.index, generation, self._board.take_place(), channel(), time.monotonic())
        plan = Plan(
            script=script,
            listen=self._listen,
            index=slot.index,
            steering=None if self._options.steering == "none" else self._steering,
            sockets=slot.sockets,
            inlet=slot.way_in[1],
            peers={other.index: other.way_in[0] for other in self._slots if other is not slot},
            heir=process.heir[0],
            predecessor=slot.chain[-1].heir[1] if slot.chain else None,
            scoreboard=self._board.scoreboard,
            place=process.place,
            shared_store=None,
        )
        process.fork(lambda control: run_worker(plan, control), list(self._not_for(slot, process)))
        slot.chain.append(process)
        self._processes[process.pid] = process
        self._selector.register(process.control, selectors.EVENT_READ, process)

    def _not_for(self, slot: Slot, process: WorkerProcess) -> Iterator[Closable]:
        """Say what of the supervisor's a worker must not keep open."""
        yield self._selector
        yield self._wakeup
        yield self._wakeup_writer
        yield process.heir[1]
        for other in self._slots:
            if other is slot:
                yield other.way_in[0]
            else:
                yield other.way_in[1]
                yield from other.sockets
            for older in other.chain:
                # As long as one copy of the supervisor's end is open, a worker does not see that it is gone.
                yield older.control
                yield older.heir[0]
                if other is not slot or older is not slot.chain[-1]:
                    yield older.heir[1]

    def _hear(self, process: WorkerProcess) -> None:
        if process.pid not in self._processes:
            return
        for message in process.listen():
            process.last_beat = time.monotonic()
            if isinstance(message, Beat):
                process.counters = message.counters
                process.is_reported = False
            elif isinstance(message, Ready):
                process.state = "ready"
                process.ready_at = process.last_beat
                self._became_ready()
            else:
                self._could_not_start(process, message)

    def _could_not_start(self, process: WorkerProcess, message: Failed) -> None:
        logger.error("%s cannot start: %s", process, message.reason)
        if not self._is_serving:
            self._give_up(message.reason)

    def _became_ready(self) -> None:
        newest = [slot.chain[-1] for slot in self._slots if slot.chain]
        if len(newest) < self._number or any(process.state != "ready" for process in newest):
            return
        if self._next is not None:
            self._finish_reload()
        elif not self._is_serving:
            self._is_serving = True
            self._announce(self._listen, self._number)
            self._notifier.ready(self._status())
            if self._notifier.watchdog_interval is not None:
                self._timers.start(self._notifier.watchdog_interval, self._watch)

    def _reap(self) -> None:
        """Take note of all processes that have ended."""
        while self._processes:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self._processes.get(pid)
            if process is not None:
                self._ended(process, status)

    def _ended(self, process: WorkerProcess, status: int) -> None:
        # What it has said before its end was not heard yet.
        self._hear(process)
        del self._processes[process.pid]
        self._selector.unregister(process.control)
        slot = self._slots[process.index]
        was_reader = slot.chain[0] is process
        was_newest = slot.chain[-1] is process
        slot.chain.remove(process)
        self._board.leave(process.place, process.counters)
        process.close()
        if was_reader and slot.chain:
            slot.chain[0].tell(Read())
        if self._is_stopping or process.state == "abandoned" or (process.state == "retiring" and status == 0):
            return
        logger.error("%s %s", process, describe_end(status))
        if not self._is_serving:
            self._give_up(f"{process} {describe_end(status)} before it was ready")
        elif self._next is not None and process.generation == self._next[0]:
            self._abandon_reload(f"{process} {describe_end(status)} before all were ready")
        elif was_newest:
            self._restart(slot, None if process.ready_at is None else time.monotonic() - process.ready_at)

    def _restart(self, slot: Slot, lifetime: float | None) -> None:
        delay = slot.restarts.died(lifetime)
        if delay is None:
            self._give_up(f"worker {slot.index} died again and again before it was ready; the log says why")
            return
        if delay:
            logger.info("worker %d is started again in %.1f s", slot.index, delay)
        slot.restart = self._timers.start(delay, self._start_again, slot)

    def _start_again(self, slot: Slot) -> None:
        slot.restart = None
        if self._is_stopping or (slot.chain and slot.chain[-1].state in ("starting", "ready")):
            # A reload has put a worker there meanwhile.
            return
        self._start_worker(slot)
        logger.info("%s was started in place of the one that died", slot.chain[-1])

    def _tend(self, _argument: None) -> None:
        """Look after workers that say nothing, and tell the service manager how it goes."""
        self._timers.start(STATUS_INTERVAL, self._tend)
        now = time.monotonic()
        self._silence.look(now)
        for process in self._processes.values():
            silence = self._silence.since(process.last_beat, now)
            if silence > HUNG_SECONDS:
                logger.error("%s has been silent for %.0f s: it is killed", process, silence)
                process.kill()
            elif silence > SILENT_SECONDS and not process.is_reported:
                process.is_reported = True
                logger.warning("%s has been silent for %.0f s: something blocks it", process, silence)
        if self._is_serving and not self._is_stopping:
            self._notifier.status(self._status())

    def _watch(self, _argument: None) -> None:
        assert self._notifier.watchdog_interval is not None
        self._timers.start(self._notifier.watchdog_interval, self._watch)
        now = time.monotonic()
        if all(self._silence.since(process.last_beat, now) < SILENT_SECONDS for process in self._processes.values()):
            self._notifier.watchdog()

    # ---- reload

    def _reload(self) -> None:
        """Read the script again; if it is good, start workers with it beside those that there are."""
        if self._is_stopping or not self._is_serving:
            return
        if self._next is not None:
            self._reload_again = True
            return
        self._notifier.reloading()
        logger.info("reloading %s", self._script.path)
        try:
            script = self._load()
        except ConfigErrors as errors:
            logger.error("the script was not reloaded, nothing has changed:\n%s", errors)
            self._notifier.ready(self._status())
            return
        self._note_what_stays(script)
        self._next = (self._generation + 1, script)
        _collect()
        for slot in self._slots:
            self._start_worker(slot)

    def _note_what_stays(self, script: Script) -> None:
        listen = self._listen_of(script)
        if [str(address) for address in listen] == self._asked_for:
            for new, bound in zip(listen, self._listen, strict=True):
                new.host, new.port = bound.host, bound.port
            self._listen = listen
        else:
            logger.warning("the new script listens elsewhere: that needs a restart, the addresses stay as they are")
        if worker_count(self._options, script) != self._number:
            logger.warning("the new script wants other children: that needs a restart, there are %d", self._number)

    def _finish_reload(self) -> None:
        assert self._next is not None
        self._generation, self._script = self._next
        self._next = None
        drain_timeout = self._script.settings.drain_timeout / 1000
        for slot in self._slots:
            for process in slot.chain[:-1]:
                if process.state != "retiring":
                    process.state = "retiring"
                    process.tell(Retire(drain_timeout))
                    # It is asked to linger; if it does not end by itself then, it is hung.
                    self._timers.start(drain_timeout + LINGER + GRACE, self._kill_if_alive, process)
            slot.restarts = Restarts()
        logger.info("reloaded %s", self._script.path)
        self._notifier.ready(self._status())
        if self._reload_again:
            self._reload_again = False
            self._reload()

    def _abandon_reload(self, reason: str) -> None:
        assert self._next is not None
        generation = self._next[0]
        self._next = None
        logger.error("the script was not reloaded, nothing has changed: %s", reason)
        for process in self._processes.values():
            if process.generation == generation:
                # Nothing was given to it yet. Its end is expected.
                process.state = "abandoned"
                process.kill()
        for slot in self._slots:
            if not any(process.generation == self._generation for process in slot.chain):
                self._restart(slot, None)
        self._notifier.ready(self._status())

    # ---- the end

    def _stop(self) -> None:
        if self._is_stopping:
            logger.info("stopping at once")
            for process in self._processes.values():
                process.kill()
            return
        self._is_stopping = True
        self._notifier.stopping()
        logger.info("stopping")
        drain_timeout = self._script.settings.drain_timeout / 1000
        for process in self._processes.values():
            process.state = "stopping"
            process.tell(Stop(drain_timeout))
            self._timers.start(drain_timeout + GRACE, self._kill_if_alive, process)

    def _give_up(self, reason: str) -> None:
        if self._failure is None:
            self._failure = reason
        if not self._is_stopping:
            self._stop()

    def _kill_if_alive(self, process: WorkerProcess) -> None:
        if process.pid in self._processes:
            logger.error("%s does not end: it is killed", process)
            process.kill()

    # ---- what there is to tell

    def _status(self) -> str:
        totals = self._board.totals()
        return (
            f"{self._number} workers, {totals.get('tm:live', 0)} transactions, "
            f"{totals.get('tm:suspended', 0)} of them suspended"
        )

    def _log_statistics(self) -> None:
        """Log the counters of each worker, a second old at most, and of all that there were."""
        for process in self._processes.values():
            logger.info("statistics of %s: %s", process, _counters_text(process.counters))
        logger.info("statistics: %s", _counters_text(self._board.totals()))


def worker_count(options: Options, script: Script) -> int:
    """Return how many workers there are: as the command line says, else the script, else one for each core."""
    number = options.workers or script.settings.children or _cores()
    if number > MAX_WORKERS:
        raise StartError(f"{number} workers are too many, at most {MAX_WORKERS}")
    return number


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _collect() -> None:
    """Free what is not needed any more (the script before the one that is being replaced); the rest workers inherit.

    To be called before forks only: the collector writes to all that it walks, so that it is not shared any more.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _counters_text(counters: dict[str, int]) -> str:
    return " ".join(f"{name}={number}" for name, number in sorted(counters.items()) if number)


def _be_woken(_number: int, _frame: object) -> None:
    """Do nothing: the signal's number is in the wake-up socket."""
