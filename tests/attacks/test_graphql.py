"""The GraphQL rows of the threat table against a running instance: each answer is the table's, no answer is a fault of
ours, nothing is traced, and none takes 50 ms of the server's CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest

from tests.attacks.attack import Attack, check, send
from tests.attacks.cpu import cpu_ms
from tests.attacks.graphql_rows import ATTACKS, DOCUMENTS
from tests.conftest import Instance

pytestmark = pytest.mark.slow
MAX_CPU_MS = 50.0


@pytest.fixture(scope="module")
def secrets(instance: Instance) -> dict[str, str]:
    """Keys by their scope."""
    found = {"all": instance.secret_key}
    for scope in {attack.caller for attack in ATTACKS} - {"all"}:
        made = instance.cli("key", "create", "--scope", scope, "--unsigned").stdout
        found[scope] = re.findall("secret (cm_.+)", made)[0]
    return found


@pytest.fixture(scope="module")
def client(instance: Instance) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=instance.url) as client:
        client.post("/graphql", json={"query": "{__typename}"})
        yield client


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_an_attack_is_answered_as_its_row_says(
    instance: Instance,
    client: httpx2.Client,
    secrets: dict[str, str],
    attack: Attack,
    record_property: pytest.RecordProperty,
) -> None:
    spent = []
    for _ in range(3):
        before = cpu_ms(instance.pid("web"))
        check(attack, send(client, attack, secrets[attack.caller]))
        spent.append(cpu_ms(instance.pid("web")) - before)
    # The least of three: what the process does besides is not the attack's.
    record_property("cpu_ms", round(min(spent), 2))
    assert min(spent) < MAX_CPU_MS, spent


def test_a_document_that_was_never_seen_takes_as_little(
    instance: Instance, client: httpx2.Client, secrets: dict[str, str]
) -> None:
    """The same documents, each with another comment: none is in the cache."""
    worst = {}
    for attack in DOCUMENTS:
        spent = []
        for n in range(3):
            text = attack.body.replace(b'"query": "', b'"query": "#%d\\n' % n, 1)
            before = cpu_ms(instance.pid("web"))
            send(client, Attack(attack.row, attack.name, text, None), secrets["all"])
            spent.append(cpu_ms(instance.pid("web")) - before)
        worst[attack.id] = min(spent)
    assert max(worst.values()) < MAX_CPU_MS, {name: ms for name, ms in worst.items() if ms > MAX_CPU_MS / 2}


def test_no_traceback_and_no_document_was_written(instance: Instance) -> None:
    for log in (instance.data / "logs").glob("*.log"):
        text = log.read_text(errors="replace")
        assert "Traceback" not in text and "nnnnnnnn" not in text and "__typename" not in text, log.name
