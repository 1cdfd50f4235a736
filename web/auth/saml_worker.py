"""One worker process for SAML: a job a line on standard input, its outcome a line on standard output. It has a limit of
memory and of file size, and ends with its parent. `python -m web.auth.saml_worker`
"""

from __future__ import annotations

import logging
import resource
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from core.errors import InvalidRequest
from web.auth.saml_client import IdentityProvider, ServiceProvider, request_to, verify
from web.auth.saml_response import Expected, Said, check_form, check_said

MEMORY_BYTES = 768 * 1024 * 1024
FILE_BYTES = 8 * 1024 * 1024
READY = b"ready\n"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`request` or `verify`."""

    does: str
    provider: ServiceProvider
    idp: IdentityProvider
    relay_state: str = ""
    request_id: str = ""
    document: bytes = b""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job; where `code` is set, why it was refused."""

    code: str = ""
    message: str = ""
    status: int = 200
    request_id: str = ""
    url: str = ""
    said: Said | None = None


def done(job: Job, now: datetime | None = None) -> Outcome:
    """Does one job; a refusal is an outcome."""
    try:
        if job.does == "request":
            request_id, url = request_to(job.provider, job.idp, job.relay_state)
            return Outcome(request_id=request_id, url=url)
        return Outcome(said=_verified(job, now or datetime.now(UTC)))
    except InvalidRequest as refusal:
        return Outcome(code=refusal.code, message=refusal.message, status=refusal.answer_status)
    except (MemoryError, OSError):
        # Ours and not the document's: the process ends and another takes over.
        raise
    except Exception as error:
        # Documents come from anybody: none of them is to cost a process.
        text = f"The identity provider's answer cannot be read ({type(error).__name__})."
        return Outcome(code="saml_invalid_document", message=text, status=400)


def _verified(job: Job, now: datetime) -> Said:
    idp = job.idp
    form = check_form(job.document, idp.requires_signed_response)
    expected = Expected(
        request_id=job.request_id,
        idp=idp.entity_id,
        audience=job.provider.entity_id,
        acs_url=job.provider.acs_url,
        now=now,
    )
    # The cheap ones first: who replays old documents costs no process. What is said is believed after `verify` alone.
    said = check_said(form, expected)
    verify(job.provider, idp, job.document, form, job.request_id)
    return said


def main() -> int:
    """Jobs until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The library logs whole documents, with what they say of people.
    logging.disable(logging.CRITICAL)
    decoder, encoder = msgspec.json.Decoder(Job), msgspec.json.Encoder()
    out: Any = sys.stdout.buffer
    out.write(READY)
    out.flush()
    for line in sys.stdin.buffer:
        out.write(encoder.encode(done(decoder.decode(line))) + b"\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
