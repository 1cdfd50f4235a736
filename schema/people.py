"""The person that asks: its name, its tenants, its password."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import Info

from core.people import Membership
from core.people import Person as PersonRow
from core.permissions import Permission
from resolvers.context import Context
from resolvers.people import change_password, switch_tenant, update_profile
from schema.guarded import mutation, shown_to
from schema.roles import RoleType


@shown_to(Permission.IDENTITY_READ)
@strawberry.type(description="Somebody who has signed in.")
class Person:
    name: str = strawberry.field(description="For people to read.")

    @strawberry.field(description="What it signs in with; null for who signs in by an identity provider.")
    def email(self) -> str | None:
        return cast(PersonRow, self).email or None

    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, PersonRow)


@shown_to(Permission.IDENTITY_READ)
@strawberry.type(description="A tenant that the person may switch to, and what it is there.")
class TenantMembership:
    @strawberry.field(description="The tenant's slug, for `switchTenant`.")
    def slug(self) -> str:
        return cast(Membership, self).tenant.slug

    @strawberry.field(description="The tenant's name for people.")
    def name(self) -> str:
        return cast(Membership, self).tenant.name

    role: RoleType = strawberry.field(description="What the person is there.")  # type: ignore[valid-type]
    since: datetime = strawberry.field(description="When it became a member.")

    @strawberry.field(description="Whether it is the one that the request is of.")
    def is_current(self, info: Info[Context, None]) -> bool:
        return bool(cast(Membership, self).tenant.id == info.context.principal.tenant.id)

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, Membership)


@strawberry.input(description="Another password.")
class ChangePasswordInput:
    current_password: str = strawberry.field(description="The one that the person has.")
    new_password: str = strawberry.field(
        description="12 to 256 characters; none that is tried first, and no part of the e-mail or the name."
    )


@strawberry.input(description="What others see of the person.")
class UpdateProfileInput:
    name: str = strawberry.field(description="1 to 200 characters.")


@strawberry.input(description="Where to go.")
class SwitchTenantInput:
    slug: str = strawberry.field(description="The tenant's; `viewer.tenants` lists them.")


@shown_to(Permission.PROFILE_WRITE)
@strawberry.type(description="The password is changed.")
class ChangePasswordPayload:
    ended_sessions: int = strawberry.field(description="How many other sessions that ended.")


@shown_to(Permission.PROFILE_WRITE)
@strawberry.type(description="The profile is changed.")
class UpdateProfilePayload:
    person: Person = strawberry.field(description="As it is now.")


@shown_to(Permission.PROFILE_WRITE)
@strawberry.type(
    description="The session has moved. Access tokens of before are refused within 5 s; the refresh token goes on."
)
class SwitchTenantPayload:
    access_token: str = strawberry.field(description="For the tenant that was asked for.")
    expires_in: int = strawberry.field(description="Seconds that it is good.")
    tenant: TenantMembership = strawberry.field(description="Where the session is now.")


async def resolve_change_password(info: Info[Context, None], input: ChangePasswordInput) -> ChangePasswordPayload:
    """Another password."""
    ended = await change_password(info.context, input.current_password, input.new_password)
    return ChangePasswordPayload(ended_sessions=ended)


async def resolve_update_profile(info: Info[Context, None], input: UpdateProfileInput) -> UpdateProfilePayload:
    """Another name."""
    return UpdateProfilePayload(person=cast(Person, await update_profile(info.context, input.name)))


async def resolve_switch_tenant(info: Info[Context, None], input: SwitchTenantInput) -> SwitchTenantPayload:
    """Another tenant."""
    token, seconds, membership = await switch_tenant(info.context, input.slug)
    return SwitchTenantPayload(access_token=token, expires_in=seconds, tenant=cast(TenantMembership, membership))


@strawberry.type
class PersonMutations:
    change_password = mutation(
        Permission.PROFILE_WRITE,
        resolve_change_password,
        ChangePasswordPayload,
        "Changes the person's password and ends its other sessions.",
    )
    update_profile = mutation(
        Permission.PROFILE_WRITE, resolve_update_profile, UpdateProfilePayload, "Changes the person's name."
    )
    switch_tenant = mutation(
        Permission.PROFILE_WRITE,
        resolve_switch_tenant,
        SwitchTenantPayload,
        "Moves the person's session to another of its tenants.",
    )
