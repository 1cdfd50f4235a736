"""The reference says what the schema says, and its links lead somewhere."""

from __future__ import annotations

import re

from schema.build import schema
from schema.examples import FOLDER
from schema.reference import Reference

PAGES = Reference(schema).pages()


def test_the_committed_pages_are_current() -> None:
    for name, text in PAGES.items():
        assert (FOLDER.parent / name).read_text(encoding="utf-8") == text, "run make schema"


def test_every_link_leads_to_a_heading() -> None:
    headings = {
        f"{page}#{head.lower()}" for page, text in PAGES.items() for head in re.findall(r"^## (\w+)$", text, re.M)
    }
    links = {link for text in PAGES.values() for link in re.findall(r"\]\(([^)]+)\)", text)}
    assert len(links) > 20 and links <= headings


def test_every_field_of_the_schema_is_on_a_page() -> None:
    whole = "\n".join(PAGES.values())
    for name, kind in schema._schema.type_map.items():
        if name.startswith("__"):
            continue
        for field in getattr(kind, "fields", {}):
            found = f"| `{field}" in whole or f"## {field}\n" in whole
            assert found, f"{name}.{field}"


def test_the_matrix_has_a_row_for_each_root_field_and_node() -> None:
    rows = set(re.findall(r"^\| (.+?) \| `", PAGES["permissions.md"], re.M))
    for root in ("Query", "Mutation", "Subscription"):
        kind = schema._schema.type_map[root]
        assert {f"`{root}.{field}`" for field in kind.fields} <= rows  # type: ignore[union-attr]
    assert "`node(id:)` of Event" in rows
