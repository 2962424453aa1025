"""A client, its servers and the network between them, all simulated, and the books that are kept on every call.

The servers count which calls they carried out; the books say what became of each call on the client's side. `check` and
`settle` hold the client to what it promises:

- a call ends exactly once, in its time, with its own result, and not at all once it was cancelled;
- a call that must not be doubled is carried out at most once, and one that no server was asked for, never;
- a server that was drained, taken away, or left out gets no call, and none gets more than it may have at a time;
- what the client, the books and the servers have counted is the same;
- who does not read is not sent ever more, and what has ended is waited for nowhere;
- at the end nothing is left: no entry, no timer, no connection, no task.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcError, RpcTimeoutError
from sipwright.jsonrpc import connection
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.jsonrpc.calls import Attempt, PendingCall, Probe
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.messages import encode_json
from sipwright.jsonrpc.rpc_connection import RpcConnection
from sipwright.jsonrpc.server import Server
from sipwright.testing.fakerpc import (
    FakeConnection,
    FakeRpcServer,
    RecordedCall,
    after,
    both,
    error,
    payload,
    raw,
    result,
)
from sipwright.testing.simnet import SimHost, SimNetwork

PORT = 7000
NAME = "_rpc._tcp.example.org"
# Bytes that a connection holds before it counts as blocked, instead of a megabyte, and that the systems hold besides.
HIGH_WATER = 2000
WINDOW = 1500
# An error that a server answers with before it has done anything: another server may be asked.
BUSY = -32050
FAILED = 500
# Seconds by which a call may end late: floats are added up in another order than they are compared in.
SLACK = 1e-6
# Each call of a set with more than 64 different timeouts may end late by this part of it (see `deadlines`).
SHARED_SLACK = 1 / 16

# Bytes of the longest message.
MAX_PAYLOAD = 4000
# The calls of a batch.
MAX_BATCH = 7

ODD_ANSWERS = ("right", "doubled", "late", "never", "hang up", "rubbish", "half", "unknown id", "busy", "null id")
COUNTERS = ("results", "errors", "timeouts", "failures", "cancelled")
STATUS_OF = {"results": "ok", "errors": "error", "timeouts": "timeout", "failures": "failure", "cancelled": "cancelled"}


@dataclass(eq=False)
class Asked:
    """One call in the books."""

    token: int
    group: str
    is_repeatable: bool
    timeout: float
    started: float
    tries: int
    is_hedged: bool
    handle: PendingCall | None = None
    task: asyncio.Task[Any] | None = None
    ends: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    ended: float = 0.0
    is_given_up: bool = False


class Machine:
    """A host with a server on it, which is the library's or an odd one."""

    def __init__(self, world: World, name: str, *, is_odd: bool) -> None:
        self.world = world
        self.host: SimHost = world.net.add_host(name, f"10.1.0.{len(world.machines) + 1}")
        self.is_odd = is_odd
        # A host name for half of them: then the name is resolved, too.
        self.address = ServerAddress(name if len(world.machines) % 2 else self.host.addresses[0], PORT)
        self.server: Server | FakeRpcServer | None = None
        self.former: list[Server] = []
        # The client's groups that it is a server of, and those in which it is drained.
        self.is_known_in: set[str] = set()
        self.is_drained_in: set[str] = set()

    async def start(self) -> None:
        """Start a server, if there is none."""
        if self.server is not None or self.host.is_off:
            return
        with self.host:
            if self.is_odd:
                fake = FakeRpcServer("0.0.0.0", PORT)
                for method in ("work", "get", "ask_back"):
                    fake.on(method, self._odd_answer)
                await fake.start()
                self.server = fake
            else:
                server = Server(max_concurrent=5, cancel_method="rpc.cancel", keepalive=20.0)
                server.add_method("work", self._work)
                server.add_method("ask_back", self._ask_back)
                server.add_method("get", self._get)
                server.add_method("note", self._note)
                await server.start("0.0.0.0", PORT)
                self.server = server

    def kill(self) -> None:
        """End the server at once."""
        self.host.kill()
        self._forget()

    async def stop(self) -> None:
        """Close the server in an orderly way."""
        server = self.server
        self._forget()
        if isinstance(server, Server):
            await server.close(timeout=0.5)
        elif server is not None:
            await server.stop()

    def power_off(self) -> None:
        self.host.power_off()
        self._forget()

    def _forget(self) -> None:
        if isinstance(self.server, Server):
            self.former.append(self.server)
        self.server = None

    async def _ask_back(self, token: int, seconds: float, code: int, client: RpcConnection) -> Any:
        if code == BUSY:
            raise RpcAnswerError(BUSY, "busy")
        self.world.executed[token] += 1
        try:
            return await client.call("tell", [token, seconds, code], timeout=1.0)
        except (RpcTimeoutError, RpcConnectionError):
            raise RpcAnswerError(FAILED, "the client did not say") from None

    async def _work(self, token: int, seconds: float, code: int, _padding: str = "") -> int:
        if code == BUSY:
            raise RpcAnswerError(BUSY, "busy")
        self.world.executed[token] += 1
        if seconds:
            await asyncio.sleep(seconds)
        if code:
            raise RpcAnswerError(code, "failed")
        return token

    def _get(self, token: int, seconds: float, code: int, _padding: str = "") -> int:
        if code:
            raise RpcAnswerError(code, "failed")
        self.world.executed[token] += 1
        return token

    def _note(self, token: int) -> None:
        self.world.noted[token] += 1

    def _odd_answer(self, client: FakeConnection, call: RecordedCall) -> None:
        token = call.params[0]
        how = self.world.net.random.choice(ODD_ANSWERS)
        if how == "busy":
            error(BUSY, "busy")(client, call)
            return
        self.world.executed[token] += 1
        answer = {
            "right": result(token),
            "doubled": both(result(token), result(token)),
            "late": after(self.world.net.random.choice((0.1, 1.0, 5.0)), result(token)),
            "never": raw(b""),
            "hang up": lambda client, _call: client.hang_up(),
            "rubbish": raw(b"rubbish"),
            "half": both(raw(b'40:{"jsonrpc":"2.0",'), after(0.05, lambda client, _call: client.hang_up())),
            "unknown id": both(payload('{"jsonrpc":"2.0","id":999999,"result":1}'), after(0.2, result(token))),
            "null id": both(payload('{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"?"}}'), result(token)),
        }[how]
        answer(client, call)


