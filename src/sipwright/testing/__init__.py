"""Fakes and drivers for testing scripts and JSON-RPC services; nothing in them waits.

`run_script` runs a script on one SIP request with scripted services; `ScriptDriver` does it step by step, and
`sip_request` makes the requests; `FakeRedis` is a Redis server in memory for them. `FakeRpcServer` is a JSON-RPC server
over real TCP that does what it is told, for clients of any kind. `SimNetwork` is a simulated network with a clock, on
which real programs run. `FakeClock` and `RecordingHost` drive the protocol machines.
"""

from sipwright.testing.clock import FakeClock
from sipwright.testing.fakeredis import FakeRedis
from sipwright.testing.fakerpc import FakeRpcServer
from sipwright.testing.recordinghost import RecordingHost
from sipwright.testing.script import NoAnswer, ScriptDriver, run_script, sip_request
from sipwright.testing.simnet import SimNetwork

__all__ = [
    "FakeClock",
    "FakeRedis",
    "FakeRpcServer",
    "NoAnswer",
    "RecordingHost",
    "ScriptDriver",
    "SimNetwork",
    "run_script",
    "sip_request",
]
