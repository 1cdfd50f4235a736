"""What an administrator or the operator asks of a connection to an identity provider, checked and completed: what it
needs of its provider is asked for before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from core.errors import BadInput
from core.idp_metadata import read_metadata
from core.oidc_discovery import checked_issuer, discover
from core.outbound import checked_url
from core.permissions import Role
from core.settings import Settings
from core.sign_in_connections import OidcConfig, SamlConfig, SignInConnection, checked_connection_name, sealed
from core.sign_in_rules import ConnectionKind, Preset, RoleRule, checked_domains, checked_role, checked_rules

GOOGLE_ISSUER = "https://accounts.google.com"
GOOGLE_HOST = "accounts.google.com"
MICROSOFT_HOSTS = ("login.microsoftonline.com", "login.microsoftonline.us", "sts.windows.net")
# The first part of such an address: names, and the directory of accounts that anybody makes for himself.
MICROSOFT_FOR_EVERYBODY = (
    ["common"], ["organizations"], ["consumers"], ["9188040d-6c67-4c5b-b112-36a304b66dad"],
)  # fmt: skip
MAX_CLIENT_ID = 256
MAX_SECRET = 1024
MAX_ATTRIBUTE = 256


@dataclass(frozen=True, slots=True)
class OidcAsked:
    """What is given of an OpenID provider; None is left as it is."""

    issuer: str | None
    client_id: str | None
    client_secret: str | None


@dataclass(frozen=True, slots=True)
class SamlAsked:
    """What is given of a SAML provider; None is left as it is."""

    metadata_xml: str | None
    requires_signed_response: bool | None
    subject_attribute: str | None
    email_attribute: str | None
    name_attribute: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionAsked:
    """What is given of a connection; None is left as it is."""

    name: str | None = None
    oidc: OidcAsked | None = None
    saml: SamlAsked | None = None
    allowed_domains: list[str] | None = None
    default_role: Role | None = None
    role_rules: list[RoleRule] | None = None
    is_enabled: bool | None = None


def change_of(
    settings: Settings, asked: ConnectionAsked, config: OidcConfig | SamlConfig
) -> Callable[[SignInConnection], SignInConnection]:
    """The checked change, to be made to whatever the connection is by then; it raises BadInput for parts that do not go
    together."""
    given: dict[str, Any] = {"config": config}
    if asked.name is not None:
        given["name"] = checked_connection_name(asked.name)
    if asked.allowed_domains is not None:
        given["allowed_domains"] = checked_domains(asked.allowed_domains)
    if asked.default_role is not None:
        given["default_role"] = checked_role(asked.default_role, "defaultRole")
    if asked.role_rules is not None:
        given["role_rules"] = checked_rules(asked.role_rules)
    if asked.is_enabled is not None:
        given["is_enabled"] = asked.is_enabled
    secret = asked.oidc.client_secret if asked.oidc else None

    def change(before: SignInConnection) -> SignInConnection:
        _refuse_redirected(before, config, secret)
        if secret is not None:
            given["sealed_secret"] = sealed(secret, before.id, settings.master_key_bytes())
        return _whole(replace(before, **given))

    return change


def _refuse_redirected(before: SignInConnection, config: OidcConfig | SamlConfig, secret: str | None) -> None:
    """A secret goes to the provider that gave it and to no other: who changes the issuer gives the new one's."""
    if secret is not None or before.sealed_secret is None:
        return
    if isinstance(config, OidcConfig) and config.issuer != before.oidc().issuer:
        raise BadInput(
            "Another issuer needs its own client secret: the one that is kept would be sent to it.",
            field="clientSecret",
        )


def _whole(connection: SignInConnection) -> SignInConnection:
    """Refuses a connection whose parts do not go together."""
    if connection.preset is Preset.GOOGLE_WORKSPACE and not connection.allowed_domains:
        raise BadInput(
            "Google signs in everybody who has an account: say which Workspace domains are yours.",
            field="allowedDomains",
        )
    if connection.kind is ConnectionKind.OIDC and connection.sealed_secret is None:
        raise BadInput("An OpenID connection needs the client secret that the provider gave.", field="clientSecret")
    return connection


