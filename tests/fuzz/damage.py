"""What is done to a good request before it is sent: at every level of it, from its bytes to its meaning."""

from __future__ import annotations

import json
import random
import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

PIECES = ["{", "}", "(", ")", "$", "...", "@include", "@", ":", '"', '"""', "#", "on", "fragment F on Query { ...F }", "null", "!", "[", "]",
          "query", "subscription", "mutation", "1e999", "9" * 400, "\\u0000", "\ud800", "\x00", "é", "__schema { types { name } }", "__type", "-"]  # fmt: skip
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x" * 2000,
    [],
    {},
    [[[]]],
    {"a": {"b": {"c": []}}},
    10**40,
    [None] * 150,
    {"$ref": "#"},
]


@dataclass(slots=True)
class Damaged:
    """A request as it goes out."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def damaged(body: dict[str, Any], pick: random.Random) -> Damaged:
    """Damages a request in one to three places; a tenth of them not at all."""
    request = Damaged(b"")
    if pick.random() >= 0.1:
        for _ in range(pick.randint(1, 3)):
            step = pick.choice([_text, _text, _token, _token, _variable, _variable, _envelope, _header])
            step(body, pick, request)
    request.body = json.dumps(body).encode(errors="surrogatepass")
    if pick.random() < 0.08:
        request.body = _bytes(request.body, pick)
    return request


def _text(body: dict[str, Any], pick: random.Random, request: Damaged) -> None:
    """A piece put in, left out or doubled."""
    text = str(body.get("query"))
    start = pick.randrange(len(text) + 1)
    end = min(len(text), start + pick.randint(0, 12))
    middle = pick.choice([pick.choice(PIECES), "", text[start:end] * pick.choice([2, 3, 40])])
    body["query"] = text[:start] + middle + text[end:]


def _token(body: dict[str, Any], pick: random.Random, request: Damaged) -> None:
    """A token in place of another."""
    tokens = re.findall(r"\w+|\.\.\.|\s+|[^\w\s]", str(body.get("query")))
    if tokens:
        tokens[pick.randrange(len(tokens))] = pick.choice([*PIECES, *tokens])
        body["query"] = "".join(tokens)


def _variable(body: dict[str, Any], pick: random.Random, request: Damaged) -> None:
    """A value somewhere in the variables that is another."""
    place: Any = body.get("variables")
    while isinstance(place, dict | list) and place:
        key = pick.choice(list(place)) if isinstance(place, dict) else pick.randrange(len(place))
        if isinstance(place[key], dict | list) and place[key] and pick.random() < 0.6:
            place = place[key]
            continue
        place[key] = deepcopy(pick.choice(VALUES))
        return


def _envelope(body: dict[str, Any], pick: random.Random, request: Damaged) -> None:
    """A member of the body that is gone or another."""
    name = pick.choice(["query", "variables", "operationName", "extensions", "documentId", "x"])
    if pick.random() < 0.3:
        body.pop(name, None)
    else:
        body[name] = deepcopy(pick.choice([*VALUES, {"persistedQuery": pick.choice(VALUES)}, "sha256:" + "0" * 64]))


def _header(body: dict[str, Any], pick: random.Random, request: Damaged) -> None:
    name, value = pick.choice([
        ("Content-Type", "text/plain"), ("Content-Type", "application/json; charset=latin-1"), ("Content-Type", ""),
        ("Accept", "text/html"), ("Accept", "application/graphql-response+json"), ("Accept", "*/*;q=0"), ("Authorization", "Bearer x"),
        ("Authorization", "Basic x"), ("X-Request-Id", "é" * 10), ("X-Forwarded-For", "' OR 1=1"), ("Content-Encoding", "gzip"),
    ])  # fmt: skip
    request.headers[name] = value


def _bytes(body: bytes, pick: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(pick.randint(1, 4)):
        if data:
            data[pick.randrange(len(data))] = pick.randrange(256)
    return bytes(data[: pick.randrange(len(data) + 1)]) if pick.random() < 0.3 else bytes(data)
