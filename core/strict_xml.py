"""XML from strangers, read in the one way that leaves no two opinions about what it says: UTF-8, elements, attributes
and text. Whatever readers of XML differ in, or could be made to fetch or to grow, is refused unseen. Pure; no I/O.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from core.errors import InvalidRequest

MAX_DEPTH = 40
MAX_ELEMENTS = 20_000
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"


def parse_strictly(document: bytes, *, most_bytes: int, code: str, may_have_comments: bool = False) -> Element:
    """The root of a document; names are `{namespace}local`. Comments, where they may be, are left out.

    Raises:
        InvalidRequest: with `code`: it is larger than `most_bytes`, not well formed, not UTF-8, or has a document type,
            an entity, a comment, a processing instruction, a CDATA section, an `xml:id`, two equal IDs, or is too deep.
    """
    if len(document) > most_bytes:
        raise InvalidRequest(f"The XML document is larger than {most_bytes} bytes.", code=code, status=413)
    try:
        document.decode("utf-8")
        return _Reader(code, may_have_comments).read(document)
    except (expat.ExpatError, UnicodeDecodeError):
        raise InvalidRequest("The XML document is not well-formed XML 1.0 in UTF-8.", code=code) from None


class _Reader:
    def __init__(self, code: str, may_have_comments: bool) -> None:
        self._code = code
        self._may_have_comments = may_have_comments
        self._tree = TreeBuilder()
        self._depth = 0
        self._elements = 0
        self._ids: set[str] = set()

    def read(self, document: bytes) -> Element:
        parser = expat.ParserCreate("utf-8", "}")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._tree.data
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = lambda *_: self._refuse("a document type")
        parser.EntityDeclHandler = lambda *_: self._refuse("an entity")
        if not self._may_have_comments:
            parser.CommentHandler = lambda *_: self._refuse("a comment")
        parser.ProcessingInstructionHandler = lambda *_: self._refuse("a processing instruction")
        parser.StartCdataSectionHandler = lambda: self._refuse("a CDATA section")
        parser.Parse(document, True)
        return self._tree.close()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            self._refuse(f"more than {MAX_DEPTH} levels or {MAX_ELEMENTS} elements")
        named = {_braced(key): value for key, value in attributes.items()}
        if XML_ID in named:
            self._refuse("an xml:id")
        for key in ("ID", "Id", "id"):
            if key in named:
                if named[key] in self._ids:
                    self._refuse("two equal IDs")
                self._ids.add(named[key])
        self._tree.start(_braced(name), named)

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._tree.end(_braced(name))

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if version != "1.0" or (encoding or "utf-8").lower() != "utf-8":
            self._refuse("another version or encoding than XML 1.0 in UTF-8")

    def _refuse(self, what: str) -> None:
        raise InvalidRequest(f"The XML document has {what}, which is not taken here.", code=self._code)


def _braced(name: str) -> str:
    return "{" + name if "}" in name else name
