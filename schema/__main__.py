"""`python -m schema …`: the manifest of trusted documents, and the reference in `docs/api/`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from core.errors import Misconfigured
from schema.trusted import manifest_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m schema", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    manifest = commands.add_parser(
        "manifest",
        help="print the manifest of trusted documents: {sha256: document} of .graphql files, one document each",
    )
    manifest.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder of .graphql files")
    given = parser.parse_args()
    try:
        print(json.dumps(manifest_of(given.paths), indent=1, sort_keys=True))
    except Misconfigured as error:
        print(f"schema: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
