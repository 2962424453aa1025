"""A simulated network and clock, for tests of programs that use asyncio: hosts, links, and what goes wrong with them.

    with SimNetwork(seed=1) as net:
        backend = net.add_host("backend.example.org")

        async def main() -> None:
            with backend:
                await server.start("0.0.0.0", 9999)
            async with Client("backend.example.org:9999,1", random=net.random.random) as client:
                ...
                net.cut(net.local, backend)
                ...

        net.run(main())

The program is the real one, with asyncio's streams, protocols and TLS; sockets are not opened and nothing is waited
for: when no task has anything to do, the clock jumps to the next timer. All chance comes from `seed`, so that a run is
the same each time. Of a run that fails, the exception has the seed and the end of the trace.

`network` has the hosts and links, `loop` the clock and the face of asyncio, `listening` the servers, `connection` what
a test may do to a connection, `transport` its ends, `flow` the bytes between them.
"""

from sipwright.testing.simnet.connection import SimConnection
from sipwright.testing.simnet.flow import Event, Link, Mark
from sipwright.testing.simnet.loop import SimLoop
from sipwright.testing.simnet.network import SimHost, SimNetwork

__all__ = ["Event", "Link", "Mark", "SimConnection", "SimHost", "SimLoop", "SimNetwork"]
