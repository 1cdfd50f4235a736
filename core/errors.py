"""The one tree of expected errors, each with a stable code and an HTTP status.

CloudMetricsError
|- BadInput (400)                 the caller can mend it: field, limit and remedy are in the message
|  |- InvalidRequest              one body, header, document or argument that cannot be used; code given where raised
|- Unauthenticated (401)          no key, or a key or signature that is not accepted
|- PermissionDenied (403)         a known caller who may not
|- NotFound (404)                 missing, or another tenant's: told apart nowhere
|- Conflict (409)                 it contradicts what came before
|- InProgress (409)               the same is under way; says when to come back
|- TooMany (429)                  rate or quota; says when to come back
|- Unavailable (503)              a part is away; says when to come back
|  |- LogUnavailable
|  |  |- LogFull
|  |- DatabaseUnavailable
|  |- LiveUnavailable
|- TenantNotSet (500)             a statement ran outside a tenant's transaction: our bug, never rows
|- Fenced (500)                   another worker has moved the stored offset: this one's work is void
|- Misconfigured (500)            a setting or role that must stop the start
"""

from __future__ import annotations

from typing import ClassVar


class CloudMetricsError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str = "", *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or "")
        self.code = code or self.default_code
        self.field = field

    @property
    def message(self) -> str:
        return str(self.args[0])


class BadInput(CloudMetricsError):
    """The request cannot be used as it is."""

    status = 400
    default_code = "bad_request"


class InvalidRequest(BadInput):
    """The request cannot be used as it is."""

    def __init__(
        self, message: str = "", *, code: str | None = None, field: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message, code=code, field=field)
        self.answer_status = status


class Unauthenticated(CloudMetricsError):
    """The API key is missing, unknown, expired or revoked."""

    status = 401
    default_code = "invalid_api_key"


class PermissionDenied(CloudMetricsError):
    """This caller may not do that."""

    status = 403
    default_code = "permission_denied"


class NotFound(CloudMetricsError):
    """There is nothing with that id."""

    status = 404
    default_code = "not_found"


class Conflict(CloudMetricsError):
    """This contradicts what came before."""

    status = 409
    default_code = "conflict"


class Retryable(CloudMetricsError):
    """Not now; come back after `retry_after` seconds."""

    def __init__(self, message: str = "", *, retry_after: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class InProgress(Retryable):
    """The same request is under way."""

    status = 409
    default_code = "idempotency_in_progress"


class TooMany(Retryable):
    """Too many requests for this key."""

    status = 429
    default_code = "rate_limited"


class Unavailable(Retryable):
    """A part of the service is away."""

    status = 503
    default_code = "unavailable"


class LogUnavailable(Unavailable):
    """The event log does not answer; nothing was accepted. Send the same events again."""

    default_code = "log_unavailable"


class LogFull(LogUnavailable):
    """The event log is full; nothing was accepted. Send the same events again once the workers have caught up."""

    default_code = "log_full"


class DatabaseUnavailable(Unavailable):
    """The database does not answer. Ingest goes on; reads come back with it."""

    default_code = "database_unavailable"


class LiveUnavailable(Unavailable):
    """The live channel does not answer."""

    default_code = "live_unavailable"


class TenantNotSet(CloudMetricsError):
    """A statement on tenants' data ran without a tenant."""

    default_code = "tenant_not_set"


class Fenced(CloudMetricsError):
    """The stored offset is not the one this worker left: its batch is void."""

    default_code = "fenced"


class Misconfigured(CloudMetricsError):
    """A setting stops the start."""

    default_code = "misconfigured"
