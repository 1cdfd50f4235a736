"""The WebSocket rows of the threat table as data: W1 to W6 and W9. What takes more than messages is in test_sockets.py:
W3, W5's flood, W7 and W8. W10 is of ingest (tests/acceptance/test_ingest_socket.py), W11 and W12 are of event streams
(tests/web/test_graphql_sse.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.attacks.raw_socket import BINARY, CONTINUATION, PING, TEXT, frame

SUBSCRIBE = "subscription($q: MetricQuery!) { series(query: $q) { kind } }"
INIT = "INIT"


@dataclass(frozen=True, slots=True)
class SocketAttack:
    """Messages after the handshake, the text INIT for an initialisation with a good key. `code`: what the server
    closes with; `error`: what an operation is refused with while the socket lives."""

    row: str
    name: str
    messages: tuple[object, ...]
    code: int = 0
    error: str = ""
    protocol: str | None = "graphql-transport-ws"

    @property
    def id(self) -> str:
        return f"{self.row} {self.name}"


def subscribe(id: object, query: str = SUBSCRIBE, **variables: Any) -> dict[str, Any]:
    given = variables or {"q": {"metric": "events", "range": {"last": "1h"}}}
    return {"id": id, "type": "subscribe", "payload": {"query": query, "variables": given}}


def asked(**question: Any) -> dict[str, Any]:
    return subscribe("1", q={"metric": "events", "range": {"last": "1h"}, **question})


FRAGMENTS = frame(TEXT, b"[", is_last=False) + frame(CONTINUATION, b" " * 1000, is_last=False) * 100

ATTACKS = [
    SocketAttack("W1", "the older protocol", (), 4406, protocol="graphql-ws"),
    SocketAttack("W1", "no protocol", (), 4406, protocol=None),
    SocketAttack("W1", "another protocol", (), 4406, protocol="mqtt"),
    SocketAttack("W2", "nothing for five seconds", (), 4408),
    SocketAttack("W2", "pings and no initialisation", ({"type": "ping"},), 4408),
    SocketAttack("W2", "initialised twice", (INIT, {"type": "connection_init"}), 4429),
    SocketAttack("W2", "an operation before", (subscribe("1"),), 4401),
    SocketAttack("W2", "no key", ({"type": "connection_init"},), 4401),
    SocketAttack("W2", "a bad key", ({"type": "connection_init", "payload": {"authorization": "Bearer cm_sk_" + "x" * 43}},), 4401),
    SocketAttack("W2", "a key that is a list", ({"type": "connection_init", "payload": {"authorization": []}},), 4401),
    *(SocketAttack("W4", f"first message {str(message)[:20]!r}", (frame(TEXT, message),), 4400)
      for message in (b"[]", b"null", b"5", b'"x"', b"", b"nonsense", b"[" * 60_000, b"9" * 5000, b"{}", b'{"type":5}', b'{"type":"what"}',
                      b'{"type":"connection_init","payload":5}', b'{"type":"connection_ack"}')),
    *(SocketAttack("W4", f"message {name}", (INIT, message), 4400)
      for name, message in (("binary", frame(BINARY, b"{}")), ("without id", {"type": "subscribe", "payload": {"query": "{__typename}"}}),
                            ("id an object", subscribe({})), ("id empty", subscribe("")), ("id of 10 kB", subscribe("x" * 10_000)),
                            ("payload null", {"id": "1", "type": "subscribe", "payload": None}),
                            ("query a number", {"id": "1", "type": "subscribe", "payload": {"query": 1}}),
                            ("variables a list", {"id": "1", "type": "subscribe", "payload": {"query": "{__typename}", "variables": []}}),
                            ("a batch", {"id": "1", "type": "subscribe", "payload": [{"query": "{__typename}"}]}),
                            ("complete without id", {"type": "complete"}), ("next from a client", {"id": "1", "type": "next", "payload": {}}))),
    SocketAttack("W4", "no UTF-8", (INIT, frame(TEXT, b"\xff\xfe")), 1007),
    SocketAttack("W4", "17 MB", (INIT, frame(TEXT, b" " * 17 * 1024 * 1024)[:2000]), 1009),
    SocketAttack("W4", "65 KiB", (INIT, frame(TEXT, b" " * 65 * 1024)), 1009),
    SocketAttack("W4", "unmasked", (INIT, bytes([0x81, 2]) + b"{}"), 1002),
    SocketAttack("W5", "the same id twice", (INIT, subscribe("1"), subscribe("1")), 4409),
    SocketAttack("W5", "the 21st operation", (INIT, *(subscribe(str(n)) for n in range(21))), error="SUBSCRIPTION_LIMIT"),
    SocketAttack("W6", "a flood of pings of the protocol", (INIT, frame(TEXT, b'{"type":"ping"}') * 3000), 4429),
    SocketAttack("W6", "fragments without end", (INIT, FRAGMENTS), 1009),
    SocketAttack("W6", "a compressed frame that was not agreed on", (INIT, frame(TEXT, b"\xaa\x00", reserved=4)), 1002),
    SocketAttack("W6", "a ping of more than may be in one", (INIT, frame(PING, b"x" * 200)), 1002),
    SocketAttack("W6", "a continuation of nothing", (INIT, frame(CONTINUATION, b"x")), 1002),
    SocketAttack("W9", "a metric with a glob", (INIT, asked(metric="*")), error="UNKNOWN_METRIC"),
    SocketAttack("W9", "a channel's name as a metric", (INIT, asked(metric="cm:live:*")), error="UNKNOWN_METRIC"),
    SocketAttack("W9", "a cursor that is none", (INIT, subscribe("1", SUBSCRIBE.replace("query: $q", 'query: $q, resumeFrom: "*"'))), error="INVALID_CURSOR"),
    SocketAttack("W9", "a document beyond a limit", (INIT, subscribe("1", "subscription {" + "a{" * 12 + "b" + "}" * 13)), error="DEPTH_LIMIT"),
    SocketAttack("W9", "a document that is invalid", (INIT, subscribe("1", "subscription { serie { kind } }")), error="GRAPHQL_VALIDATION_FAILED"),
]  # fmt: skip
