"""`sso list|create|enable|disable|delete`: a tenant's identity providers, as its administrator could change them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from cloudmetrics.data_folder import DEFAULT, running_instance
from core import accounts
from core.database import Database
from core.errors import BadInput
from core.members import Authority
from core.permissions import Role
from core.settings import Settings
from core.sign_in_connections import (
    MAX_CONNECTIONS,
    OidcConfig,
    SignInConnection,
    create_connection,
    delete_connection,
    list_connections,
    new_connection,
    update_connection,
)
from core.sign_in_rules import ConnectionKind, Preset
from core.sign_in_setup import ConnectionAsked, OidcAsked, SamlAsked, change_of, config_of
from core.tenancy import Tenant

SUMMARY = "let people of a tenant sign in by its identity provider"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="a tenant's identity providers, and where their sign-in begins")
    create = actions.add_parser("create", help="connect one; docs/sso.md says what each preset needs")
    create.add_argument("--preset", choices=[preset.value for preset in Preset], required=True)
    create.add_argument("--name", required=True, help="what the sign-in page shows")
    create.add_argument("--metadata", metavar="FILE", help="SAML: the provider's metadata")
    create.add_argument("--issuer", help="OpenID: the provider's address")
    create.add_argument("--client-id", help="OpenID: as the provider gave it")
    create.add_argument(
        "--client-secret-file", metavar="FILE", help="OpenID: a file with the secret; - for standard input"
    )
    create.add_argument("--domain", action="append", help="an e-mail domain that is taken; may be repeated")
    roles = [role.value for role in Role if role is not Role.OWNER]
    create.add_argument("--role", choices=roles, help="of who comes by it (default: viewer)")
    for name, what in (("enable", "let people sign in by it again"), ("disable", "end its sessions, let nobody in"),
                       ("delete", "end it, and the memberships that came by it")):  # fmt: skip
        actions.add_parser(name, help=what).add_argument("id", help="see `sso list`")
    for action in (listing, create, *(actions.choices[name] for name in ("enable", "disable", "delete"))):
        action.add_argument("--json", action="store_true", help="print one line of JSON")
        action.add_argument("--tenant", default="demo", help="slug of the tenant (default: %(default)s)")
        action.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder, _ = running_instance(args.data)
    shown = asyncio.run(_act(args, folder.running_settings(os.environ)))
    print(json.dumps(shown) if args.json else "\n".join("  ".join(str(part) for part in row.values()) for row in shown))
    return 0


async def _act(args: argparse.Namespace, settings: Settings) -> list[dict[str, Any]]:
    database = Database(settings, pool_size=1)
    try:
        tenant = await accounts.find_tenant(database, args.tenant)
        authority = Authority.operator(tenant.id)
        match args.action:
            case "create":
                changed = await _create(database, settings, tenant, authority, args)
            case "list":
                found = await list_connections(database, tenant.id, MAX_CONNECTIONS, None)
                return [_shown(settings, tenant, connection) for connection in found]
            case "delete":
                await delete_connection(database, authority, _id_of(args.id))
                return [{"deleted": args.id}]
            case action:
                changed = await update_connection(
                    database, authority, _id_of(args.id), lambda before: replace(before, is_enabled=action == "enable")
                )
        return [_shown(settings, tenant, changed)]
    finally:
        await database.close()


async def _create(
    database: Database, settings: Settings, tenant: Tenant, authority: Authority, args: argparse.Namespace
) -> SignInConnection:
    preset = Preset(args.preset)
    is_oidc = preset.kind is ConnectionKind.OIDC
    metadata = Path(args.metadata).read_text(encoding="utf-8") if args.metadata else None
    secret = _read_secret(args.client_secret_file) if args.client_secret_file else None
    asked = ConnectionAsked(
        name=args.name,
        oidc=OidcAsked(args.issuer, args.client_id, secret) if is_oidc or args.issuer or args.client_id else None,
        saml=SamlAsked(metadata, None, None, None, None) if not is_oidc or metadata is not None else None,
        allowed_domains=args.domain,
        default_role=Role(args.role) if args.role else None,
    )
    config = await config_of(settings, preset, asked, None)
    made = new_connection(tenant, preset=preset, name=args.name, config=config, now=datetime.now(UTC))
    return await create_connection(database, authority, change_of(settings, asked, config)(made))


def _read_secret(path: str) -> str:
    """From a file, since arguments are seen by everybody on the machine."""
    return (sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")).strip()


def _id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise BadInput(f"{text[:80]!r} is no id of a connection; `sso list` shows them.", field="id") from None


def _shown(settings: Settings, tenant: Tenant, connection: SignInConnection) -> dict[str, Any]:
    base, id = settings.public_base, connection.id
    config = connection.config
    is_oidc = isinstance(config, OidcConfig)
    return {
        "id": str(id),
        "preset": connection.preset.value,
        "state": "enabled" if connection.is_enabled else "disabled",
        "name": connection.name,
        "provider": config.issuer if isinstance(config, OidcConfig) else config.entity_id,
        "begins": f"{base}/auth/oauth/{id}/start" if is_oidc
        else f"{base}/auth/saml/{tenant.slug}/login?connection={id}",
    }  # fmt: skip
