"""One attack on the GraphQL endpoint, and what its row of the threat table expects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx2

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Attack:
    """A request. `code` is the first error's or the typed refusal's; None: it is answered like any other. `holds` and
    `lacks` are texts that the answer must and must not have; `caller` is the scope of the key that sends it."""

    row: str
    name: str
    body: bytes
    code: str | None
    status: int = 200
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    caller: str = "all"
    holds: str = ""
    lacks: str = "Did you mean"

    @property
    def id(self) -> str:
        return f"{self.row} {self.name}"


def asking(query: str, operation_name: str | None = None, **variables: Any) -> bytes:
    """A request's body."""
    body: dict[str, Any] = {"query": query, "variables": variables}
    if operation_name is not None:
        body["operationName"] = operation_name
    return json.dumps(body).encode()


def send(client: httpx2.Client, attack: Attack, secret: str) -> httpx2.Response:
    """Sends it with a key."""
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": JSON, **attack.headers}
    return client.request(attack.method, "/graphql", content=attack.body, headers=headers, timeout=20)


def check(attack: Attack, answer: httpx2.Response) -> None:
    """Compares an answer with what is expected.

    Raises:
        AssertionError: it is another.
    """
    assert answer.status_code == attack.status, f"{attack.id}: {answer.status_code} {answer.text[:500]}"
    assert answer.headers["x-request-id"], attack.id
    assert code_of(answer) == attack.code, f"{attack.id}: {answer.text[:500]}"
    assert attack.holds in answer.text and attack.lacks not in answer.text, f"{attack.id}: {answer.text[:500]}"


def code_of(answer: httpx2.Response) -> str | None:
    """The code of the first error, or of the first typed refusal."""
    if not answer.headers["content-type"].startswith(("application/json", "application/graphql-response+json")):
        return None
    body = answer.json()
    if errors := body.get("errors"):
        return str(errors[0]["extensions"]["code"])
    if error := body.get("error"):
        return str(error["code"])
    for found in (body.get("data") or {}).values():
        if isinstance(found, dict) and "code" in found:
            return str(found["code"])
    return None
