"""Reading a request's body with a bound, counted as bytes arrive, before and after decompression."""

from __future__ import annotations

import asyncio
import zlib

import zstandard
from starlette.requests import Request

from core.errors import InvalidRequest

BODY_SECONDS = 10.0
MAX_WINDOW_BYTES = 8 * 1024 * 1024
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


async def read_body(request: Request, limit: int) -> bytes:
    """The body as sent.

    Raises:
        InvalidRequest: 413, more than `limit` bytes; 408, not whole in time.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise InvalidRequest(
            f"The body was not whole within {BODY_SECONDS:.0f} s; send it again, in smaller requests.",
            code="body_too_slow",
            status=408,
        ) from None
    return b"".join(chunks)


def too_large(limit: int) -> InvalidRequest:
    return InvalidRequest(
        f"The body has more than {limit} bytes; send fewer events a request, or compress them.",
        code="body_too_large",
        status=413,
    )


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The body in the clear.

    Raises:
        InvalidRequest: 413 beyond `limit` bytes, 415 another encoding, 400 broken or trailing bytes.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip":
            return _gunzip(body, limit)
        case "zstd":
            return _unzstd(body, limit)
    raise InvalidRequest(
        "Content-Encoding must be gzip, zstd or absent.",
        code="unsupported_encoding",
        field="content-encoding",
        status=415,
    )


def _gunzip(body: bytes, limit: int) -> bytes:
    machine = zlib.decompressobj(_GZIP_WINDOW)
    try:
        clear = machine.decompress(body, limit + 1)
    except zlib.error as error:
        raise _broken(f"not gzip: {error}") from None
    if len(clear) > limit:
        raise _expands(limit)
    if not machine.eof or machine.unused_data:
        raise _broken("the gzip stream is cut, or has bytes after its end")
    return clear


def _unzstd(body: bytes, limit: int) -> bytes:
    machine = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    try:
        # A reader makes no more than it is asked for; only then is it worth looking for what comes after the end.
        if len(machine.stream_reader(body).read(limit + 1)) > limit:
            raise _expands(limit)
        whole = machine.decompressobj()
        clear = whole.decompress(body)
    except zstandard.ZstdError as error:
        raise _broken(f"not zstd: {error}") from None
    if not whole.eof or whole.unused_data:
        raise _broken("the zstd stream is cut, or has bytes after its end")
    return clear


def _expands(limit: int) -> InvalidRequest:
    return InvalidRequest(
        f"The body expands to more than {limit} bytes; send fewer events a request.",
        code="decompressed_too_large",
        status=413,
    )


def _broken(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body cannot be decompressed: {reason}.", code="invalid_encoding")
