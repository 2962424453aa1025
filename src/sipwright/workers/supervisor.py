"""The supervisor: owns the sockets and the worker processes, from the first start to the last end.

It handles no SIP. It has neither event loop nor threads, so it can fork at any moment; a worker inherits the checked
script and its sockets. The sockets stay open here, so a worker that dies is replaced and finds the datagrams that
came meanwhile.

For each index there is a chain of processes, oldest first: one, or more while a reload is under way. The first one
reads the sockets; what is new it gives to the next one, once that is ready, and so on to the last one. When it ends,
the next one reads; when one in the middle dies, the one behind it takes what the one before it gives.
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
from pathlib import Path

from sipwright.engine.listen import open_sockets
from sipwright.errors import SipwrightError, StartError
from sipwright.script.settings import ListenAddress
from sipwright.timerqueue import TimerQueue
from sipwright.workers.child import LINGER, Plan, run_worker
from sipwright.workers.clients import Clients
from sipwright.workers.configuration import Configuration, Options, worker_count
from sipwright.workers.control import (
    Answer,
    Beat,
    Drained,
    End,
    Failed,
    Follow,
    Notice,
    Read,
    Ready,
    Retire,
    Stop,
    ToWorker,
)
from sipwright.workers.interface import Interface
from sipwright.workers.noticeboard import Noticeboard
from sipwright.workers.notify import Notifier
from sipwright.workers.peering import channel
from sipwright.workers.privileges import Identity, PidFile, become, find_identity, make_runtime_directory
from sipwright.workers.process import Closable, WorkerProcess, describe_end
from sipwright.workers.restarts import Restarts
from sipwright.workers.rounds import Outcome
from sipwright.workers.scoreboard import Board
from sipwright.workers.shared import SharedStores, new_store_path, remove_leftovers, remove_store
from sipwright.workers.silence import Silence
from sipwright.workers.slots import Slot
from sipwright.workers.socketfile import SocketFile, open_control
from sipwright.workers.steering import Steering
from sipwright.workers.streams import OpenStreams
from sipwright.workers.supervised import SupervisedServer

logger = logging.getLogger("sipwright")

# Reported, and no longer vouched for to systemd's watchdog, after so many seconds without a beat; then killed.
SILENT_SECONDS = 10.0
HUNG_SECONDS = 30.0
# What a worker has to end in beyond its drain timeout.
GRACE = 5.0
STATUS_INTERVAL = 5.0

# Told what went wrong with a reload, or None.
ReloadDone = Callable[[str | None], object]

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


class Supervisor:
    """Runs the workers of a script until it is told to stop.

    `load` reads and checks everything anew for a reload; what it raises is logged, and nothing changes.
    `announce(addresses, workers)` is called once, when all workers are ready.
    """

    def __init__(
        self,
        configuration: Configuration,
        load: Callable[[], Configuration],
        options: Options,
        announce: Callable[[Sequence[ListenAddress], int], None],
    ) -> None:
        self._current = configuration
        # The one that is starting.
        self._next: Configuration | None = None
        self._load = load
        self._options = options
        self._announce = announce
        self._asked_for = [str(address) for address in configuration.listen]
        self._asked_control = configuration.script.settings.control
        self._number = worker_count(options, configuration.script)
        self._steering = Steering(self._number)
        self._slots: list[Slot] = []
        self._reload_again = False
        # Who waits for the end of the reload that is under way, and of the next one.
        self._reload_waiters: list[ReloadDone] = []
        self._next_waiters: list[ReloadDone] = []
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
        self._store_path = new_store_path()
        self._notices = Noticeboard()
        self._streams = OpenStreams()
        self._control: SocketFile | None = None
        server = SupervisedServer(
            self._slots,
            self._board,
            self._timers,
            current=lambda: self._current,
            state=self._state,
            tell=self._tell,
            reload=self._reload_for,
        )
        self._interface = Interface(server, options.version)
        self._clients = Clients(self._selector, self._interface.ask)

    def run(self) -> None:
        """Start everything and stay until the end. StartError: it could not start, or gave up later."""
        identity = self._identity()
        directory, pid_file = self._options.runtime_directory, None
        if self._options.pid_file is not None:
            pid_file = PidFile((directory or Path()) / self._options.pid_file)
        try:
            if directory is not None:
                make_runtime_directory(directory, identity)
            for index, sockets in enumerate(self._open_sockets()):
                self._slots.append(Slot(index, sockets))
            self._streams.open(self._current.script.registry.listens(), identity)
            if self._number > 1 and self._options.steering == "kernel":
                self._steering.attach(self._slots[0].sockets)
            # Whoever reads the pid file may send signals.
            with self._signals():
                if pid_file is not None:
                    pid_file.write(identity)
                self._control = open_control(self._control_path(), identity, directory)
                if self._control is not None:
                    self._clients.listen(self._control.socket)
                become(identity)
                remove_leftovers()
                _collect()
                for slot in self._slots:
                    self._start_worker(slot)
                self._tend(None)
                self._loop()
        finally:
            self._close()
            self._end_modules()
            if self._control is not None:
                self._control.remove()
            if pid_file is not None:
                pid_file.remove()
        if self._failure is not None:
            raise StartError(self._failure)

    def _close(self) -> None:
        for process in self._processes.values():
            # Only when something went wrong here.
            process.kill()
        self._clients.close()
        self._streams.keep(())
        self._selector.close()
        for thing in (self._wakeup, self._wakeup_writer):
            thing.close()
        for slot in self._slots:
            for end in (*slot.sockets, *slot.way_in):
                end.close()

    def _end_modules(self) -> None:
        """Let modules keep what they want to of what the workers shared, and remove it."""
        script = self._current.script
        stores = SharedStores(self._store_path, time.monotonic, script.settings.shm_mem_size << 20)
        try:
            script.registry.mod_destroy(stores.open)
        except Exception:
            # A fault of a module; the others and the server end all the same.
            logger.exception("fault at the end of a module")
        finally:
            stores.close()
            remove_store(self._store_path)

    def _open_sockets(self) -> list[list[socket.socket]]:
        return open_sockets(self._current.listen, self._number, self._current.script.settings.receive_buffer)

    def _control_path(self) -> str:
        return self._options.control or self._current.script.settings.control

    def _identity(self) -> Identity:
        user, group, settings = self._options.user, self._options.group, self._current.script.settings
        if os.geteuid() == 0:
            user, group = user or settings.user, group or settings.group
        elif settings.user or settings.group:
            logger.info("note: user and group of the script are for a server that root starts")
        return find_identity(user, group)

    # ---- the loop

    def _loop(self) -> None:
        while self._processes or not self._is_stopping:
            wait = None if self._armed is None else max(0.0, self._armed - time.monotonic())
            ready = self._selector.select(wait)
            # First, and always: a worker that was told to stop by the same signal says so at the same time.
            self._take_signals()
            for key, events in ready:
                if isinstance(key.data, WorkerProcess):
                    self._hear(key.data)
                    self._let_write(key.data)
                elif key.data is not None:
                    key.data(events)
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
        configuration = self._next or self._current
        process = WorkerProcess(
            slot.index, configuration.generation, self._board.take_place(), channel(), time.monotonic()
        )
        plan = Plan(
            script=configuration.script,
            listen=configuration.listen,
            log=configuration.log,
            index=slot.index,
            steering=None if self._options.steering == "none" else self._steering,
            sockets=slot.sockets,
            inlet=slot.way_in[1],
            peers={other.index: other.way_in[0] for other in self._slots if other is not slot},
            heir=process.heir[0],
            predecessors={older.pid: older.heir[1] for older in slot.chain},
            scoreboard=self._board.scoreboard,
            place=process.place,
            store_path=self._store_path,
            notices=self._notices.seen_by(process.generation),
            streams=self._streams.of(configuration.script.registry.listens()),
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
        yield from self._clients.sockets()
        yield from self._streams.others((self._next or self._current).script.registry.listens())
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
                if other is not slot:
                    yield older.heir[1]

    def _hear(self, process: WorkerProcess) -> None:
        if process.pid not in self._processes:
            return
        messages = process.listen()
        if process.has_hung_up:
            # Its end comes, but a thread of it may take its time.
            self._stop_hearing(process)
        for message in messages:
            process.last_beat = time.monotonic()
            if isinstance(message, Beat):
                process.counters = message.counters
                process.is_reported = False
            elif isinstance(message, Ready):
                process.state = "ready"
                process.ready_at = process.last_beat
                process.commands = message.commands
                self._became_ready()
            elif isinstance(message, Drained):
                process.state = "drained"
                self._let_drained_end()
            elif isinstance(message, Answer):
                self._interface.answered(process, message.number, Outcome(message.result, message.fault))
            elif isinstance(message, Notice):
                if self._notices.put(process, message):
                    self._pass_on(message, process)
            else:
                self._could_not_start(process, message)

    def _pass_on(self, notice: Notice, by: WorkerProcess) -> None:
        for other in self._processes.values():
            if self._notices.is_for(notice, other, by):
                self._tell(other, notice)

    def _tell(self, process: WorkerProcess, message: ToWorker) -> None:
        process.tell(message)
        self._let_write(process)

    def _let_write(self, process: WorkerProcess) -> None:
        """Have the loop write what waits for a worker, or not any more."""
        if process.pid not in self._processes:
            return
        if process.is_waiting:
            process.flush()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.is_waiting else 0)
        with contextlib.suppress(KeyError):
            # KeyError: it has hung up.
            if self._selector.get_key(process.control).events != events:
                self._selector.modify(process.control, events, process)

    def _stop_hearing(self, process: WorkerProcess) -> None:
        with contextlib.suppress(KeyError):
            # KeyError: that was done when it hung up.
            self._selector.unregister(process.control)

    def _could_not_start(self, process: WorkerProcess, message: Failed) -> None:
        logger.error("%s cannot start: %s", process, message.reason)
        if not self._is_serving:
            self._give_up(message.reason)
        elif self._next is not None and process.generation == self._next.generation:
            self._abandon_reload(message.reason)

    def _became_ready(self) -> None:
        if self._is_stopping:
            return
        newest = [slot.chain[-1] for slot in self._slots if slot.chain]
        if len(newest) < self._number or any(process.state != "ready" for process in newest):
            return
        if self._next is not None:
            self._finish_reload()
        elif not self._is_serving:
            self._is_serving = True
            self._announce(self._current.listen, self._number)
            self._notifier.ready(self._status())
            if self._notifier.watchdog_interval is not None:
                self._watch(None)

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
        self._stop_hearing(process)
        slot = self._slots[process.index]
        place = slot.chain.index(process)
        was_newest = slot.chain[-1] is process
        del slot.chain[place]
        self._board.leave(process.place, process.counters)
        process.close()
        for name in self._notices.left(process):
            self._pass_on(Notice(name), process)
        self._notices.forget({other.generation for other in self._processes.values()} | {self._current.generation})
        self._interface.ended(process)
        if not was_newest:
            successor = slot.chain[place]
            self._tell(successor, Follow(slot.chain[place - 1].pid) if place else Read())
        self._let_drained_end()
        if self._is_stopping or process.state == "abandoned" or (process.state == "retiring" and status == 0):
            return
        logger.error("%s %s", process, describe_end(status))
        if not self._is_serving:
            self._give_up(f"{process} {describe_end(status)} before it was ready")
        elif self._next is not None and process.generation == self._next.generation:
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
        self._timers.start(delay, self._start_again, slot)

    def _start_again(self, slot: Slot) -> None:
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
        # At least as often as hung workers are looked for: the feeding after one that is left out might come too late.
        self._timers.start(min(self._notifier.watchdog_interval, STATUS_INTERVAL), self._watch)
        now = time.monotonic()
        if all(self._silence.since(process.last_beat, now) < SILENT_SECONDS for process in self._processes.values()):
            self._notifier.watchdog()

    # ---- reload

    def _reload_for(self, done: ReloadDone) -> None:
        """Reload, and tell somebody when that is over."""
        (self._reload_waiters if self._next is None else self._next_waiters).append(done)
        self._reload()

    def _reload(self) -> None:
        """Read the script again; if it is good, start workers with it beside those that there are."""
        if self._is_stopping or not self._is_serving:
            self._tell_waiters(f"the server is {self._state()}")
            return
        if self._next is not None:
            self._reload_again = True
            return
        self._notifier.reloading()
        logger.info("reloading %s", self._current.script.path)
        try:
            configuration = self._load()
            self._keep_what_stays(configuration)
            # With what is left of the privileges: an address that takes more needs a restart.
            self._streams.open(configuration.script.registry.listens(), Identity())
        except SipwrightError as error:
            logger.error("the script was not reloaded, nothing has changed:\n%s", error)
            self._reload_is_over(f"\n{error}")
        except Exception as error:
            # Of a module that fails in another way than it should.
            logger.exception("the script was not reloaded, nothing has changed:")
            self._reload_is_over(f"{type(error).__name__}: {error}")
        else:
            configuration.generation = self._current.generation + 1
            self._next = configuration
            _collect()
            for slot in self._slots:
                self._start_worker(slot)

    def _keep_what_stays(self, configuration: Configuration) -> None:
        """Put the addresses that are bound into a new configuration, and say what of it needs a restart."""
        if self._options.control is None and configuration.script.settings.control != self._asked_control:
            logger.warning("the new script wants the control interface elsewhere: that needs a restart")
        if worker_count(self._options, configuration.script) != self._number:
            logger.warning("the new script wants other children: that needs a restart, there are %d", self._number)
        if [str(address) for address in configuration.listen] != self._asked_for:
            logger.warning("the new script listens elsewhere: that needs a restart, the addresses stay as they are")
            configuration.listen = self._current.listen
        else:
            for new, bound in zip(configuration.listen, self._current.listen, strict=True):
                new.host, new.port = bound.host, bound.port

    def _finish_reload(self) -> None:
        assert self._next is not None
        changed = self._notices.lasting(self._current.generation)
        self._current, self._next = self._next, None
        drain_timeout = self._current.script.settings.drain_timeout / 1000
        for slot in self._slots:
            for process in slot.chain[:-1]:
                if process.state != "retiring":
                    process.state = "retiring"
                    self._tell(process, Retire(drain_timeout))
                    # It is asked to linger; if it does not end by itself then, it is hung.
                    self._timers.start(drain_timeout + LINGER + GRACE, self._kill_if_alive, process)
            slot.restarts = Restarts()
        logger.setLevel(self._current.log.level)
        logger.info("reloaded %s", self._current.script.path)
        if changed:
            logger.warning("what commands had changed is as the script says again: %s", ", ".join(changed))
        self._reload_is_over(None)

    def _abandon_reload(self, reason: str) -> None:
        assert self._next is not None
        abandoned, self._next = self._next, None
        logger.error("the script was not reloaded, nothing has changed: %s", reason)
        for process in self._processes.values():
            if process.generation == abandoned.generation:
                # Nothing was given to it yet. Its end is expected.
                process.state = "abandoned"
                process.kill()
        for slot in self._slots:
            if not any(process.generation == self._current.generation for process in slot.chain):
                self._restart(slot, None)
        self._reload_is_over(reason)

    def _reload_is_over(self, wrong: str | None) -> None:
        self._notifier.ready(self._status())
        self._streams.keep(self._current.script.registry.listens())
        self._tell_waiters(wrong)
        if self._reload_again:
            self._reload_again = False
            self._reload_waiters, self._next_waiters = self._next_waiters, []
            self._reload()

    def _tell_waiters(self, wrong: str | None) -> None:
        waiters, self._reload_waiters = self._reload_waiters, []
        for done in waiters:
            done(wrong)

    # ---- the end

    def _stop(self) -> None:
        if self._is_stopping:
            logger.info("stopping at once")
            for process in self._processes.values():
                process.kill()
            return
        self._is_stopping = True
        self._reload_waiters += self._next_waiters
        self._next_waiters = []
        self._tell_waiters("the server is stopping")
        self._notifier.stopping()
        logger.info("stopping")
        # Nobody accepts there any more: who connects shall know it.
        self._streams.keep(())
        drain_timeout = self._current.script.settings.drain_timeout / 1000
        for process in self._processes.values():
            process.state = "stopping"
            self._tell(process, Stop(drain_timeout))
            self._timers.start(drain_timeout + GRACE, self._kill_if_alive, process)

    def _let_drained_end(self) -> None:
        """Let workers end that have drained: at the stop when all have, and one that was told to alone at once."""
        drained = [process for process in self._processes.values() if process.state == "drained"]
        if self._is_stopping and len(drained) < len(self._processes):
            return
        for process in drained:
            self._tell(process, End())

    def _give_up(self, reason: str) -> None:
        if self._failure is None:
            self._failure = reason
        if not self._is_stopping:
            self._stop()

    def _kill_if_alive(self, process: WorkerProcess) -> None:
        if process.pid not in self._processes:
            return
        if process.state == "retiring" and self._slots[process.index].chain[0] is not process:
            # It waits for the end of an older one, which is watched itself.
            self._timers.start(GRACE, self._kill_if_alive, process)
            return
        logger.error("%s does not end: it is killed", process)
        process.kill()

    # ---- what there is to tell

    def _state(self) -> str:
        if self._is_stopping:
            return "stopping"
        if not self._is_serving:
            return "starting"
        return "serving" if self._next is None else "reloading"

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
