"""While a tenant is to be deleted nobody but its owner comes in, and the owner only to take it back: over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from core.database import Database
from core.permissions import Role
from core.settings import Settings
from core.tenancy import Tenant
from tests.conftest import make_key, make_person
from tests.web.conftest import Client

DELETE = """mutation($input: DeleteTenantInput!) { deleteTenant(input: $input) { __typename
  ... on DeleteTenantPayload { endsAt job { state } } ... on Error { message path } } }"""
RESTORE = """mutation($input: RestoreTenantInput!) { restoreTenant(input: $input) { __typename
  ... on Error { message path } } }"""
RENAME = 'mutation { updateTenant(input: {name: "Other"}) { __typename ... on Error { message } } }'
VIEWER = "{ viewer { permissions tenant { slug endsAt } } }"
SECONDS = 20.0


async def code_of(client: Client, token: str) -> str:
    """How a request with a token is refused; '' when it is not."""
    answer = await client.ask(token, "{ viewer { actor } }")
    errors = answer.json().get("errors")
    return str(errors[0]["extensions"]["code"]) if errors else ""


async def until(client: Client, token: str, code: str) -> None:
    async with asyncio.timeout(SECONDS):
        while await code_of(client, token) != code:
            await asyncio.sleep(0.3)


async def test_owners_take_back_the_end_of_their_tenant_and_everybody_else_is_refused_meanwhile(
    client: Client, database: Database, settings: Settings, tenant: Tenant
) -> None:
    people = {role: await make_person(database, tenant, role=role) for role in Role}
    tokens = {role: (await client.login(person.email))["access_token"] for role, person in people.items()}
    _, key = await make_key(database, settings, tenant)
    for role in (Role.VIEWER, Role.EDITOR, Role.ADMIN):
        answer = await client.data(tokens[role], DELETE, input={"slug": tenant.slug})
        assert answer["deleteTenant"]["__typename"] == "PermissionDenied"
    ended: dict[str, Any] = (await client.data(tokens[Role.OWNER], DELETE, input={"slug": tenant.slug}))["deleteTenant"]
    assert (ended["__typename"], ended["job"]["state"]) == ("DeleteTenantPayload", "WAITING")

    for token in (tokens[Role.ADMIN], tokens[Role.EDITOR], tokens[Role.VIEWER], key):
        await until(client, token, "TENANT_ENDING")
    event = {"events": [{"type": "signup", "user_id": "ada"}]}
    refused = await client.post("/v1/events", event, Authorization=f"Bearer {key}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "tenant_ending")
    # Who signs in anew is no better off; the owner is, and sees how long it has.
    again = (await client.login(people[Role.ADMIN].email))["access_token"]
    assert await code_of(client, again) == "TENANT_ENDING"
    owner = (await client.login(people[Role.OWNER].email))["access_token"]
    seen = (await client.data(owner, VIEWER))["viewer"]
    assert seen["permissions"] == ["identity:read", "tenant:delete", "tenant:read"]
    assert seen["tenant"]["endsAt"] == ended["endsAt"]
    assert (await client.data(owner, RENAME))["updateTenant"]["__typename"] == "PermissionDenied"
    wrong = await client.data(owner, RESTORE, input={"slug": "other"})
    assert wrong["restoreTenant"]["__typename"] == "ValidationError"

    assert (await client.data(owner, RESTORE, input={"slug": tenant.slug}))["restoreTenant"] == {
        "__typename": "RestoreTenantPayload"
    }
    for token in (tokens[Role.ADMIN], key):
        await until(client, token, "")
    log = '{ tenant { auditLog(filter: {action: "tenant."}) { edges { node { action actor } } } } }'
    page = (await client.data(tokens[Role.ADMIN], log))["tenant"]["auditLog"]
    actor = f"person:{people[Role.OWNER].id}"
    assert [edge["node"] for edge in page["edges"]][:2] == [
        {"action": "tenant.restore", "actor": actor},
        {"action": "tenant.delete", "actor": actor},
    ]
