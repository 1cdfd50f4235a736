"""A tenant's people from the operator's door to the mailbox and back, in a whole instance with a real mail server."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import Instance, run_cli, start_instance
from tests.pipeline.smtp_server import Mailbox, serving

pytestmark = pytest.mark.slow

PASSWORD = "nine herons cross 2 fields"


@contextmanager
def mail_server(mailbox: Mailbox) -> Iterator[Mailbox]:
    """The server in a loop of its own."""
    is_up, loop, end = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with serving(mailbox):
            is_up.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    is_up.wait(10)
    try:
        yield mailbox
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="module")
def mailed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Instance, Mailbox]]:
    """An instance that sends by a server that puts the first message off."""
    with mail_server(Mailbox()) as mailbox:
        settings = {
            "MAIL_URL": f"smtp://127.0.0.1:{mailbox.port}",
            "MAIL_FROM": "CloudMetrics <cm@example.com>",
            "PUBLIC_URL": "https://metrics.example",
        }
        data: Path = tmp_path_factory.mktemp("mailed") / "data"
        running = start_instance(data, "--empty", settings=settings)
        try:
            yield running, mailbox
        finally:
            running.cli("down")


def wait_for_mail(mailbox: Mailbox, recipient: str, count: int = 1) -> str:
    """The text of the newest message to somebody."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = [message for message in mailbox.messages if message["To"] == recipient]
        if len(found) >= count:
            return str(found[-1].get_content())
        time.sleep(0.1)
    pytest.fail(f"no mail to {recipient}: {mailbox.recipients}")


def token_in(text: str) -> str:
    return re.findall(r"cm_(?:inv|rst)_[A-Za-z0-9_-]{43}", text)[0]


def post(instance: Instance, path: str, **body: str) -> httpx2.Response:
    return httpx2.post(instance.url + path, json=body, timeout=20)


def login(instance: Instance, email: str, password: str) -> dict[str, Any]:
    answer = post(instance, "/auth/login", email=email, password=password)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_from_an_invitation_by_mail_to_a_sign_in_a_reset_and_a_removal(mailed: tuple[Instance, Mailbox]) -> None:
    instance, mailbox = mailed
    owner = login(instance, instance.email, instance.password)["access_token"]
    invite = """mutation($input: InviteMemberInput!) { inviteMember(input: $input) { __typename } }"""
    variables = {"input": {"email": "ada@example.com", "role": "EDITOR"}}
    answer = httpx2.post(
        f"{instance.url}/graphql", json={"query": invite, "variables": variables},
        headers={"Authorization": f"Bearer {owner}"},
    )  # fmt: skip
    assert answer.json()["data"]["inviteMember"]["__typename"] == "InviteMemberPayload"
    text = wait_for_mail(mailbox, "ada@example.com")
    assert "https://metrics.example/auth/invitation?token=cm_inv_" in text and "as editor" in text
    done = post(instance, "/auth/invitations/accept", token=token_in(text), name="Ada", password=PASSWORD)
    assert done.json()["tenant"] == {"slug": "demo", "name": done.json()["tenant"]["name"], "role": "editor"}
    assert login(instance, "ada@example.com", PASSWORD)["tenant"]["role"] == "editor"

    assert post(instance, "/auth/password/forgot", email="ada@example.com").status_code == 202
    token = token_in(wait_for_mail(mailbox, "ada@example.com", 2))
    assert post(instance, "/auth/password/reset", token=token, password=PASSWORD + " more").status_code == 204
    assert "was changed" in wait_for_mail(mailbox, "ada@example.com", 3)
    ada = login(instance, "ada@example.com", PASSWORD + " more")

    assert "ada@example.com" in instance.cli("member", "list").stdout
    assert "is admin of demo" in instance.cli("member", "set-role", "Ada@Example.com", "admin").stdout
    assert "no member of demo any more" in instance.cli("member", "remove", "ada@example.com").stdout
    refused = post(instance, "/auth/refresh", refresh_token=ada["refresh_token"])
    assert refused.status_code == 401
    assert "no mail waits" in instance.cli("outbox").stdout
    sent = json.loads(instance.cli("outbox", "--all", "--json").stdout)
    assert {message["state"] for message in sent} == {"sent"} and {message["text"] for message in sent} == {""}


def test_without_a_mail_server_the_operator_hands_links_over(instance: Instance) -> None:
    assert "no mail waits" in instance.cli("outbox").stdout
    invited = instance.cli("member", "invite", "bob@example.com", "--role", "admin").stdout
    link = invited.strip().splitlines()[-1]
    assert link.startswith(f"{instance.url}/auth/invitation?token=cm_inv_")
    listed = instance.cli("outbox").stdout
    assert "waiting  invitation to bob@example.com, tenant demo" in listed and link in listed and "1 messages" in listed
    (message,) = json.loads(instance.cli("outbox", "--json", "--tenant", "demo").stdout)
    assert message["state"] == "waiting" and link in message["text"]
    assert "invited, open until" in instance.cli("member", "list").stdout
    assert httpx2.get(link, timeout=20).status_code == 200
    assert "is revoked" in instance.cli("member", "remove", "bob@example.com").stdout
    assert httpx2.get(link, timeout=20).status_code == 400
    post(instance, "/auth/password/forgot", email="nobody@example.com")
    (decoy, _) = json.loads(instance.cli("outbox", "--json").stdout)
    assert (decoy["recipient"], decoy["state"], decoy["text"]) == ("nobody@example.com", "given_up", "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("member", "invite", "nonsense"), 1, "name@host.example"),
        (("member", "invite", "a@b.example", "--tenant", "nobody"), 1, "There is no tenant 'nobody'"),
        (("member", "set-role", "nobody@b.example", "admin"), 1, "There is no member with that e-mail"),
        (("member", "remove", "nobody@b.example"), 1, "There is no member with that e-mail"),
        (("member", "set-role", "nobody@b.example", "king"), 2, "invalid choice"),
        (("member", "invite"), 2, "required: email"),
        (("outbox", "--tenant", "nobody"), 1, "There is no tenant 'nobody'"),
        (("outbox", "--limit", "x"), 2, "invalid int"),
    ],
)
def test_what_cannot_be_done_says_why(instance: Instance, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = instance.cli(*arguments, check=False)
    assert done.returncode == code and says in done.stderr


def test_the_last_owner_cannot_be_removed_from_the_command_line_either(instance: Instance) -> None:
    done = instance.cli("member", "remove", instance.email, check=False)
    assert done.returncode == 1 and "always has an owner" in done.stderr


@pytest.mark.parametrize("command", ["member", "outbox"])
def test_each_command_has_help(command: str) -> None:
    assert "usage:" in run_cli(command, "--help").stdout