async def config_of(
    settings: Settings, preset: Preset, asked: ConnectionAsked, before: SignInConnection | None
) -> OidcConfig | SamlConfig:
    """The checked configuration; `before`: what it was.

    Raises:
        BadInput: a part is missing, not fit, or not allowed. Unavailable: the provider does not answer.
    """
    if (asked.saml if preset.kind is ConnectionKind.OIDC else asked.oidc) is not None:
        raise BadInput(f"A connection of the preset {preset.value} takes {preset.kind.value} alone.", field="preset")
    if preset.kind is ConnectionKind.OIDC:
        given = asked.oidc or OidcAsked(None, None, None)
        return await _oidc(settings, preset, given, before.oidc() if before else None)
    return _saml(
        settings, preset, asked.saml or SamlAsked(None, None, None, None, None), before.saml() if before else None
    )


async def _oidc(settings: Settings, preset: Preset, asked: OidcAsked, before: OidcConfig | None) -> OidcConfig:
    reach = settings.identity_providers
    client_id = asked.client_id if asked.client_id is not None else (before.client_id if before else "")
    if not 1 <= len(client_id) <= MAX_CLIENT_ID or not client_id.isprintable():
        raise BadInput(f"clientId has 1 to {MAX_CLIENT_ID} printable characters.", field="clientId")
    secret = asked.client_secret
    if secret is not None and not (1 <= len(secret) <= MAX_SECRET and secret.isascii() and secret.isprintable()):
        raise BadInput(f"clientSecret has 1 to {MAX_SECRET} characters of ASCII.", field="clientSecret")
    if preset is Preset.GOOGLE_WORKSPACE:
        if asked.issuer not in (None, GOOGLE_ISSUER):
            raise BadInput(f"Google's issuer is {GOOGLE_ISSUER}; leave it out.", field="issuer")
        return OidcConfig(GOOGLE_ISSUER, client_id)
    if asked.issuer is None:
        if before is None:
            raise BadInput("An OpenID connection needs the provider's issuer.", field="issuer")
        return OidcConfig(before.issuer, client_id)
    issuer = checked_issuer(asked.issuer, reach)
    _refuse_open_to_all(issuer, preset, "issuer")
    if before is None or before.issuer != issuer:
        await discover(issuer, reach)
    return OidcConfig(issuer, client_id)


def _refuse_open_to_all(provider: str, preset: Preset, field: str) -> None:
    """An issuer or entity at which anybody may make himself an account would let everybody in."""
    try:
        parts = urlsplit(provider.lower())
    except ValueError:
        return
    if preset.kind is ConnectionKind.OIDC and parts.hostname == GOOGLE_HOST:
        raise BadInput(
            f"{GOOGLE_ISSUER} signs in everybody who has a Google account; take the preset GOOGLE_WORKSPACE, which "
            "asks for your domains.",
            field=field,
        )
    is_entra = parts.hostname in MICROSOFT_HOSTS or preset in (Preset.ENTRA_OIDC, Preset.ENTRA_SAML)
    if (is_entra and parts.path.split("/")[1:2] in MICROSOFT_FOR_EVERYBODY) or parts.hostname == "login.live.com":
        raise BadInput(
            "This signs in people of every directory, or of none; give your own: https://login.microsoftonline.com/"
            "<directory id>/v2.0.",
            field=field,
        )


def _saml(settings: Settings, preset: Preset, asked: SamlAsked, before: SamlConfig | None) -> SamlConfig:
    if asked.metadata_xml is None:
        if before is None:
            raise BadInput("A SAML connection needs the identity provider's metadata.", field="metadataXml")
        pinned = (before.entity_id, before.sso_url, before.certificates)
    else:
        read = read_metadata(asked.metadata_xml, datetime.now(UTC))
        _refuse_open_to_all(read.entity_id, preset, "metadataXml")
        checked_url(read.sso_url, reach=settings.identity_providers, field="metadataXml")
        pinned = (read.entity_id, read.sso_url, read.certificates)
    # Okta signs both unless told otherwise, Entra the assertion alone.
    is_signed = before.requires_signed_response if before else preset is Preset.OKTA_SAML
    return SamlConfig(
        *pinned,
        asked.requires_signed_response if asked.requires_signed_response is not None else is_signed,
        *(
            _attribute(name, given, old)
            for name, given, old in (
                ("subjectAttribute", asked.subject_attribute, before.subject_attribute if before else ""),
                ("emailAttribute", asked.email_attribute, before.email_attribute if before else ""),
                ("nameAttribute", asked.name_attribute, before.name_attribute if before else ""),
            )
        ),
    )


def _attribute(field: str, given: str | None, before: str) -> str:
    text = before if given is None else given
    if len(text) > MAX_ATTRIBUTE or not text.isprintable():
        raise BadInput(f"{field} has at most {MAX_ATTRIBUTE} printable characters.", field=field)
    return text
