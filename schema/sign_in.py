"""A tenant's own identity providers, for its administrator."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import strawberry
from strawberry import Info

from core.identities import SignInIdentity as IdentityRow
from core.idp_metadata import Certificate, described
from core.permissions import Permission
from core.sign_in_connections import OidcConfig, SamlConfig
from core.sign_in_connections import SignInConnection as ConnectionRow
from core.sign_in_rules import ConnectionKind, Preset, RoleRule
from core.sign_in_setup import ConnectionAsked, OidcAsked, SamlAsked
from resolvers.context import Context
from resolvers.global_ids import global_id
from resolvers.sign_in import (
    IDENTITY,
    KIND,
    create_sign_in_connection,
    delete_sign_in_connection,
    delete_sign_in_identity,
    list_sign_in_identities,
    update_sign_in_connection,
)
from schema.described import enum_of
from schema.guarded import guarded, mutation, shown_to
from schema.node import Connection, Node
from schema.roles import RoleType

WRITE = Permission.SIGN_IN_WRITE
KindType = enum_of(
    ConnectionKind,
    "The protocol that an identity provider speaks.",
    name="SignInKind",
    OIDC="OpenID Connect.",
    SAML="SAML 2.0.",
)
PresetType = enum_of(
    Preset,
    "What is known of an identity provider beyond its protocol.",
    name="SignInPreset",
    GOOGLE_WORKSPACE="Google, for the accounts of one's own domains.",
    ENTRA_OIDC="Microsoft Entra ID by OpenID Connect.",
    OIDC="Any OpenID provider.",
    OKTA_SAML="Okta by SAML.",
    ENTRA_SAML="Microsoft Entra ID by SAML.",
    SAML="Any SAML provider.",
)


@shown_to(WRITE)
@strawberry.type(description="An OpenID provider, and who we are to it. Its client secret is never shown.")
class OidcProvider:
    issuer: str = strawberry.field(description="Its address, as it names itself.")
    client_id: str = strawberry.field(description="Who we are to it.")
    redirect_uri: str = strawberry.field(description="To be registered with it, exactly.")


@shown_to(WRITE)
@strawberry.type(description="A certificate that answers are checked with.")
class SignInCertificate:
    fingerprint: str = strawberry.field(description="SHA-256, in hex with colons.")
    expires_at: datetime = strawberry.field(description="From then on nobody signs in by it: upload the metadata anew.")


@shown_to(WRITE)
@strawberry.type(description="A SAML identity provider, as its metadata said.")
class SamlProvider:
    entity_id: str = strawberry.field(description="Its name.")
    sso_url: str = strawberry.field(description="Where browsers are sent.")
    certificates: list[SignInCertificate] = strawberry.field(description="What its answers are checked with.")
    requires_signed_response: bool = strawberry.field(
        description="The assertion is signed always; the whole answer too."
    )
    subject_attribute: str = strawberry.field(
        description="By which people are known; empty: the preset's, or the NameID."
    )
    email_attribute: str = strawberry.field(description="Empty: the usual ones.")
    name_attribute: str = strawberry.field(description="Empty: the usual ones.")
    metadata_url: str = strawberry.field(description="Our metadata, for the provider; also our entity id and audience.")
    acs_url: str = strawberry.field(description="Where the provider's answers are sent.")


@shown_to(WRITE)
@strawberry.type(description="Whoever has this value of an attribute has this role.")
class SignInRoleRule:
    attribute: str = strawberry.field(description="A SAML attribute's name, or an OpenID claim's.")
    value: str = strawberry.field(description="One of its values, exactly.")
    role: RoleType = strawberry.field(description="Never owner.")  # type: ignore[valid-type]


@shown_to(WRITE)
@strawberry.type(description="Who an identity provider says a member is: by issuer and subject, never by e-mail.")
class SignInIdentity(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id(IDENTITY, str(cast(IdentityRow, self).id)))

    issuer: str = strawberry.field(description="The provider's name for itself.")
    subject: str = strawberry.field(description="The provider's name for the person.")
    name: str | None = strawberry.field(description="As the provider said last.")
    email: str | None = strawberry.field(description="As the provider said last; it finds nobody and proves nothing.")
    created_at: datetime = strawberry.field(description="Of the first sign-in.")
    last_sign_in_at: datetime = strawberry.field(description="Of the last one.")

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, IdentityRow)


@shown_to(WRITE)
@strawberry.type(description="An identity provider of the tenant's, which says who people are in this tenant alone.")
class SignInConnection(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id(KIND, str(cast(ConnectionRow, self).id)))

    kind: KindType = strawberry.field(description="Its protocol.")  # type: ignore[valid-type]
    preset: PresetType = strawberry.field(description="What else is known of it.")  # type: ignore[valid-type]
    name: str = strawberry.field(description="What the sign-in page shows.")
    allowed_domains: list[str] = strawberry.field(
        description="E-mail domains; empty: all that the provider vouches for."
    )
    default_role: RoleType = strawberry.field(description="Of whom no rule fits.")  # type: ignore[valid-type]
    role_rules: list[SignInRoleRule] = strawberry.field(
        description="Where there are any, they decide at each sign-in: the highest role that fits, else the default."
    )
    is_enabled: bool = strawberry.field(description="Whether anybody signs in by it.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")

    @strawberry.field(description="Where a browser begins; `?next=/…` says where it goes afterwards.")
    def start_url(self, info: Info[Context, None]) -> str:
        row, base = cast(ConnectionRow, self), info.context.backends.settings.public_base
        if row.kind is ConnectionKind.OIDC:
            return f"{base}/auth/oauth/{row.id}/start"
        return f"{base}/auth/saml/{info.context.principal.tenant.slug}/login?connection={row.id}"

    @strawberry.field(description="The OpenID provider; null where it is SAML.")
    def oidc(self, info: Info[Context, None]) -> OidcProvider | None:
        row, base = cast(ConnectionRow, self), info.context.backends.settings.public_base
        if not isinstance(row.config, OidcConfig):
            return None
        return OidcProvider(
            issuer=row.config.issuer,
            client_id=row.config.client_id,
            redirect_uri=f"{base}/auth/oauth/{row.id}/callback",
        )

    @strawberry.field(description="The SAML provider; null where it is OpenID.")
    def saml(self, info: Info[Context, None]) -> SamlProvider | None:
        row, slug = cast(ConnectionRow, self), info.context.principal.tenant.slug
        base = f"{info.context.backends.settings.public_base}/auth/saml/{slug}"
        return _saml_provider(row.config, base) if isinstance(row.config, SamlConfig) else None

    @guarded(WRITE, "Who came by it, oldest first.")
    async def identities(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> Connection[SignInIdentity]:
        page = await list_sign_in_identities(info.context, cast(ConnectionRow, self), first, after)
        return cast(Connection[SignInIdentity], page)

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, ConnectionRow)


def _saml_provider(config: SamlConfig, base: str) -> SamlProvider:
    certificates: list[Certificate] = [described(text) for text in config.certificates]
    return SamlProvider(
        entity_id=config.entity_id,
        sso_url=config.sso_url,
        certificates=[SignInCertificate(fingerprint=c.fingerprint, expires_at=c.expires_at) for c in certificates],
        requires_signed_response=config.requires_signed_response,
        subject_attribute=config.subject_attribute,
        email_attribute=config.email_attribute,
        name_attribute=config.name_attribute,
        metadata_url=f"{base}/metadata",
        acs_url=f"{base}/acs",
    )


@strawberry.input(description="An OpenID provider. What is left out stays as it is.")
class OidcProviderInput:
    issuer: str | None = strawberry.field(
        default=None,
        description="Such as https://login.example.com; asked for its discovery document. Google: left out.",
    )
    client_id: str | None = strawberry.field(default=None, description="As the provider gave it.")
    client_secret: str | None = strawberry.field(default=None, description="As the provider gave it; kept sealed.")

    def to_domain(self) -> OidcAsked:
        return OidcAsked(self.issuer, self.client_id, self.client_secret)


@strawberry.input(description="A SAML identity provider. What is left out stays as it is.")
class SamlProviderInput:
    metadata_xml: str | None = strawberry.field(default=None, description="Its metadata, at most 256 KiB.")
    requires_signed_response: bool | None = strawberry.field(
        default=None, description="Whether its whole answer must be signed too; true for Okta unless said otherwise."
    )
    subject_attribute: str | None = strawberry.field(
        default=None,
        description="By which people are known; empty: object and directory id for Entra, else the NameID.",
    )
    email_attribute: str | None = strawberry.field(default=None, description="Empty: the usual ones.")
    name_attribute: str | None = strawberry.field(default=None, description="Empty: the usual ones.")

    def to_domain(self) -> SamlAsked:
        return SamlAsked(
            self.metadata_xml, self.requires_signed_response, self.subject_attribute, self.email_attribute,
            self.name_attribute,
        )  # fmt: skip


@strawberry.input(description="Whoever has this value of an attribute has this role.")
class SignInRoleRuleInput:
    attribute: str = strawberry.field(description="A SAML attribute's name, or an OpenID claim's.")
    value: str = strawberry.field(description="One of its values, exactly.")
    role: RoleType = strawberry.field(description="Any but owner.")  # type: ignore[valid-type]


@strawberry.input(description="A new identity provider.")
class CreateSignInConnectionInput:
    preset: PresetType = strawberry.field(description="Which kind of provider; it stays.")  # type: ignore[valid-type]
    name: str = strawberry.field(description="What the sign-in page shows, 1 to 100 characters.")
    oidc: OidcProviderInput | None = strawberry.field(default=None, description="For the presets of OpenID.")
    saml: SamlProviderInput | None = strawberry.field(default=None, description="For the presets of SAML.")
    allowed_domains: list[str] | None = strawberry.field(
        default=None, description="E-mail domains, at most 50; for Google the Workspace's, and at least one."
    )
    default_role: RoleType | None = strawberry.field(default=None, description="VIEWER unless said otherwise.")  # type: ignore[valid-type]
    role_rules: list[SignInRoleRuleInput] | None = strawberry.field(default=None, description="At most 50.")


@strawberry.input(description="What to change of an identity provider. What is left out stays as it is.")
class UpdateSignInConnectionInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")
    name: str | None = strawberry.field(default=None, description="What the sign-in page shows.")
    oidc: OidcProviderInput | None = strawberry.field(default=None, description="For the presets of OpenID.")
    saml: SamlProviderInput | None = strawberry.field(default=None, description="For the presets of SAML.")
    allowed_domains: list[str] | None = strawberry.field(default=None, description="All of them anew.")
    default_role: RoleType | None = strawberry.field(default=None, description="Of whom no rule fits.")  # type: ignore[valid-type]
    role_rules: list[SignInRoleRuleInput] | None = strawberry.field(default=None, description="All of them anew.")
    is_enabled: bool | None = strawberry.field(default=None, description="false ends the sessions that came by it.")


@strawberry.input(description="Which identity provider to end.")
class DeleteSignInConnectionInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.input(description="Which identity to forget.")
class DeleteSignInIdentityInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@shown_to(WRITE)
@strawberry.type(description="It is there.")
class CreateSignInConnectionPayload:
    connection: SignInConnection = strawberry.field(description="As it was made.")


@shown_to(WRITE)
@strawberry.type(description="It is changed.")
class UpdateSignInConnectionPayload:
    connection: SignInConnection = strawberry.field(description="As it is now.")


@shown_to(WRITE)
@strawberry.type(description="It is gone, with the memberships and sessions that came by it.")
class DeleteSignInConnectionPayload:
    id: strawberry.ID = strawberry.field(description="As given.")


@shown_to(WRITE)
@strawberry.type(description="It is forgotten, with its membership and sessions.")
class DeleteSignInIdentityPayload:
    id: strawberry.ID = strawberry.field(description="As given.")


def _asked(input: CreateSignInConnectionInput | UpdateSignInConnectionInput) -> ConnectionAsked:
    rules = None if input.role_rules is None else [RoleRule(r.attribute, r.value, r.role) for r in input.role_rules]
    return ConnectionAsked(
        name=input.name,
        oidc=input.oidc.to_domain() if input.oidc else None,
        saml=input.saml.to_domain() if input.saml else None,
        allowed_domains=input.allowed_domains,
        default_role=input.default_role,
        role_rules=rules,
        is_enabled=getattr(input, "is_enabled", None),
    )


async def resolve_create(
    info: Info[Context, None], input: CreateSignInConnectionInput
) -> CreateSignInConnectionPayload:
    """Makes a connection."""
    made: Any = await create_sign_in_connection(info.context, input.preset, _asked(input))
    return CreateSignInConnectionPayload(connection=made)


async def resolve_update(
    info: Info[Context, None], input: UpdateSignInConnectionInput
) -> UpdateSignInConnectionPayload:
    """Changes a connection."""
    changed: Any = await update_sign_in_connection(info.context, input.id, _asked(input))
    return UpdateSignInConnectionPayload(connection=changed)


async def resolve_delete(
    info: Info[Context, None], input: DeleteSignInConnectionInput
) -> DeleteSignInConnectionPayload:
    """Ends a connection."""
    await delete_sign_in_connection(info.context, input.id)
    return DeleteSignInConnectionPayload(id=input.id)


async def resolve_forget(info: Info[Context, None], input: DeleteSignInIdentityInput) -> DeleteSignInIdentityPayload:
    """Forgets an identity."""
    await delete_sign_in_identity(info.context, input.id)
    return DeleteSignInIdentityPayload(id=input.id)


@strawberry.type
class SignInMutations:
    create_sign_in_connection = mutation(
        WRITE,
        resolve_create,
        CreateSignInConnectionPayload,
        "Lets people of the tenant sign in by its identity provider.",
    )
    update_sign_in_connection = mutation(
        WRITE, resolve_update, UpdateSignInConnectionPayload, "Changes an identity provider, or disables it."
    )
    delete_sign_in_connection = mutation(
        WRITE,
        resolve_delete,
        DeleteSignInConnectionPayload,
        "Ends an identity provider, and the memberships and sessions of all who came by it.",
    )
    delete_sign_in_identity = mutation(
        WRITE,
        resolve_forget,
        DeleteSignInIdentityPayload,
        "Forgets who a member is to an identity provider: the next sign-in is a first one, of a new person.",
    )
