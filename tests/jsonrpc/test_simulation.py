"""The whole client against everything that servers and networks do, simulated: the promises of `simulated` are kept.

Two searches over the same world: hypothesis looks for a short sequence of events that breaks a promise, and a long run
makes 100,000 calls with faults at random from a seed, which it says when it fails.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sipwright.errors import RpcTimeoutError
from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.client import Client
from sipwright.testing.fakerpc import FakeRpcServer, after, hang_up, never, result
from sipwright.testing.simnet import SimNetwork
from tests.jsonrpc.simulated import BUSY, FAILED, MAX_BATCH, Asked, Machine, World

OPTIONS = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["round_robin", "least_pending"]),
        "max_pending": st.sampled_from([2, 10_000]),
        "when_full": st.sampled_from(["refuse", "wait"]),
        "max_waiting": st.sampled_from([3, 10_000]),
        "max_conn_attempts": st.sampled_from([-1, 2]),
        "retry_codes": st.sampled_from([(), (BUSY,), (range(BUSY, BUSY + 10), 7)]),
        "retry_delay": st.sampled_from([0.0, 0.05]),
        "hedge": st.sampled_from([None, 0.02]),
        "max_failures": st.sampled_from([0, 2]),
        "cancel_method": st.sampled_from([None, "rpc.cancel"]),
    }
)
TIMEOUTS = st.sampled_from([0.3, 2.0, 0.02])
# How long calls are under way until the next thing happens.
PAUSES = st.sampled_from([0.0, 0.001, 0.002, 0.004])
CALLS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["work", "work", "get", "ask_back"]),
        "timeout": TIMEOUTS,
        "retry": st.integers(0, 3),
        "idempotent": st.booleans(),
        "hedge": st.sampled_from([None, None, 0.01, 0.1]),
        "seconds": st.sampled_from([0.0, 0.005, 0.2, 3.0]),
        "code": st.sampled_from([0, 0, 0, 0, 0, 0, FAILED, BUSY]),
        "group": st.sampled_from([None, None, "other", "named"]),
    }
)
MACHINES = st.integers(0, 4)


class SimulatedClient(RuleBasedStateMachine):
    """One client, five machines of which it knows four at first, and what happens to them."""

    world: World

    @initialize(seed=st.integers(0, 1 << 30), options=OPTIONS, hedged=st.booleans(), connected=st.booleans())
    def begin(self, seed: int, options: dict[str, Any], hedged: bool, connected: bool) -> None:
        # The client's own hedge makes each idempotent call have another try, which the books have to know.
        self.world = World(seed, **(options if hedged else {**options, "hedge": None}))
        if connected:
            self.world.net.advance(0.1)

    # Calls

    @rule(options=CALLS, wait=st.booleans(), pause=PAUSES)
    def submit(self, options: dict[str, Any], wait: bool, pause: float) -> None:
        self.world.submit(wait=wait, **options)
        self.world.net.advance(pause)

    @rule(options=CALLS, pause=PAUSES)
    def call(self, options: dict[str, Any], pause: float) -> None:
        self.world.call(**options)
        self.world.net.advance(pause)

    @rule(options=CALLS, count=st.integers(2, 20), padding=st.sampled_from([0, 0, 300, 3000]), pause=PAUSES)
    def submit_many(self, options: dict[str, Any], count: int, padding: int, pause: float) -> None:
        for _ in range(count):
            self.world.submit(padding=0 if options["method"] == "ask_back" else padding, **options)
        self.world.net.advance(pause)

    @rule(options=CALLS, index=st.integers(0, 100))
    def submit_and_cancel_another_in_the_callback(self, options: dict[str, Any], index: int) -> None:
        def then() -> None:
            if self.world.open:
                self.world.cancel(self._open(index))

        self.world.submit(then=then, **options)

    @rule(options=CALLS, other=CALLS)
    def submit_and_submit_another_in_the_callback(self, options: dict[str, Any], other: dict[str, Any]) -> None:
        self.world.submit(then=lambda: self.world.submit(**other), **options)

    @rule(size=st.integers(1, MAX_BATCH), timeout=TIMEOUTS)
    def batch(self, size: int, timeout: float) -> None:
        self.world.batch(size, timeout)

    @rule(group=st.sampled_from([None, "other"]))
    def notify(self, group: str | None) -> None:
        self.world.notify(group)

    @precondition(lambda self: self.world.open)
    @rule(index=st.integers(0, 100))
    def cancel(self, index: int) -> None:
        self.world.cancel(self._open(index))

    def _open(self, index: int) -> Asked:
        calls = list(self.world.open)
        return calls[index % len(calls)]

    # Time

    @rule(seconds=st.sampled_from([0.0, 0.0003, 0.001, 0.005]))
    def a_moment_passes(self, seconds: float) -> None:
        self.world.net.advance(seconds)

    @rule(seconds=st.sampled_from([0.02, 0.1, 0.5, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.net.advance(seconds)

    # Connections and links

    @precondition(lambda self: self.world.net.connections)
    @rule(index=st.integers(0, 20), count=st.none() | st.integers(0, 200), to_server=st.booleans())
    def break_connection(self, index: int, count: int | None, to_server: bool) -> None:
        connections = self.world.net.connections
        connection = connections[index % len(connections)]
        if count is None:
            connection.reset()
        elif to_server:
            connection.reset_after(to_server=count)
        else:
            connection.reset_after(to_client=count)

    @rule(index=MACHINES, way=st.sampled_from(["both", "there", "back"]))
    def cut(self, index: int, way: str) -> None:
        net, host = self.world.net, self._machine(index).host
        ends = (host, net.local) if way == "back" else (net.local, host)
        net.cut(*ends, one_way=way != "both")

    @rule()
    def heal(self) -> None:
        self.world.net.heal()

    @rule(index=MACHINES, latency=st.sampled_from([0.0, 0.001, 0.05, 1.0]), segments=st.sampled_from([None, 1, 40]))
    def change_link(self, index: int, latency: float, segments: int | None) -> None:
        net, host = self.world.net, self._machine(index).host
        for link in (net.link(net.local, host), net.link(host, net.local)):
            link.latency = (latency / 2, latency)
            link.segments = None if segments is None else (1, segments)

    # Machines

    def _machine(self, index: int) -> Machine:
        return self.world.machines[index]

    @rule(index=MACHINES)
    def kill(self, index: int) -> None:
        self._machine(index).kill()

    @rule(index=MACHINES)
    def stop(self, index: int) -> None:
        self.world.net.loop.create_task(self._machine(index).stop())

    @rule(index=MACHINES)
    def start(self, index: int) -> None:
        machine = self._machine(index)
        if not machine.host.is_off:
            self.world.run(machine.start())

    @rule(index=MACHINES)
    def power(self, index: int) -> None:
        machine = self._machine(index)
        if machine.host.is_off:
            machine.host.power_on()
        else:
            machine.power_off()

    @rule(index=MACHINES)
    def stall(self, index: int) -> None:
        host = self._machine(index).host
        if host.is_stalled:
            host.resume()
        else:
            host.stall()

    # The client's servers

    @rule(index=MACHINES, priority=st.integers(0, 2), weight=st.integers(1, 3), group=st.sampled_from(["", "other"]))
    def add_server(self, index: int, priority: int, weight: int, group: str) -> None:
        self.world.add_server(self._machine(index), group, priority, weight)

    @rule(index=MACHINES, group=st.sampled_from(["", "other"]), drain=st.booleans())
    def take_server_away(self, index: int, group: str, drain: bool) -> None:
        if drain:
            self.world.drain_server(self._machine(index), group)
        else:
            self.world.remove_server(self._machine(index), group)

    @rule(indexes=st.lists(MACHINES, max_size=3, unique=True))
    def change_the_records_of_the_name(self, indexes: list[int]) -> None:
        self.world.name(*indexes)

    # Promises

    @invariant()
    def promises_are_kept(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.settle(0.5 if self.world.made % 2 else 0.0)
            finally:
                self.world.close()


TestSimulatedClient = SimulatedClient.TestCase
TestSimulatedClient.settings = settings(
    max_examples=3 * settings().max_examples,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class LongRun:
    """Calls and faults at random, all from one seed."""

    def __init__(self, seed: int, calls: int, **options: Any) -> None:
        self.calls = calls
        self.world = World(seed, exact=False, **options)
        self.random = random.Random(seed)

    def run(self) -> None:
        """Make the calls, with something else between them now and then."""
        world, chance = self.world, self.random
        while len(world.books) < self.calls:
            for _ in range(chance.randrange(1, 40)):
                self._call()
            if chance.random() < 0.3:
                self._fault()
            if chance.random() < 0.2:
                self._mend()
            world.net.advance(chance.choice((0.0, 0.0005, 0.005, 0.02, 0.1, 0.3)))
            if chance.random() < 0.01:
                world.check()

    def _call(self) -> None:
        world, chance = self.world, self.random
        kind = chance.random()
        if kind < 0.02:
            world.batch(chance.randrange(1, MAX_BATCH), chance.choice((0.05, 1.0)))
        elif kind < 0.04:
            world.notify()
        elif kind < 0.08 and world.open:
            world.cancel(next(iter(world.open)))
        else:
            options: dict[str, Any] = {
                "method": chance.choice(("work", "work", "get", "ask_back")),
                "timeout": chance.choice((0.02, 0.1, 0.5, 2.0)),
                "retry": chance.choice((0, 0, 1, 3)),
                "idempotent": chance.random() < 0.4,
                "hedge": chance.choice((None, None, None, 0.01)),
                "seconds": chance.choice((0.0, 0.0, 0.0, 0.002, 0.05)),
                "code": chance.choice((0,) * 18 + (FAILED, BUSY)),
                "group": chance.choice((None, None, "other", "named")),
            }
            if chance.random() < 0.2:
                world.call(**options)
            else:
                padding = 0 if options["method"] == "ask_back" else chance.choice((0,) * 30 + (100,) * 10 + (3000,))
                world.submit(wait=chance.random() < 0.5, padding=padding, **options)

    def _fault(self) -> None:
        world, net, chance = self.world, self.world.net, self.random
        machine = chance.choice(world.machines)
        host = machine.host
        match chance.randrange(12):
            case 0 | 1 if net.connections:
                chance.choice(net.connections).reset()
            case 2 | 3 if net.connections:
                chance.choice(net.connections).reset_after(to_server=chance.randrange(500))
            case 4 | 5 if net.connections:
                chance.choice(net.connections).reset_after(to_client=chance.randrange(500))
            case 6:
                net.cut(net.local, host, one_way=chance.random() < 0.5)
            case 7:
                machine.kill()
            case 8:
                net.loop.create_task(machine.stop())
            case 9:
                host.stall()
            case 10:
                machine.power_off()
            case 11:
                latency = chance.choice((0.0002, 0.002, 0.02))
                for link in (net.link(net.local, host), net.link(host, net.local)):
                    link.latency = (latency / 2, latency)
                    link.segments = chance.choice((None, (1, 100)))
            case _:
                pass

    def _mend(self) -> None:
        world, chance = self.world, self.random
        world.net.heal()
        for machine in world.machines:
            if machine.host.is_stalled:
                machine.host.resume()
            if machine.host.is_off:
                machine.host.power_on()
            world.run(machine.start())
        machine = chance.choice(world.machines)
        match chance.randrange(5):
            case 0:
                world.add_server(machine, "", 1 + chance.randrange(2), 1 + chance.randrange(3))
            case 1 if len([one for one in world.machines if "" in one.is_known_in]) > 2:
                world.remove_server(machine, "")
            case 2:
                world.drain_server(machine, "")
            case 3:
                world.name(*chance.sample(range(5), chance.randrange(3)))
            case _:
                pass


@pytest.mark.parametrize(("policy", "calls"), [("round_robin", 100_000), ("least_pending", 20_000)])
def test_a_hundred_thousand_calls_end_as_they_should(policy: Any, calls: int) -> None:
    seed = int(os.environ.get("SIMULATION_SEED", time.time_ns() % 1_000_000_000))
    run = LongRun(
        seed,
        calls,
        policy=policy,
        retry_codes=(BUSY,),
        retry_delay=0.01,
        max_failures=5,
        probe_interval=0.1,
        max_pending=200,
        when_full="wait",
        max_waiting=300,
        cancel_method="rpc.cancel",
    )
    try:
        run.run()
        run.world.settle(1.0)
    except BaseException as error:
        error.add_note(f"the same again: SIMULATION_SEED={seed}")
        raise
    finally:
        run.world.close()
    counted = run.world.client.counters()
    print(f"seed {seed}, {run.world.net.loop.time():.0f} simulated seconds: {counted}")
    # Everything that can happen has happened.
    for name in (
        "results",
        "errors",
        "timeouts",
        "failures",
        "cancelled",
        "retries",
        "hedges",
        "late",
        "notifications",
    ):
        assert counted[name] > calls // 1000, (name, counted)
    assert min(counted["reconnects"], counted["blocked"]) > 0, counted


def test_a_seed_makes_the_same_run_again() -> None:
    def story(seed: int) -> tuple[str, dict[str, int]]:
        run = LongRun(seed, 2000, retry_codes=(BUSY,), max_failures=5, max_pending=50, when_full="wait")
        try:
            run.run()
            run.world.settle()
            return run.world.net.story(), run.world.client.counters()
        finally:
            run.world.close()

    assert story(7) == story(7)
    assert story(7) != story(8)


# Faults that the searches have found, each as short as it can be.


def simulate(test: Callable[[SimNetwork], Coroutine[Any, Any, None]]) -> None:
    """Run a test in a simulation, in which no callback may fail."""
    with SimNetwork() as net:
        net.run(test(net))
        assert net.loop.errors == []


async def silent_server(net: SimNetwork, **scripts: Any) -> FakeRpcServer:
    """Start a server that answers nothing but what it is told to."""
    server = FakeRpcServer()
    server.on("get", never())
    for method, answer in scripts.items():
        server.on(method, answer)
    await server.start()
    return server


def test_a_hedge_that_waits_makes_no_try_too_many_after_a_lost_connection() -> None:
    async def test(net: SimNetwork) -> None:
        servers = [await silent_server(net, get=answer) for answer in (hang_up(), never(), never())]
        addresses = " ".join(f"{server.address},{9 - n}" for n, server in enumerate(servers))
        async with Client(addresses) as client:
            await asyncio.sleep(0.1)
            with pytest.raises(RpcTimeoutError):
                await client.call("get", idempotent=True, retry=1, hedge=0.05, timeout=1.0)
            assert [len(server.calls) for server in servers] == [1, 1, 0]

    simulate(test)


def test_a_try_that_was_put_off_is_not_made_beside_the_one_of_the_next_part() -> None:
    async def test(net: SimNetwork) -> None:
        first, second = await silent_server(net, get=hang_up()), await silent_server(net)
        await second.stop()
        options: dict[str, Any] = {"reconnect_interval": 0.1, "random": lambda: 0.5}
        async with Client(f"{first.address},2 {second.address},1", retry_delay=0.3, **options) as client:
            await asyncio.sleep(0.05)
            call = asyncio.create_task(client.call("get", idempotent=True, retry=3, timeout=0.8))
            # Lost at once; nobody else is there until 0.1; the next part begins at 0.2, the delay ends at 0.3.
            await second.start()
            await asyncio.sleep(0.35)
            assert (len(first.calls), len(second.calls)) == (1, 1)
            call.cancel()

    simulate(test)


def test_a_call_whose_time_is_over_is_cancelled_by_the_end_of_one_that_waits() -> None:
    async def test(net: SimNetwork) -> None:
        server = await silent_server(net)
        async with Client(f"{server.address},1", max_pending=1, when_full="wait", max_failures=1) as client:
            await asyncio.sleep(0.1)
            ended: list[Any] = []

            def cancel(_argument: Any, waiting: PendingCall) -> None:
                ended.append(waiting.status)
                call.cancel()

            call = client.submit("get", None, lambda _, call: ended.append(call.status), timeout=0.1)
            # It ends because the server is left out, before the first one has.
            client.submit("get", None, cancel, timeout=9.0)
            await asyncio.sleep(0.2)
            assert (ended, call.status, client.pending) == (["failure"], "cancelled", 0)
            counted = client.counters()
            assert (counted["failures"], counted["cancelled"], counted["timeouts"]) == (1, 1, 0)

    simulate(test)


def test_calls_that_wait_are_sent_though_the_first_of_them_fills_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sipwright.jsonrpc.connection.HIGH_WATER", 1000)
    monkeypatch.setattr("sipwright.jsonrpc.connection.LOW_WATER", 100)

    async def test(net: SimNetwork) -> None:
        server = await silent_server(net, put=result(1))
        async with Client(f"{server.address},1", when_full="wait") as client:
            # Made before there is a connection; longer than the connection and the system hold.
            assert await client.call("put", ["x" * 100_000]) == 1

    simulate(test)


def test_a_call_is_cancelled_by_the_end_of_another_one_while_it_is_being_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipwright.jsonrpc.connection.HIGH_WATER", 1000)
    monkeypatch.setattr("sipwright.jsonrpc.connection.LOW_WATER", 100)

    async def test(net: SimNetwork) -> None:
        server = await silent_server(net, put=after(0.1, result(1)))
        events: list[str] = []
        async with Client(f"{server.address},1", max_pending=1, when_full="wait") as client:
            await asyncio.sleep(0.1)

            def watch(event: str, call: PendingCall | None, *_: Any) -> None:
                if call is large:
                    events.append(event)

            large: PendingCall | None = None
            client.watch = watch
            client.submit("put", None, lambda _argument, _call: None)
            params = b'["%s"]' % (b"x" * 200_000)
            large = client.submit(
                "get", params, lambda _argument, _call: events.append("ended"), hedge=0.1, idempotent=True
            )
            # When the first has ended, the large one is sent and fills the connection; nobody can take this one then.
            client.submit("put", None, lambda _argument, _call: large.cancel())
            await asyncio.sleep(1.0)
            assert events == ["request", "cancelled"]
            assert large.plan is not None
            assert large.plan.timer is None

    simulate(test)


def test_a_server_is_told_to_be_back_before_it_gets_calls() -> None:
    async def test(net: SimNetwork) -> None:
        server = await silent_server(net, put=result(1))
        events: list[str] = []
        async with Client(f"{server.address},1", max_failures=1, probe_interval=0.1) as client:
            client.watch = lambda event, *_: events.append(event)
            client.watch_servers = lambda event, _server: events.append(event)
            with pytest.raises(RpcTimeoutError):
                await client.call("get", timeout=0.1)
            assert await client.call("put") == 1
        assert events == ["connected", "request", "out", "timeout", "back", "request", "ok", "disconnected"]

    simulate(test)
