"""The rules of the house that a test can hold. An exception is a line with `# allow: <rule> <why>`."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

from cloudmetrics.__main__ import COMMANDS
from core.queries import QUERIES_FOLDER, parse_blocks
from core.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("core", "query", "pipeline", "resolvers", "schema", "web", "cloudmetrics", "sql")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# Peers and limits are no part of the product: they speak SQL and open connections as their like do.
BENCH = sorted((ROOT / "bench").rglob("*.py"))
CUPBOARDS = {"utils", "helpers", "common", "manager", "misc", "base"}
SQL = re.compile(r"^\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s.+\sSET|DELETE\s+FROM|CREATE\s+TABLE)\b", re.I | re.S)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(path: Path) -> set[str]:
    """Modules that a file names in its imports, and names that may be modules."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("package", [*PACKAGES, "bench", "tests"])
def test_each_folder_says_what_enters_and_leaves(package: str) -> None:
    text = (ROOT / package / "README.md").read_text(encoding="utf-8")
    assert "nters" in text and "eaves" in text


@pytest.mark.parametrize("path", [*SOURCES, *BENCH], ids=name)
def test_a_module_says_what_it_is_and_stays_small(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), "a module begins with what it is for"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.stem not in CUPBOARDS


@pytest.mark.parametrize("path", [*SOURCES, *BENCH], ids=name)
def test_functions_fit_a_screen_and_take_few_arguments(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno + 1 <= 50, f"{node.name} is too long"
            assert len(node.args.args) + len(node.args.kwonlyargs) <= 8, f"{node.name} takes too much"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_sql_stands_in_sql_only(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not SQL.match(node.value), node.value[:60]


def test_only_the_doors_open_connections() -> None:
    for path in SOURCES:
        if name(path) != "core/database.py":
            text = path.read_text(encoding="utf-8")
            assert "asyncpg.connect" not in text and "create_pool" not in text, name(path)


def test_only_settings_and_starts_read_the_environment() -> None:
    allowed = {"core/settings.py", "web/__main__.py", "pipeline/__main__.py", "sql/__main__.py"}
    for path in SOURCES:
        if name(path) not in allowed and not name(path).startswith("cloudmetrics/"):
            assert "os.environ" not in path.read_text(encoding="utf-8"), name(path)


def test_every_named_query_is_used() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    code += (ROOT / "tests/conftest.py").read_text(encoding="utf-8")
    for path in sorted(QUERIES_FOLDER.glob("*.sql")):
        for block in parse_blocks(path.read_text(encoding="utf-8"), path.name):
            # By its whole name, or put together of a beginning and a choice: f"rollup_{resolution}".
            words = block.split("_")
            begins = [f'f"{"_".join(words[:n])}_{{' for n in range(1, len(words))]
            assert f'"{block}"' in code or any(begin in code for begin in begins), f"{path.name}: {block}"


def test_every_module_is_a_command_or_imported_by_another() -> None:
    imported = {module for path in SOURCES for module in imports_of(path)}
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        # Commands are found by their name, when they are typed.
        is_entry = path.stem in ("__main__", "__init__") or module.startswith("cloudmetrics.commands.")
        assert is_entry or module in imported, f"nobody imports {module}"


def test_every_topic_of_queries_is_read_and_every_folder_of_tests_has_its_package() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    for path in QUERIES_FOLDER.glob("*.sql"):
        assert f'named("{path.stem}", ' in code, path.name
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith("__")}
    parts = {"acceptance", "architecture", "attacks", "fuzz", "bench", "clients", "contract", "data", "faults"}
    assert folders - parts == set(PACKAGES)
    for command in sorted((ROOT / "cloudmetrics/commands").glob("*.py")):
        assert command.stem.strip("_") in COMMANDS, command.name


def test_no_file_names_a_registry_or_a_place_of_this_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for file in tracked:
        path = ROOT / file
        if path.suffix in {".gz", ".png"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert "index-url" not in text or file.startswith("tests/architecture"), file
        assert '"resolved"' not in text or file.startswith("tests/architecture"), file


def test_locks_hash_every_package() -> None:
    for lock in (ROOT / "locks").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert text.count("--hash=sha256:") >= text.count("==") > 20
        assert "http" not in text.replace("httptools", "").replace("httpx2", "").replace("httpcore2", "")


def test_the_readme_lists_every_setting_with_its_default_and_meaning() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    rows = [line for line in readme.splitlines() if line.startswith(f"| `{PREFIX}")]
    assert rows == [
        f"| `{PREFIX}{field.name.upper()}` | {shown_default(field)} | {field.metadata['meaning']} |"
        for field in dataclasses.fields(Settings)
    ]


def shown_default(field: dataclasses.Field[object]) -> str:
    """A default as people write it."""
    is_size = field.name.endswith("_bytes") and isinstance(field.default, int)
    return f"{int(str(field.default)) // 2**30} GiB" if is_size else str(field.default)


def test_no_two_modules_import_each_other_by_any_way() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}
    graph = {module: imports_of(path) & modules.keys() - {module} for module, path in modules.items()}
    # A module that imports nothing more of what is left is on no way back to itself.
    while free := {module for module, others in graph.items() if not others & graph.keys()}:
        graph = {module: others for module, others in graph.items() if module not in free}
    assert graph == {}, "these go round in a circle"
