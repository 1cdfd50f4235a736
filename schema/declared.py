"""What the schema's declarations say of each field: the permission it needs, and what it costs."""

from __future__ import annotations

from strawberry import Schema
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.union import StrawberryUnion

from core.permissions import Permission
from schema.guarded import COST, PERMISSION


class Declarations:
    """Read once from a schema."""

    def __init__(self, schema: Schema) -> None:
        self.permissions: dict[str, Permission] = {}
        self.costs: dict[str, int] = {}
        # Types that only mutations answer: read by whoever was allowed the mutation.
        self.answers: set[str] = set()
        for name, concrete in schema.schema_converter.type_map.items():
            definition = concrete.definition
            if isinstance(definition, StrawberryUnion):
                self.answers |= {member.__strawberry_definition__.name for member in definition.types}  # type: ignore[attr-defined]
            if not isinstance(definition, StrawberryObjectDefinition) or definition.is_input:
                continue
            of_type = getattr(definition.origin, "permission_of_type", None)
            for field in definition.fields:
                coordinate = f"{name}.{schema.config.name_converter.from_field(field)}"
                permission = field.metadata.get(PERMISSION) or of_type
                if isinstance(permission, Permission):
                    self.permissions[coordinate] = permission
                if cost := field.metadata.get(COST):
                    self.costs[coordinate] = cost
