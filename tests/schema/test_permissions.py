"""Every field says who may read it; what it says is what happens."""

from __future__ import annotations

import pytest
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.union import StrawberryUnion

from core.permissions import OF_EVERYBODY, ROLE_PERMISSIONS, SCOPE_PERMISSIONS, Permission, Role, Scope, who_may
from schema.build import schema
from schema.guarded import PERMISSION, needing

ROOTS = {"Query", "Mutation", "Subscription"}


def objects() -> dict[str, StrawberryObjectDefinition]:
    """Every object type of the schema by its name; not inputs, not interfaces."""
    found = {}
    for name, concrete in schema.schema_converter.type_map.items():
        definition = concrete.definition
        if isinstance(definition, StrawberryObjectDefinition) and not (definition.is_input or definition.is_interface):
            found[name] = definition
    return found


def answers_of_mutations() -> set[str]:
    """Payloads and refusals: read by whoever was allowed the mutation."""
    return {
        member.__strawberry_definition__.name  # type: ignore[union-attr]
        for concrete in schema.schema_converter.type_map.values()
        if isinstance(concrete.definition, StrawberryUnion)
        for member in concrete.definition.types
    } | {"IngestedEvent"}


def test_every_field_declares_its_permission_or_its_type_does() -> None:
    spared = answers_of_mutations()
    bare = [
        f"{name}.{field.python_name}"
        for name, definition in objects().items()
        if name not in spared
        for field in definition.fields
        if not isinstance(field.metadata.get(PERMISSION), Permission)
        and (name in ROOTS or not hasattr(definition.origin, "permission_of_type"))
    ]
    assert bare == []


def test_a_field_says_in_its_description_what_it_needs() -> None:
    for definition in objects().values():
        for field in definition.fields:
            permission = field.metadata.get(PERMISSION)
            if permission and permission not in OF_EVERYBODY:
                assert field.description and field.description.endswith(needing(permission, "").strip())


@pytest.mark.parametrize("lower, higher", [(Role.VIEWER, Role.EDITOR), (Role.EDITOR, Role.ADMIN),
                                           (Role.ADMIN, Role.OWNER)])  # fmt: skip
def test_each_role_may_all_that_the_one_before_it_may(lower: Role, higher: Role) -> None:
    assert ROLE_PERMISSIONS[lower] < ROLE_PERMISSIONS[higher]


def test_no_key_makes_owners_or_ends_its_tenant_and_no_person_sends_events() -> None:
    of_keys = frozenset[Permission]().union(*SCOPE_PERMISSIONS.values())
    assert not of_keys & {Permission.OWNERS_WRITE, Permission.TENANT_DELETE, Permission.PROFILE_WRITE}
    assert Permission.EVENTS_WRITE not in ROLE_PERMISSIONS[Role.OWNER]


def test_every_permission_is_somebodys() -> None:
    assert [permission for permission in Permission if who_may(permission) == "nobody"] == []
    assert SCOPE_PERMISSIONS[Scope.EVENTS_WRITE] == OF_EVERYBODY | {Permission.EVENTS_WRITE}
