# mypy: ignore-errors
# Twisted's types are interfaces of zope, which mypy only knows with a plugin.
"""JSON-RPC over Twisted's NetstringReceiver, in a process of its own; it shares no code with the library under test.

twisted_peer.py serve                 prints `listening PORT`, then answers for ever: `add`, `echo`, `refuse` and
                                      `ask_back`, which asks its caller for `name` before it answers
twisted_peer.py call PORT REQUESTS    sends JSON-RPC payloads (a JSON list of texts), prints the answers as they
                                      come until there are as many as payloads with an id, and ends
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import endpoints, protocol, reactor
from twisted.protocols.basic import NetstringReceiver


class Service(NetstringReceiver):
    """The server's end."""

    def connectionMade(self) -> None:  # noqa: N802  Twisted's name
        self.asked: dict[str, Any] = {}

    def stringReceived(self, string: bytes) -> None:  # noqa: N802  Twisted's name
        message = json.loads(string)
        if isinstance(message, list):
            self.say([self.answer(one) for one in message if "id" in one])
        elif "method" not in message:
            request_id = self.asked.pop(message["id"])
            self.say({"jsonrpc": "2.0", "id": request_id, "result": f"hello {message['result']}"})
        elif message["method"] == "ask_back":
            number = f"question-{message['id']}"
            self.asked[number] = message["id"]
            self.say({"jsonrpc": "2.0", "id": number, "method": "name", "params": []})
        elif "id" in message:
            self.say(self.answer(message))

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "add":
            return {**answer, "result": sum(message["params"])}
        if message["method"] == "echo":
            return {**answer, "result": message.get("params")}
        return {**answer, "error": {"code": 7, "message": "refused", "data": message.get("params")}}

    def say(self, content: Any) -> None:
        self.sendString(json.dumps(content).encode())


class Caller(NetstringReceiver):
    """The client's end."""

    def connectionMade(self) -> None:  # noqa: N802  Twisted's name
        payloads = json.loads(sys.argv[3])
        self.left = sum('"id"' in payload for payload in payloads)
        for payload in payloads:
            self.sendString(payload.encode())

    def stringReceived(self, string: bytes) -> None:  # noqa: N802  Twisted's name
        print(string.decode(), flush=True)
        self.left -= 1
        if not self.left:
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802  Twisted's name
        reactor.stop()


def serve() -> None:
    listener = reactor.listenTCP(0, protocol.Factory.forProtocol(Service), interface="127.0.0.1")
    print(f"listening {listener.getHost().port}", flush=True)


def call(port: int) -> None:
    endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    endpoints.connectProtocol(endpoint, Caller())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        call(int(sys.argv[2]))
    reactor.run()
