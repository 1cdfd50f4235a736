"""The examples of `docs/api/examples/`: one operation a file, with its variables beside it.

`<kind>/<name>.graphql` begins with comment lines: what it shows, then `as: <scope or role>` of a caller that may, and
`statements: <n>`, how many SQL statements it takes. `<name>.json` has its variables; a text in it such as
`<mutations/createThing: createThing.thing.id>` stands for what that other example answers there, and
`<SavedQuestion>` for the id of such an object of the caller's tenant.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLSchema,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    get_named_type,
    is_object_type,
    parse,
    visit,
)

from core.errors import Misconfigured

FOLDER = Path(__file__).resolve().parent.parent / "docs/api/examples"
KINDS = ("queries", "mutations", "subscriptions")
_HEADER = re.compile(r"# (as|statements): (.+)")
_MADE = re.compile(r"<([A-Z]\w+)>")
_ANSWER = re.compile(r"<([a-z]+/\w+): ([\w.]+)>")


@dataclass(frozen=True, slots=True)
class Example:
    """One example. `caller` is the scope or the role that runs it."""

    name: str
    text: str
    variables: dict[str, Any]
    about: str
    caller: str
    statements: int

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]

    @property
    def document(self) -> str:
        """Without its header."""
        return "\n".join(line for line in self.text.splitlines() if not line.startswith("#")).strip()


def load_examples(folder: Path = FOLDER) -> dict[str, Example]:
    """All of them by name, such as queries/series.

    Raises:
        Misconfigured: one has no header, or variables that are no object.
    """
    files = sorted(file for kind in KINDS for file in (folder / kind).glob("*.graphql"))
    return {example.name: example for example in map(_load, files)}


def _load(file: Path) -> Example:
    text = file.read_text(encoding="utf-8")
    variables_file = file.with_suffix(".json")
    variables = json.loads(variables_file.read_text(encoding="utf-8")) if variables_file.exists() else {}
    comments = [line for line in text.splitlines() if line.startswith("#")]
    header = {found[1]: found[2] for line in comments if (found := _HEADER.fullmatch(line))}
    about = " ".join(line.removeprefix("#").strip() for line in comments if not _HEADER.fullmatch(line))
    if header.keys() != {"as", "statements"} or not about or not isinstance(variables, dict):
        raise Misconfigured(f"{file}: begin with `# what it shows`, `# as: <scope or role>` and `# statements: <n>`")
    return Example(f"{file.parent.name}/{file.stem}", text, variables, about, header["as"], int(header["statements"]))


def answer_named(text: str) -> tuple[str, list[str]] | None:
    """The example and the path of its answer that a variable stands for, if it stands for one."""
    found = _ANSWER.fullmatch(text)
    return (found[1], found[2].split(".")) if found else None


def object_named(text: str) -> str | None:
    """The kind of object whose id a variable stands for, if it stands for one."""
    found = _MADE.fullmatch(text)
    return found[1] if found else None


def operations_of(schema: GraphQLSchema) -> set[str]:
    """What must have an example: the roots' fields, and those of `Tenant` and `Viewer` that take arguments."""
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    found = {f"{root.name}.{field}" for root in roots if root for field in root.fields}
    for name in ("Tenant", "Viewer"):
        kind = schema.get_type(name)
        if is_object_type(kind):
            found |= {f"{name}.{field}" for field, definition in kind.fields.items() if definition.args}
    return found


def fields_of(schema: GraphQLSchema, document: DocumentNode) -> set[str]:
    """Every field that a document selects, as `Type.field`."""
    info = TypeInfo(schema)
    found: set[str] = set()

    class Collect(Visitor):
        def enter_field(self, node: FieldNode, *_: Any) -> None:
            parent = info.get_parent_type()
            if parent is not None:
                found.add(f"{get_named_type(parent).name}.{node.name.value}")

    visit(document, TypeInfoVisitor(info, Collect()))
    return found


def shown_by(schema: GraphQLSchema, examples: dict[str, Example]) -> dict[str, list[Example]]:
    """The examples of each operation; one that is named for it comes first."""
    wanted, found = operations_of(schema), dict[str, list[Example]]()
    for example in examples.values():
        for coordinate in fields_of(schema, parse(example.document)) & wanted:
            found.setdefault(coordinate, []).append(example)
    for coordinate, shown in found.items():
        field = coordinate.partition(".")[2]
        shown.sort(key=lambda example: (example.name.partition("/")[2] != field, example.name))
    return found
