"""The reference in `docs/api/`, made from the schema, its declarations and the examples: one page for each way of
asking, one for what comes back, one for what is given, one for who may."""

from __future__ import annotations

import json
from collections.abc import Iterable

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLUnionType,
    Undefined,
    ast_from_value,
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_interface_type,
    is_object_type,
    is_scalar_type,
    is_specified_scalar_type,
    is_union_type,
    print_ast,
)
from strawberry import Schema

from core.permissions import OF_EVERYBODY, ROLE_PERMISSIONS, SCOPE_PERMISSIONS, Permission, Role, Scope, who_may
from resolvers.nodes import KINDS
from schema.declared import Declarations
from schema.examples import Example, load_examples, shown_by
from schema.guarded import needing

MADE = "<!-- Made by `make schema` from the schema; do not edit. -->\n"
ROOTS = {"Query": "queries", "Mutation": "mutations", "Subscription": "subscriptions"}


class Reference:
    """The pages, by their file's name."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema._schema
        self._declared = Declarations(schema)
        self._examples = shown_by(self._schema, load_examples())
        named = self._schema.type_map.values()
        self._types = sorted((kind for kind in named if not kind.name.startswith("__")), key=lambda kind: kind.name)

    def pages(self) -> dict[str, str]:
        """Name and text of each page."""
        found = {f"{page}.md": self._root(name) for name, page in ROOTS.items()}
        found["objects.md"] = self._objects()
        found["inputs.md"] = self._inputs()
        found["permissions.md"] = self._permissions()
        return found

    def _root(self, name: str) -> str:
        kind = self._schema.get_type(name)
        assert isinstance(kind, GraphQLObjectType)
        sections = [self._operation(kind, field, definition) for field, definition in kind.fields.items()]
        if name == "Query":
            # Where most of what is read hangs.
            for place in ("Tenant", "Viewer"):
                below = self._schema.get_type(place)
                assert isinstance(below, GraphQLObjectType)
                sections += [self._operation(below, f, d) for f, d in below.fields.items() if d.args]
        return f"{MADE}# {ROOTS[name].capitalize()}\n\n{kind.description}\n\n" + "\n".join(sections)

    def _operation(self, kind: GraphQLObjectType, name: str, field: GraphQLField) -> str:
        title = name if kind.name in ROOTS else f"{kind.name.lower()}.{name}"
        permission = self._declared.permissions.get(f"{kind.name}.{name}")
        about = (field.description or "").removesuffix(needing(permission, "")) if permission else field.description
        lines = [f"## {title}", "", *_deprecated(field), about or "", "", f"Answers {self._link(field)}."]
        lines[-1] += self._needs(f"{kind.name}.{name}")
        if field.args:
            lines += ["", "| argument | type | |", "|---|---|---|", *self._arguments(field)]
        for example in self._own_examples(f"{kind.name}.{name}", name):
            lines += ["", *_shown(example)]
        return "\n".join([*lines, ""])

    def _own_examples(self, coordinate: str, name: str) -> list[Example]:
        """Those that are named for a field; where there is none, the first that has it."""
        found = self._examples.get(coordinate, [])
        return [example for example in found if example.name.partition("/")[2].startswith(name)] or found[:1]

    def _needs(self, coordinate: str) -> str:
        permission, cost = self._declared.permissions.get(coordinate), self._declared.costs.get(coordinate)
        text = f" Needs `{permission.value}`: {who_may(permission)}." if permission else ""
        if permission in OF_EVERYBODY:
            text = " Any caller may."
        return text + (f" Costs {cost} before its selection." if cost else "")

    def _arguments(self, field: GraphQLField) -> Iterable[str]:
        for name, argument in field.args.items():
            yield f"| `{name}` | {self._link(argument)} | {_cell(argument.description)}{_default(argument)} |"

    def _objects(self) -> str:
        text = f"{MADE}# Objects, interfaces and unions\n\nWhat comes back.\n"
        for kind in self._types:
            if is_object_type(kind) and kind.name not in ROOTS or is_interface_type(kind):
                text += self._object(kind)
            elif is_union_type(kind):
                text += f"\n## {kind.name}\n\n{kind.description}\n\n" + self._members(kind)
        return text

    def _object(self, kind: GraphQLObjectType | GraphQLInterfaceType) -> str:
        of_type = self._type_permission(kind)
        lines = [f"\n## {kind.name}", "", kind.description or ""]
        if kind.interfaces:
            lines[-1] += f" Is a {', '.join(_linked(interface) for interface in kind.interfaces)}."
        if of_type is not None:
            lines += ["", f"Needs `{of_type.value}` where a field says nothing else."]
        lines += ["", "| field | type | |", "|---|---|---|"]
        for name, field in kind.fields.items():
            arguments = f"({', '.join(field.args)})" if field.args else ""
            what = _cell(" ".join([*_deprecated(field), field.description or ""]))
            lines.append(f"| `{name}{arguments}` | {self._link(field)} | {what} |")
        return "\n".join([*lines, ""])

    def _type_permission(self, kind: GraphQLNamedType) -> Permission | None:
        """What most of a type's fields need."""
        found = [p for coordinate, p in self._declared.permissions.items() if coordinate.startswith(f"{kind.name}.")]
        return max(found, key=found.count) if found else None

    @staticmethod
    def _members(kind: GraphQLUnionType) -> str:
        return "One of " + ", ".join(_linked(member) for member in kind.types) + ".\n"

    def _inputs(self) -> str:
        text = f"{MADE}# Inputs, enums and scalars\n\nWhat is given.\n"
        for kind in self._types:
            if is_input_object_type(kind):
                text += self._input(kind)
            elif is_enum_type(kind):
                text += _enum(kind)
            elif is_scalar_type(kind) and not is_specified_scalar_type(kind):
                text += f"\n## {kind.name}\n\n{kind.description}\n\nSpecified by <{kind.specified_by_url}>.\n"
        return text

    def _input(self, kind: GraphQLInputObjectType) -> str:
        lines = [f"\n## {kind.name}", "", kind.description or "", "", "| field | type | |", "|---|---|---|"]
        for name, field in kind.fields.items():
            lines.append(f"| `{name}` | {self._link(field)} | {_cell(field.description)}{_default(field)} |")
        return "\n".join([*lines, ""])

    def _link(self, typed: object) -> str:
        kind = typed.type  # type: ignore[attr-defined]
        named = get_named_type(kind)
        if is_specified_scalar_type(named):
            return f"`{kind}`"
        page = "objects" if is_object_type(named) or is_interface_type(named) or is_union_type(named) else "inputs"
        return f"[`{kind}`]({page}.md#{named.name.lower()})"

    def _permissions(self) -> str:
        roles, scopes = list(Role), list(Scope)
        heads = [*(f"role {role.value}" for role in roles), *(f"key {scope.value}" for scope in scopes)]
        table = ["| field | needs | " + " | ".join(heads) + " |", "|---|---" + "|---" * len(heads) + "|"]

        def row(what: str, permission: Permission) -> str:
            has = [permission in ROLE_PERMISSIONS[role] for role in roles]
            has += [permission in SCOPE_PERMISSIONS[scope] for scope in scopes]
            return f"| {what} | `{permission.value}` | " + " | ".join("yes" if one else "" for one in has) + " |"

        for kind in self._types:
            if (is_object_type(kind) or is_interface_type(kind)) and kind.name not in self._declared.answers:
                table += self._rows(kind, row)
        nodes = [row(f"`node(id:)` of {name}", kind.permission) for name, kind in sorted(KINDS.items())]
        return (
            f"{MADE}# Who may do what\n\nOne row for each field that says what it needs; a type's row is of all its "
            "other fields. A role may what the one before it may. A share link has `identity:read` and what its object "
            "needs. What a mutation answers is read by whoever was allowed the mutation. Where access also depends on "
            "the object (access lists) or a value (only owners make owners), the field's description says so.\n\n"
            + "\n".join([*table, *nodes, ""])
        )

    def _rows(self, kind: GraphQLNamedType, row: object) -> list[str]:
        of_type = None if kind.name in ROOTS else self._type_permission(kind)
        fields = kind.fields  # type: ignore[attr-defined]
        rows = [row(f"`{kind.name}`", of_type)] if of_type else []  # type: ignore[operator]
        for name in fields:
            permission = self._declared.permissions.get(f"{kind.name}.{name}")
            if permission and permission is not of_type:
                rows.append(row(f"`{kind.name}.{name}`", permission))  # type: ignore[operator]
        return rows


