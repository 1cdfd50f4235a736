"""Reading a request's body with a bound, counted as bytes arrive, before and after decompression."""

from __future__ import annotations

import zlib

import zstandard
from starlette.requests import Request

from core.errors import InvalidRequest

CHUNK_BYTES = 64 * 1024
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


async def read_body(request: Request, limit: int) -> bytes:
    """The body as sent.

    Raises:
        InvalidRequest: 413, more than `limit` bytes.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
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
    machine = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024).decompressobj()
    clear = bytearray()
    try:
        # Small bites bound what one call can expand to before it is counted.
        for start in range(0, len(body), 1024):
            clear += machine.decompress(body[start : start + 1024])
            if len(clear) > limit:
                raise _expands(limit)
    except zstandard.ZstdError as error:
        raise _broken(f"not zstd: {error}") from None
    if not machine.eof or machine.unused_data:
        raise _broken("the zstd stream is cut, or has bytes after its end")
    return bytes(clear)


def _expands(limit: int) -> InvalidRequest:
    return InvalidRequest(
        f"The body expands to more than {limit} bytes; send fewer events a request.",
        code="decompressed_too_large",
        status=413,
    )


def _broken(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body cannot be decompressed: {reason}.", code="invalid_encoding")
