"""`python -m schema …`: the manifest of trusted documents, and the reference in `docs/api/`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from core.errors import Misconfigured
from schema.build import schema
from schema.examples import FOLDER
from schema.reference import Reference
from schema.trusted import manifest_of

PAGES = FOLDER.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m schema", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    manifest = commands.add_parser(
        "manifest",
        help="print the manifest of trusted documents: {sha256: document} of .graphql files, one document each",
    )
    manifest.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder of .graphql files")
    reference = commands.add_parser("reference", help="write the pages of docs/api/")
    reference.add_argument("--check", action="store_true", help="write nothing; exit 1 and say which are not current")
    given = parser.parse_args()
    try:
        if given.command == "reference":
            return write_reference(is_check=given.check)
        print(json.dumps(manifest_of(given.paths), indent=1, sort_keys=True))
    except Misconfigured as error:
        print(f"schema: {error.message}", file=sys.stderr)
        return 1
    return 0


def write_reference(*, is_check: bool) -> int:
    """Writes the pages, or says which of them the schema has left behind."""
    stale = 0
    for name, text in Reference(schema).pages().items():
        path = PAGES / name
        if is_check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            print(f"docs/api/{name} is not current: run make schema", file=sys.stderr)
            stale = 1
        elif not is_check:
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
