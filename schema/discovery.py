"""What there is to ask for: properties that events have, and values that fields have."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

from core.permissions import Permission
from query.discovery import JSONType
from schema.described import enum_of
from schema.guarded import shown_to
from schema.metrics import SourceType, TimeRange

EventTypes = Annotated[
    list[str] | None, strawberry.argument(description="Only events of these types; of all when absent.")
]
SampleRange = Annotated[
    TimeRange | None, strawberry.argument(description="Only events of this span; the last 7 days when absent.")
]
FieldName = Annotated[
    str,
    strawberry.argument(description="A dimension of events, such as country, or a property, such as properties.plan."),
]

JSONTypeType = enum_of(
    JSONType,
    "What a property's value is in JSON.",
    name="JSONType",
    STRING="Text.",
    NUMBER="A number; conditions may compare it by GT and the like.",
    BOOLEAN="true or false.",
    NULL="null, which conditions read as the empty text.",
    ARRAY="A list; conditions do not look into it.",
    OBJECT="An object; its own properties are listed as well.",
)


@shown_to(Permission.EVENTS_READ)
@strawberry.type(description="In how many events a property is of one type.")
class PropertyType:
    type: JSONTypeType = strawberry.field(description="The type.")  # type: ignore[valid-type]
    count: int = strawberry.field(description="Events of the sample.")


@shown_to(Permission.EVENTS_READ)
@strawberry.type(description="A property that events have.")
class Property:
    name: str = strawberry.field(description="What a condition's `dimension` takes, such as properties.plan.")
    types: list[PropertyType] = strawberry.field(description="What its values are, the commonest first.")
    count: int = strawberry.field(description="Events of the sample that have it.")
    share: float = strawberry.field(description="Of the sample, 0 to 1.")
    is_filterable: bool = strawberry.field(
        description="Whether conditions can name it; not so with a point in its own name."
    )


@shown_to(Permission.EVENTS_READ)
@strawberry.type(description="The properties of a sample of recent events.")
class PropertySample:
    properties: list[Property] = strawberry.field(description="The commonest first.")
    events_read: int = strawberry.field(
        description="How many events were looked at: up to 5,000 of the types, among the newest 100,000 of the range."
    )
    oldest: datetime | None = strawberry.field(description="When the oldest of them happened.")


@shown_to(Permission.EVENTS_READ)
@strawberry.type(description="How many events have a value.")
class FieldValue:
    value: str = strawberry.field(description="The value as text, up to 1,024 characters of it.")
    count: int = strawberry.field(description="Events that have it.")
    share: float = strawberry.field(description="Of the events that were looked at, 0 to 1.")


@shown_to(Permission.EVENTS_READ)
@strawberry.type(description="The commonest values of a field.")
class TopValues:
    values: list[FieldValue] = strawberry.field(description="The commonest first; the empty one is left out.")
    events_read: int = strawberry.field(
        description="How many events were looked at: of a dimension all, of a property a sample as of properties."
    )
    oldest: datetime | None = strawberry.field(description="None of them happened before.")
    source: SourceType = strawberry.field(description="Where it was read.")  # type: ignore[valid-type]