def _enum(kind: GraphQLEnumType) -> str:
    lines = [f"\n## {kind.name}", "", kind.description or "", "", "| value | |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(value.description)} |" for name, value in kind.values.items()]
    return "\n".join([*lines, ""])


def _shown(example: Example) -> list[str]:
    """An example as it is read."""
    took = {0: "no SQL statement", 1: "1 SQL statement"}.get(example.statements, f"{example.statements} SQL statements")
    lines = [f"{example.about} ({took}; `examples/{example.name}.graphql`)", "", "```graphql", example.document, "```"]
    if example.variables:
        lines += ["", "```json", json.dumps(example.variables, indent=2, ensure_ascii=False), "```"]
    return lines


def _deprecated(field: GraphQLField) -> list[str]:
    return [f"**Deprecated: {field.deprecation_reason}**", ""] if field.deprecation_reason else []


def _default(given: GraphQLArgument) -> str:
    if given.default_value is Undefined or given.default_value is None:
        return ""
    return f" Default `{print_ast(ast_from_value(given.default_value, given.type))}`."  # type: ignore[arg-type]


def _linked(kind: GraphQLNamedType) -> str:
    return f"[`{kind.name}`](objects.md#{kind.name.lower()})"


def _cell(text: str | None) -> str:
    """On one line, as a table's cell must be."""
    return " ".join((text or "").split()).replace("|", "\\|")
