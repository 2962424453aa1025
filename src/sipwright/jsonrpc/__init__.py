"""JSON-RPC 2.0 over TCP and netstrings: an asyncio client and server, and the sans-I/O cores they are built on.

    from sipwright.jsonrpc import Client, Server

    async with Client("localhost:9999,2 backup.example.org:9999,1", timeout=0.5) as client:
        user = await client.call("get_user", {"id": 1234})

`Client` keeps connections to groups of servers, chooses by priority and round robin, and fails over; `Server` makes
functions callable. The cores (`messages`, `peer`, `dispatch`, `sipwright.netstring`) do no I/O and can carry JSON-RPC
over anything else.
"""

from sipwright.errors import (
    ArgumentError,
    JsonRpcParseError,
    NetstringParseError,
    RpcAnswerError,
    RpcClosedError,
    RpcConnectionError,
    RpcError,
    RpcTimeoutError,
    StartError,
)
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_address, parse_group, parse_servers
from sipwright.jsonrpc.batch import Batch
from sipwright.jsonrpc.calls import PendingCall
from sipwright.jsonrpc.client import Client
from sipwright.jsonrpc.dial import Dialer, serve_dialing
from sipwright.jsonrpc.server import Server
from sipwright.jsonrpc.tls import Tls

__all__ = [
    "ArgumentError",
    "Batch",
    "Client",
    "Dialer",
    "JsonRpcParseError",
    "NetstringParseError",
    "PendingCall",
    "RpcAnswerError",
    "RpcClosedError",
    "RpcConnectionError",
    "RpcError",
    "RpcTimeoutError",
    "Server",
    "ServerAddress",
    "ServerSpec",
    "StartError",
    "Tls",
    "parse_address",
    "parse_group",
    "parse_servers",
    "serve_dialing",
]