class World:
    """All of it. `options` are those of the client; machines from the third on are not the client's at first."""

    def __init__(
        self, seed: int, *, good: int = 3, odd: int = 1, spare: int = 1, exact: bool = True, **options: Any
    ) -> None:
        self._patches = contextlib.ExitStack()
        self._patches.enter_context(patch.multiple(connection, HIGH_WATER=HIGH_WATER, LOW_WATER=HIGH_WATER // 4))
        self.net = SimNetwork(seed, trace_size=400, window=WINDOW)
        self.executed: Counter[int] = Counter()
        self.noted: Counter[int] = Counter()
        self.sent_notes: Counter[int] = Counter()
        self.books: dict[int, Asked] = {}
        self.open: dict[Asked, None] = {}
        self.ended: Counter[str] = Counter()
        self.made = 0
        self.out: set[str] = set()
        self.is_exact = exact
        self.faults: list[str] = []
        self.machines: list[Machine] = []
        for number in range(good + odd + spare):
            self.machines.append(Machine(self, f"s{number}", is_odd=good <= number < good + odd))
        self.max_pending = options.get("max_pending", 10_000)
        self._by_name = {str(machine.address): machine for machine in self.machines}
        self.hedge: float | None = options.get("hedge")
        specs = [ServerSpec(m.address, 1 + n % 2, 1 + n % 3) for n, m in enumerate(self.machines[: good + odd])]
        for number, machine in enumerate(self.machines[: good + odd]):
            machine.is_known_in = {"", "other"} if number else {""}
        self.client = Client(
            specs,
            groups={"other": specs[1:], "named": f"srv:{NAME},1"},
            resolver=self.net,
            min_srv_ttl=0.1,
            idempotent_methods=("get",),
            random=self.net.random.random,
            reconnect_interval=0.3,
            **options,
        )
        self.client.watch = self._watch
        self.client.watch_servers = self._watch_servers
        self.client.dispatcher.add("tell", self._tell)
        self.name(0, 1)
        self.run(self._start())

    async def _start(self) -> None:
        for machine in self.machines:
            await machine.start()
        self.client.start()

    def run(self, work: Any) -> Any:
        """Run a coroutine in the simulation."""
        return self.net.run(work, limit=1e6)

    async def _tell(self, token: int, seconds: float, code: int) -> int:
        """Answer what a server asks the client in the middle of its call."""
        await asyncio.sleep(seconds)
        if code:
            raise RpcAnswerError(code, "failed")
        return token

    def name(self, *indexes: int) -> None:
        """Set the servers that the name stands for; none removes it."""
        if indexes:
            records = [(10 * (n % 2), 1, PORT, self.machines[i].host.name) for n, i in enumerate(indexes)]
            self.net.add_srv(NAME, *records, ttl=0.1)
        else:
            self.net.remove_srv(NAME)

    # Calls

    def _book(
        self, timeout: float, retry: int, hedge: float | None, *, is_repeatable: bool, group: str | None = None
    ) -> Asked:
        self.made += 1
        hedge = self.hedge if hedge is None else hedge
        tries = 1 + (max(retry, 1) if hedge is not None and is_repeatable else retry)
        asked = Asked(self.made, group or "", is_repeatable, timeout, self.net.loop.time(), tries, hedge is not None)
        self.books[asked.token] = asked
        self.open[asked] = None
        return asked

    def submit(
        self,
        *,
        method: str = "work",
        timeout: float = 1.0,
        retry: int = 0,
        idempotent: bool = False,
        hedge: float | None = None,
        seconds: float = 0.0,
        code: int = 0,
        wait: bool = False,
        padding: int = 0,
        group: str | None = None,
        then: Callable[[], object] | None = None,
    ) -> Asked:
        """Make a call with a callback; `then()` is called in it."""
        asked = self._book(timeout, retry, hedge, is_repeatable=idempotent or method == "get", group=group)

        def done(argument: object, call: PendingCall) -> None:
            self._ended(asked, str(call.status))
            if argument is not asked or call is not asked.handle:
                self.faults.append(f"{asked.token} was told of another call")
            if call.status == "ok" and call.value() != asked.token:
                self.faults.append(f"{asked.token} has the result {call.value()!r}")
            if then is not None:
                then()

        asked.handle = self.client.submit(
            method,
            encode_json([asked.token, seconds, code, "x" * padding] if padding else [asked.token, seconds, code]),
            done,
            asked,
            timeout=timeout,
            retry=retry,
            idempotent=idempotent,
            hedge=hedge,
            wait=wait,
            group=group,
        )
        return asked

    def call(
        self,
        *,
        method: str = "work",
        timeout: float = 1.0,
        retry: int = 0,
        idempotent: bool = False,
        hedge: float | None = None,
        seconds: float = 0.0,
        code: int = 0,
        group: str | None = None,
    ) -> Asked:
        """Make a call in a task."""
        asked = self._book(timeout, retry, hedge, is_repeatable=idempotent or method == "get", group=group)

        async def run() -> None:
            try:
                answer = await self.client.call(
                    method,
                    [asked.token, seconds, code],
                    timeout=timeout,
                    retry=retry,
                    idempotent=idempotent,
                    hedge=hedge,
                    group=group,
                )
            except asyncio.CancelledError:
                self._ended(asked, "cancelled")
            except RpcError as fault:
                self._ended(asked, _status(fault))
            else:
                self._ended(asked, "ok")
                if answer != asked.token:
                    self.faults.append(f"{asked.token} has the result {answer!r}")

        asked.task = self.net.loop.create_task(run())
        asked.task.add_done_callback(lambda _: self._never_made([asked]))
        return asked

    def batch(self, size: int, timeout: float) -> None:
        """Send a batch in a task: calls, and a notification at its end."""
        calls = [self._book(timeout, 0, None, is_repeatable=False) for _ in range(size)]

        async def run() -> None:
            batch = self.client.batch(timeout=timeout)
            for asked in calls:
                batch.call("work", [asked.token, 0.0, 0])
            self.made += 1
            batch.notify("note", [self.made])
            self.sent_notes[self.made] += 1
            try:
                outcomes = await batch
            except RpcError:
                # No server could take it.
                return
            except asyncio.CancelledError:
                for asked, call in zip(calls, batch._calls, strict=False):
                    self._ended(asked, str(call.status))
                return
            for asked, outcome in zip(calls, outcomes, strict=True):
                self._ended(asked, _status(outcome) if isinstance(outcome, RpcError) else "ok")
                if not isinstance(outcome, RpcError) and outcome != asked.token:
                    self.faults.append(f"{asked.token} has the result {outcome!r}")

        task = self.net.loop.create_task(run())
        for asked in calls:
            asked.task = task
        task.add_done_callback(lambda _: self._never_made(calls))

    def _never_made(self, calls: list[Asked]) -> None:
        """Take those out of the books that the client has not heard of: their task was cancelled too early."""
        for asked in calls:
            if not asked.ends:
                del self.books[asked.token]
                del self.open[asked]
                if self.executed[asked.token]:
                    self.faults.append(f"{asked.token} was carried out but never made")

    def notify(self, group: str | None = None) -> None:
        """Send a notification, if a server can take it."""
        self.made += 1
        if self.client.submit_notification("note", b"[%d]" % self.made, group=group):
            self.sent_notes[self.made] += 1

    def cancel(self, asked: Asked) -> None:
        """Give a call up."""
        if asked.ends:
            return
        if asked.handle is not None:
            asked.is_given_up = True
            asked.handle.cancel()
            asked.handle.cancel()
            self._ended(asked, "cancelled")
        elif asked.task is not None:
            asked.task.cancel()

    def _ended(self, asked: Asked, status: str) -> None:
        """Take note of what whoever made the call was told."""
        asked.ends.append(status)
        asked.ended = self.net.loop.time()
        self.open.pop(asked, None)
        if len(asked.ends) > 1:
            self.faults.append(f"{asked.token} has ended more than once: {asked.ends}")
        # A task that is cancelled after its call has ended, and before it has heard of it, hears of no result.
        if asked.told[-1:] != [status] and not (asked.task is not None and status == "cancelled"):
            self.faults.append(f"{asked.token} has ended as {status}, but the client said {asked.told}")
        slack = SLACK + (0.0 if self.is_exact else asked.timeout * SHARED_SLACK)
        if asked.ended > asked.started + asked.timeout + slack:
            late = asked.ended - asked.started - asked.timeout
            self.faults.append(
                f"{asked.token} has ended ({status}) {late:.6f} s after its timeout of {asked.timeout} s"
            )

    def _watch(self, event: str, call: PendingCall | None, server: str, _number: int | None) -> None:
        """Take note of what the client says that it does."""
        if call is None or call.params is None:
            return
        asked = self.books[int(call.params[1 : call.params.index(b",")])]
        if asked.told and asked.told[-1] != "request":
            self.faults.append(f"{asked.token}: {event} after {asked.told}")
        asked.told.append(event)
        if event == "request":
            self._check_choice(asked, server)
        else:
            if event == "timeout" and not asked.is_hedged and call.connection is not None and call.connection._ended:
                self.faults.append(f"{asked.token} has ended by its time, though its connection was lost before")
            self.ended[event] += 1

    def _watch_servers(self, event: str, server: str) -> None:
        if event == "out":
            self.out.add(server)
        elif event == "back":
            self.out.discard(server)

    def _check_choice(self, asked: Asked, server: str) -> None:
        """Look whether the server of a request may have it."""
        # One that was taken away and is there again has begun anew.
        if server in self.out and all(one.is_out for one in self.client._pool.endpoints if one.name == server):
            self.faults.append(f"{asked.token} was sent to {server}, which is left out")
        machine = self._by_name.get(server)
        if asked.group != "named" and machine is not None:
            if asked.group not in machine.is_known_in:
                self.faults.append(f"{asked.token} was sent to {server}, which was taken away")
            if asked.group in machine.is_drained_in:
                self.faults.append(f"{asked.token} was sent to {server}, which is drained")

    # The client's servers

    def add_server(self, machine: Machine, group: str, priority: int, weight: int) -> None:
        """Add a server, or give it another priority and weight and end its draining."""
        machine.is_known_in.add(group)
        machine.is_drained_in.discard(group)
        self.client.add_server(ServerSpec(machine.address, priority, weight), group)

    def drain_server(self, machine: Machine, group: str) -> None:
        """Let a server have no new calls."""
        if group in machine.is_known_in:
            machine.is_drained_in.add(group)
            if self.client.drain_server(machine.address, group) < 0:
                self.faults.append("fewer than no calls are in flight")

    def remove_server(self, machine: Machine, group: str) -> None:
        """Take a server away."""
        if group in machine.is_known_in:
            machine.is_known_in.remove(group)
            machine.is_drained_in.discard(group)
            self.client.remove_server(machine.address, group)

    # What must be so

    def check(self) -> None:
        """Compare the books with what the client has counted."""
        assert not self.faults, self.faults[:3]
        counted = self.client.counters()
        assert counted["calls"] == sum(counted[name] for name in (*COUNTERS, "pending"))
        for name in COUNTERS:
            assert counted[name] == self.ended[STATUS_OF[name]], name
        assert counted["pending"] <= len(self.open)
        for server, pending in self.client.connections.items():
            # A batch goes as a whole, and a probe always.
            assert (pending or 0) <= self.max_pending + MAX_BATCH + 1, server
        for link in self.client._pool.connections():
            # Nobody is waited for who has ended, and who does not read is not sent ever more.
            for one in link.peer.pending.values():
                assert isinstance(one, Probe) or (one.call if isinstance(one, Attempt) else one).status is None
            assert link.transport is None or link.transport.get_write_buffer_size() <= 2 * (HIGH_WATER + MAX_PAYLOAD)
        for group, waiting in self.client._queues.items():
            # Nobody waits for a server that could be asked.
            links = [link for ring in group._rings for link in ring]
            assert not waiting or all(len(link.pending) >= link.limit for link in links), group.name
        assert counted["notifications"] <= sum(self.sent_notes.values())
        for asked in self.books.values():
            if not asked.is_repeatable:
                assert self.executed[asked.token] <= 1, (asked, self.executed[asked.token])

    async def _close(self, timeout: float) -> None:
        await self.client.close(timeout)
        # Who waits in a task, and calls that were made by a callback of this, hear of it in the next turns.
        for _ in range(5):
            await asyncio.sleep(0)
        assert self.client.pending == 0
        assert not self.open, [asked.token for asked in self.open]
        for machine in self.machines:
            await machine.stop()

    def settle(self, timeout: float = 0.0) -> None:
        """Close everything, and look at what is left."""
        self.net.heal()
        for machine in self.machines:
            if machine.host.is_stalled:
                machine.host.resume()
        self.run(self._close(timeout))
        self.check()
        counted = self.client.counters()
        assert counted["calls"] == len(self.books)
        assert counted["pending"] == counted["waiting"] == 0
        for asked in self.books.values():
            assert len(asked.ends) == 1
            status = asked.told[-1]
            assert asked.told[:-1] == ["request"] * (len(asked.told) - 1)
            sent = len(asked.told) - 1
            assert sent <= asked.tries, asked
            if not sent:
                assert not self.executed[asked.token], asked
            if status in ("ok", "timeout", "error"):
                assert sent, asked
            if status == "ok":
                assert self.executed[asked.token], asked
        for token, times in self.noted.items():
            assert times <= self.sent_notes[token] == 1
        # Late answers, functions that still run, and connections that are closing.
        self.net.advance(60.0)
        assert self.net.connections == []
        assert self.net.loop.timers() == []
        assert asyncio.all_tasks(self.net.loop) == set()
        assert not self.net.loop.errors, self.net.loop.errors[:2]
        assert len(self.client._deadlines) == 0
        assert self.client._pool.connections() == []
        for machine in self.machines:
            for server in [*machine.former, machine.server]:
                if isinstance(server, Server):
                    served = server.executor.counters()
                    assert served["running"] == 0
                    assert served["requests"] == sum(
                        served[name] for name in ("results", "errors", "notifications", "cancelled")
                    )

    def close(self) -> None:
        """Let go of the simulation."""
        self._patches.close()
        self.net.close()


def _status(fault: RpcError) -> str:
    if isinstance(fault, RpcAnswerError):
        return "error"
    return "timeout" if isinstance(fault, RpcTimeoutError) else "failure"
