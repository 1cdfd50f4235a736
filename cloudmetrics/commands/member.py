"""`member invite|list|set-role|remove`: the people of a tenant, as its owner could change them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import Any

from cloudmetrics.data_folder import DEFAULT, running_instance
from core import accounts
from core.database import Database
from core.errors import NotFound
from core.invitations import Invitation, invite_member, list_invitations, revoke_invitation
from core.members import Authority, Member, change_member_role, find_member, list_members, remove_member
from core.permissions import Role
from core.settings import Settings
from core.tenancy import Tenant

SUMMARY = "invite, list, promote and remove the people of a tenant"
MOST = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    roles = [role.value for role in Role]
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    invite = actions.add_parser("invite", help="invite an e-mail; prints the link that is also sent to it")
    invite.add_argument("--role", choices=roles, default=Role.VIEWER.value, help="as what (default: %(default)s)")
    listing = actions.add_parser("list", help="members, and invitations that are open")
    set_role = actions.add_parser("set-role", help="give a member another role")
    remove = actions.add_parser("remove", help="end a membership, or an open invitation, at once")
    for action in (invite, set_role, remove):
        action.add_argument("email", help="whose" if action is invite else "whose; or the id that `list` shows")
    set_role.add_argument("role", choices=roles)
    for action in (invite, listing, set_role, remove):
        action.add_argument("--json", action="store_true", help="print one line of JSON")
        action.add_argument("--tenant", default="demo", help="slug of the tenant (default: %(default)s)")
        action.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder, _ = running_instance(args.data)
    shown, text = asyncio.run(_act(args, folder.running_settings(os.environ)))
    print(json.dumps(shown) if args.json else text)
    return 0


async def _act(args: argparse.Namespace, settings: Settings) -> tuple[Any, str]:
    """What came of it, as JSON and for people."""
    database = Database(settings, pool_size=1)
    try:
        tenant = await accounts.find_tenant(database, args.tenant)
        authority = Authority.operator(tenant.id)
        match args.action:
            case "invite":
                issued = await invite_member(database, settings, authority, args.email, Role(args.role))
                text = (
                    f"invited {issued.invitation.email} as {args.role}; the link is good once, for 7 days, and is also "
                    f"sent by mail where a server is configured\n{issued.link}"
                )
                return {**_invitation(issued.invitation), "link": issued.link}, text
            case "set-role":
                member = await find_member(database, tenant.id, args.email.strip().lower())
                member = await change_member_role(database, authority, member.person_id, Role(args.role))
                return _member(member), f"{member.email} is {member.role.value} of {tenant.slug}"
            case "remove":
                return await _remove(database, authority, tenant, args.email.strip().lower())
        return await _list(database, tenant)
    finally:
        await database.close()


async def _remove(database: Database, authority: Authority, tenant: Tenant, email: str) -> tuple[Any, str]:
    try:
        member = await find_member(database, tenant.id, email)
    except NotFound:
        for invitation in await list_invitations(database, tenant.id, most=MOST, has_all=False, before=None):
            if invitation.email == email:
                ended = await revoke_invitation(database, authority, invitation.id)
                return _invitation(ended), f"the invitation of {email} to {tenant.slug} is revoked"
        raise
    await remove_member(database, authority, member.person_id)
    return {"removed": email}, f"{email} is no member of {tenant.slug} any more, and its sessions there have ended"


async def _list(database: Database, tenant: Tenant) -> tuple[Any, str]:
    members = await list_members(database, tenant.id, most=MOST, search="", after=None)
    invitations = await list_invitations(database, tenant.id, most=MOST, has_all=False, before=None)
    lines = [
        f"{member.email or str(member.person_id):40} {member.role.value:8} since {member.since:%Y-%m-%d}  "
        f"seen {_seen(member)}  {member.name}"
        for member in members
    ]
    lines += [
        f"{invitation.email:40} {invitation.role.value:8} invited, {invitation.state.value} until "
        f"{invitation.expires_at:%Y-%m-%d %H:%M}, mail {invitation.mail.value.replace('_', ' ')}"
        for invitation in invitations
    ]
    shown = {"members": [_member(m) for m in members], "invitations": [_invitation(i) for i in invitations]}
    return shown, "\n".join(lines) or f"{tenant.slug} has no members; `member invite --role owner` makes its first"


def _seen(member: Member) -> str:
    return f"{member.last_seen_at:%Y-%m-%d %H:%M}" if member.last_seen_at else "never"


def _member(member: Member) -> dict[str, Any]:
    seen = member.last_seen_at.isoformat() if member.last_seen_at else None
    return {
        "person_id": str(member.person_id), "email": member.email, "name": member.name, "role": member.role.value,
        "since": member.since.isoformat(), "last_seen_at": seen,
    }  # fmt: skip


def _invitation(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": str(invitation.id), "email": invitation.email, "role": invitation.role.value,
        "state": invitation.state.value, "expires_at": invitation.expires_at.isoformat(), "mail": invitation.mail.value,
    }  # fmt: skip
