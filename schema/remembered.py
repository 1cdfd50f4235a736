"""Inputs whose conversion is remembered: a screen asks the same questions again and again, and to make one of
Strawberry's objects from its JSON, field by field, takes longer than anything else in an answer that is kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, TypeVar, cast

import msgspec
from strawberry.types.arguments import InputContext
from strawberry.types.base import StrawberryObjectDefinition

C = TypeVar("C", bound=type)

MAX_ENTRIES = 1_000
MAX_LENGTH = 2_048
_encoder = msgspec.json.Encoder()


def remembered(cls: C) -> C:
    """Marks an input type whose objects nobody changes, so that equal inputs are one object."""
    definition: StrawberryObjectDefinition = cls.__strawberry_definition__  # type: ignore[attr-defined]
    known: OrderedDict[bytes, Any] = OrderedDict()

    def from_input(type_: type, value: Mapping[str, Any], context: InputContext) -> Any:
        key = _key_of(value)
        if key is None:
            return _converted(definition, type_, value, context)
        if key in known:
            known.move_to_end(key)
            return known[key]
        made = known[key] = _converted(definition, type_, value, context)
        if len(known) > MAX_ENTRIES:
            known.popitem(last=False)
        return made

    definition.from_input = cast(Any, from_input)
    return cls


def _key_of(value: Mapping[str, Any]) -> bytes | None:
    """The input as text; None of a long one, or one that has no text."""
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return text if len(text) <= MAX_LENGTH else None


def _converted(
    definition: StrawberryObjectDefinition, type_: type, value: Mapping[str, Any], context: InputContext
) -> Any:
    """As Strawberry does without a hook: what is not given and has no default is None."""
    given: dict[str, Any] = {}
    for field in definition.fields:
        name = context.config.name_converter.from_field(field)
        if name in value:
            type_of_field = field.resolve_type(type_definition=definition)
            given[field.python_name] = context.convert(value[name], cast(Any, type_of_field), name)
        elif not _has_default(field):
            given[field.python_name] = None
    return type_(**given)


def _has_default(field: Any) -> bool:
    return field.default_value is not MISSING or field.default_factory is not MISSING
