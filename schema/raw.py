"""What every answer that is read from raw events says of where it came from."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, cast

import strawberry

from core.permissions import Permission
from query.raw import Origin
from schema.guarded import shown_to
from schema.metrics import QueryWarning


class HasOrigin(Protocol):
    """An answer as `query/` gives it."""

    @property
    def origin(self) -> Origin: ...


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="An answer read from raw events.")
class RawAnswer:
    @strawberry.field(name="from", description="Start of the range.")
    def from_(self) -> datetime:
        return _origin(self).from_

    @strawberry.field(description="End of the range, exclusive.")
    def to(self) -> datetime:
        return _origin(self).to

    @strawberry.field(description="Everything accepted before is counted.")
    def fresh_until(self) -> datetime:
        return _origin(self).fresh_until

    @strawberry.field(description="Whether all of the range is still kept, and can change by late events alone.")
    def is_complete(self) -> bool:
        return _origin(self).is_complete

    @strawberry.field(description="What to know before trusting it.")
    def warnings(self) -> list[QueryWarning]:
        return cast("list[QueryWarning]", list(_origin(self).warnings))


def _origin(answer: object) -> Origin:
    return cast(HasOrigin, answer).origin
