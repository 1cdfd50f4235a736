"""Operations made from the schema: every one of them fits it, most are harmless, and the same seed makes the same."""

from __future__ import annotations

import json
import random
import string
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    Undefined,
    get_named_type,
    is_leaf_type,
)

MAX_DEPTH = 6
TEXTS = [
    "", "x", "events", "visitors", "requests", "type", "country", "24h", "7d", "UTC", "Europe/Berlin", "2026-01", "' OR 1=1 --",
    "%", "../..", "\0", "\ud800", "ü" * 50, "x" * 3000, "{", "null", "-1", "a@b.example", "\u202e", "cm_sk_x", "TWV0cmljOmV2ZW50cw",
    "99999999999999999999", "2026-01-31T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "20000-01-01",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 10, 100, 101, 2**31 - 1, -(2**31), 2**31, 2**53, 10**30]
FLOATS = [0.0, -0.0, 0.5, 50, 99.9, 100, 101, -1, 1e308, 5e-324]
MOMENTS = [
    "2026-01-01T00:00:00Z",
    "2026-02-01T00:00:00+01:00",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "now",
]
DAYS = ["2026-01-01", "2026-12-31", "0001-01-01", "9999-12-31", "2026-02-30"]


class Operations:
    """A seeded stream of operations. `ids` are ids that were seen in answers; some are asked for again."""

    def __init__(self, schema: GraphQLSchema, seed: int) -> None:
        self.random = random.Random(seed)
        self.ids: list[str] = ["TWV0cmljOmV2ZW50cw", "VGVuYW50OjE", "", "x"]
        self._schema = schema
        self._variables: dict[str, Any] = {}
        self._declared: list[str] = []

    def next(self) -> dict[str, Any]:
        """One request's body."""
        pick = self.random
        self._variables, self._declared = {}, []
        kind = pick.choices(["query", "mutation", "subscription"], [8, 3, 0.3])[0]
        root = {
            "query": self._schema.query_type,
            "mutation": self._schema.mutation_type,
            "subscription": self._schema.subscription_type,
        }[kind]
        assert root is not None
        text = self._selection(root, 1, most=1 if kind != "query" else 3)
        head = f"({', '.join(self._declared)})" if self._declared else ""
        body: dict[str, Any] = {"query": f"{kind} Q{head} {text}"}
        if self._variables or pick.random() < 0.3:
            body["variables"] = self._variables
        if pick.random() < 0.2:
            body["operationName"] = "Q"
        return body

    def _selection(self, kind: GraphQLObjectType | GraphQLInterfaceType, depth: int, most: int = 4) -> str:
        pick = self.random
        names = [
            name for name, field in kind.fields.items() if depth < MAX_DEPTH or is_leaf_type(get_named_type(field.type))
        ]
        chosen = pick.sample(names, min(len(names), pick.randint(1, most))) if names else []
        parts = [self._field(name, kind.fields[name], depth) for name in chosen] or ["__typename"]
        if pick.random() < 0.1:
            parts.append("__typename")
        if pick.random() < 0.05:
            parts.append(f"... on {kind.name} {{ __typename }}")
        return "{ " + " ".join(parts) + " }"

    def _field(self, name: str, field: GraphQLField, depth: int) -> str:
        pick = self.random
        alias = f"a{pick.randint(0, 9)}{pick.choice(string.ascii_lowercase)}: " if pick.random() < 0.1 else ""
        directive = pick.choice([" @include(if: true)", " @skip(if: false)"]) if pick.random() < 0.05 else ""
        arguments = ", ".join(
            f"{argument}: {self._argument(given)}"
            for argument, given in field.args.items()
            if isinstance(given.type, GraphQLNonNull) or pick.random() < 0.5
        )
        text = alias + name + (f"({arguments})" if arguments else "") + directive
        inner = get_named_type(field.type)
        if isinstance(inner, GraphQLUnionType):
            members = pick.sample(inner.types, min(3, len(inner.types)))
            return (
                text
                + " { __typename "
                + " ".join(f"... on {m.name} {self._selection(m, depth + 1)}" for m in members)
                + " }"
            )
        if isinstance(inner, GraphQLInterfaceType):
            found = pick.choice(list(self._schema.get_possible_types(inner)))
            return text + f" {{ __typename ... on {found.name} {self._selection(found, depth + 1)} }}"
        if isinstance(inner, GraphQLObjectType):
            return f"{text} {self._selection(inner, depth + 1)}"
        return text

    def _argument(self, given: GraphQLArgument) -> str:
        """A variable, most of the time; else a literal."""
        value = self._value(given.type, 0)
        if value is Undefined:
            value = None
        if self.random.random() < 0.75:
            name = f"v{len(self._declared)}"
            self._declared.append(f"${name}: {given.type}")
            self._variables[name] = value
            return f"${name}"
        return self._literal(value, given.type)

    def _value(self, kind: GraphQLInputType, depth: int) -> Any:
        pick = self.random
        if isinstance(kind, GraphQLNonNull):
            return self._value(kind.of_type, depth)
        if pick.random() < 0.1:
            return None
        if isinstance(kind, GraphQLList):
            return [self._value(kind.of_type, depth + 1) for _ in range(pick.choice([0, 1, 1, 2, 5]))]
        if isinstance(kind, GraphQLEnumType):
            return pick.choice(list(kind.values))
        if isinstance(kind, GraphQLInputObjectType):
            return {
                name: self._value(field.type, depth + 1)
                for name, field in kind.fields.items()
                if isinstance(field.type, GraphQLNonNull) or pick.random() < (0.5 if depth < 3 else 0.1)
            }
        return self._scalar(kind.name)

    def _scalar(self, name: str) -> Any:
        pick = self.random
        if name == "ID":
            return pick.choice(self.ids) if pick.random() < 0.7 else pick.choice(TEXTS)
        if name == "JSON":
            return pick.choice(
                [None, {}, {"a": [1, {"b": "x"}]}, [], 1e300, "x", {"k" * 300: 1}, {str(n): n for n in range(50)}]
            )
        choices: dict[str, list[Any]] = {
            "Int": NUMBERS, "Float": FLOATS, "Boolean": [True, False], "DateTime": MOMENTS, "Date": DAYS,
        }  # fmt: skip
        return pick.choice(choices.get(name, TEXTS))

    def _literal(self, value: Any, kind: GraphQLInputType) -> str:
        named = get_named_type(kind)
        if isinstance(value, dict):
            fields = named.fields if isinstance(named, GraphQLInputObjectType) else {}
            return "{" + ", ".join(
                f"{name}: {self._literal(inner, fields[name].type if name in fields else named)}"
                for name, inner in value.items()
                if name.isidentifier() and name.isascii()
            ) + "}"  # fmt: skip
        if isinstance(value, list):
            return "[" + ", ".join(self._literal(inner, named) for inner in value) + "]"
        if isinstance(named, GraphQLEnumType) and isinstance(value, str):
            return value
        # Half a surrogate pair cannot be written as a literal.
        return json.dumps(value.replace("\ud800", "") if isinstance(value, str) else value)
