"""JSON-RPC 2.0 in frames over a stream: clients with and without asyncio, a server, and the cores they are built on.

    from sipwright.jsonrpc import Client, Server

    async with Client("localhost:9999,2 backup.example.org:9999,1", timeout=0.5) as client:
        user = await client.call("get_user", {"id": 1234})

`Client` keeps connections to groups of servers, chooses by priority and by turns, and fails over; `SyncClient` is the
same for threads, without asyncio; `Server` makes functions callable; a `Service` is a class whose methods are calls.
The cores (`messages`, `peer`, `dispatch`, `sipwright.netstring`) do no I/O and can carry JSON-RPC over anything else.

A name is imported from its file when it is first used: asyncio and the server take half of the time that all of it
takes, and who has neither need not wait for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the table below says, for those who do not run it
    from sipwright.errors import (
        ArgumentError,
        JsonRpcParseError,
        NetstringParseError,
        RpcAnswerError,
        RpcClosedError,
        RpcConnectionError,
        RpcError,
        RpcResultError,
        RpcTimeoutError,
        StartError,
    )
    from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_address, parse_group, parse_servers
    from sipwright.jsonrpc.auth import same_token
    from sipwright.jsonrpc.batch import Batch
    from sipwright.jsonrpc.calls import PendingCall
    from sipwright.jsonrpc.client import Client, ClientEvent
    from sipwright.jsonrpc.dial import Dialer, serve_dialing
    from sipwright.jsonrpc.executor import ServerEvent
    from sipwright.jsonrpc.framing import Framing
    from sipwright.jsonrpc.middleware import RpcRequest
    from sipwright.jsonrpc.resolve import SrvRecord
    from sipwright.jsonrpc.rpc_connection import RpcConnection
    from sipwright.jsonrpc.server import Server
    from sipwright.jsonrpc.service import Service, methods_of, remote
    from sipwright.jsonrpc.sync import SyncClient
    from sipwright.jsonrpc.sync_batch import SyncBatch
    from sipwright.jsonrpc.tls import Tls

_FILES = {
    "sipwright.errors": """
        ArgumentError JsonRpcParseError NetstringParseError RpcAnswerError RpcClosedError RpcConnectionError RpcError
        RpcResultError RpcTimeoutError StartError
    """,
    "sipwright.jsonrpc.addresses": "ServerAddress ServerSpec parse_address parse_group parse_servers",
    "sipwright.jsonrpc.auth": "same_token",
    "sipwright.jsonrpc.batch": "Batch",
    "sipwright.jsonrpc.calls": "PendingCall",
    "sipwright.jsonrpc.client": "Client ClientEvent",
    "sipwright.jsonrpc.dial": "Dialer serve_dialing",
    "sipwright.jsonrpc.executor": "ServerEvent",
    "sipwright.jsonrpc.framing": "Framing",
    "sipwright.jsonrpc.middleware": "RpcRequest",
    "sipwright.jsonrpc.rpc_connection": "RpcConnection",
    "sipwright.jsonrpc.resolve": "SrvRecord",
    "sipwright.jsonrpc.server": "Server",
    "sipwright.jsonrpc.service": "Service methods_of remote",
    "sipwright.jsonrpc.sync": "SyncClient",
    "sipwright.jsonrpc.sync_batch": "SyncBatch",
    "sipwright.jsonrpc.tls": "Tls",
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names.split()}

__all__ = [
    "ArgumentError",
    "Batch",
    "Client",
    "ClientEvent",
    "Dialer",
    "Framing",
    "JsonRpcParseError",
    "NetstringParseError",
    "PendingCall",
    "RpcAnswerError",
    "RpcClosedError",
    "RpcConnection",
    "RpcConnectionError",
    "RpcError",
    "RpcRequest",
    "RpcResultError",
    "RpcTimeoutError",
    "Server",
    "ServerAddress",
    "ServerEvent",
    "ServerSpec",
    "Service",
    "SrvRecord",
    "StartError",
    "SyncBatch",
    "SyncClient",
    "Tls",
    "methods_of",
    "parse_address",
    "parse_group",
    "parse_servers",
    "remote",
    "same_token",
    "serve_dialing",
]


def __getattr__(name: str) -> Any:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(file), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
