"""Trusted documents: the operations that a front end was built with, by the SHA-256 of their text.

Source: the appendix "Persisted documents" of GraphQL over HTTP (`documentId`), and the `persistedQuery` extension of
Apollo's automatic persisted queries, whose registration by clients there is not: the manifest is all there is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from graphql import GraphQLError, parse

from core.errors import InvalidRequest, Misconfigured

HASH_LENGTH = 64
SCHEME = "sha256:"


class TrustMode(StrEnum):
    """off: documents come as text; on: by hash as well; only: from browsers, nothing but the manifest's."""

    OFF = "off"
    ON = "on"
    ONLY = "only"


class TrustedDocuments:
    """The manifest and what it means for a request."""

    def __init__(self, mode: TrustMode, documents: Mapping[str, str]) -> None:
        self.mode = mode
        self._documents = dict(documents)

    @classmethod
    def load(cls, mode: TrustMode, path: str) -> TrustedDocuments:
        """Reads the manifest, a JSON object of `{sha256: document}`.

        Raises:
            Misconfigured: it is not there, is no such object, or a hash is not its document's.
        """
        if mode is TrustMode.OFF:
            return cls(mode, {})
        if not path:
            raise Misconfigured(
                "trusted documents need CLOUDMETRICS_TRUSTED_DOCUMENTS_PATH, as `python -m schema manifest` makes it"
            )
        try:
            documents = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Misconfigured(f"the manifest of trusted documents at {path} cannot be read: {error}") from None
        if not isinstance(documents, dict):
            raise Misconfigured(f"the manifest of trusted documents at {path} is no JSON object")
        for name, text in documents.items():
            if not isinstance(text, str) or sha256_of(text) != name:
                raise Misconfigured(f"trusted document {name[:HASH_LENGTH]!r} at {path} is not what its hash says")
        return cls(mode, documents)

    def text_of(self, query: str | None, hash: str | None, *, is_browser: bool) -> str:
        """The document that a request means.

        Raises:
            InvalidRequest: neither text nor hash, a hash that is not the text's, one that is not in the manifest, or
                a text that is not, from a browser, where nothing else is taken.
        """
        if hash is None:
            if query is None:
                raise InvalidRequest("`query` must be a string.", code="BAD_REQUEST", field="query")
            hash = sha256_of(query) if self._needs_manifest(is_browser) else None
        elif query is not None and sha256_of(query) != hash:
            raise InvalidRequest(
                "The hash is not the SHA-256 of the document sent with it; send one of them.",
                code="PERSISTED_QUERY_MISMATCH",
            )
        if query is not None and not self._needs_manifest(is_browser):
            return query
        return self._known(hash or "", query)

    def _needs_manifest(self, is_browser: bool) -> bool:
        return self.mode is TrustMode.ONLY and is_browser

    def _known(self, hash: str, query: str | None) -> str:
        if hash in self._documents:
            return self._documents[hash]
        if query is not None:
            raise InvalidRequest(
                "Only documents of the manifest run for this token; send one of those, or use a key.",
                code="DOCUMENT_NOT_TRUSTED",
            )
        if self.mode is TrustMode.OFF:
            raise InvalidRequest(
                "This server takes no documents by their hash; send the text.", code="PERSISTED_QUERY_NOT_SUPPORTED"
            )
        raise InvalidRequest(
            "There is no document with that hash in the manifest; send the text.", code="PERSISTED_QUERY_NOT_FOUND"
        )


def sha256_of(text: str) -> str:
    """A document's name: its SHA-256 in hex. Half a surrogate pair, which UTF-8 has not, hashes as a question mark."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def manifest_of(paths: Iterable[Path]) -> dict[str, str]:
    """The manifest of these files, and of those in these folders that end in .graphql: one document a file.

    Raises:
        Misconfigured: a file cannot be read, or is no GraphQL.
    """
    documents: dict[str, str] = {}
    for path in paths:
        for file in sorted(path.rglob("*.graphql")) if path.is_dir() else [path]:
            try:
                text = file.read_text(encoding="utf-8")
                parse(text)
            except (OSError, UnicodeDecodeError, GraphQLError) as error:
                raise Misconfigured(f"{file}: {error}") from None
            documents[sha256_of(text)] = text
    return documents
