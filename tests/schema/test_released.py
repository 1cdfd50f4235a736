"""A change that breaks clients of the last release is found, unless the changelog declares it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

CLIENTS = ROOT / "tests/clients"
INSPECTOR = CLIENTS / "node_modules/.bin/graphql-inspector"
RELEASED = ROOT / "schema/released.graphql"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and INSPECTOR.exists()) and not os.environ.get("CI"),
    reason="needs node: make test installs the inspector",
)


def compared(new: Path, changelog: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(INSPECTOR), "diff", str(RELEASED), str(new), "--rule", "./declared.cjs"],
        cwd=CLIENTS, env={**os.environ, "CHANGELOG": str(changelog)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The released schema without `Tenant.slug`, and with an argument more that must be given."""
    text = RELEASED.read_text(encoding="utf-8")
    without = text.replace("  slug: String!\n", "  slogan: String!\n").replace(
        "usage(month: String", "usage(day: Int!, month: String"
    )
    assert without.count("slogan") == 1 and without.count("day: Int!") == 1
    new = tmp_path / "new.graphql"
    new.write_text(without, encoding="utf-8")
    return new


@pytest.mark.parametrize(
    ("lines", "is_let_pass"),
    [
        ("## Unreleased\n\n## 0.1.0\n- Breaking: Tenant.slug\n- Breaking: Tenant.usage.day\n", False),
        ("## Unreleased\n- Breaking: `Tenant.slug` is now `slogan`.\n", False),
        (
            "## Unreleased\n- Breaking: `Tenant.slug` is now `slogan`.\n- Breaking: Tenant.usage.day must be given.\n",
            True,
        ),
    ],
    ids=["declared for a release that is past", "one of two declared", "both declared"],
)
def test_a_breaking_change_fails_unless_each_is_declared(
    changed: Path, tmp_path: Path, lines: str, is_let_pass: bool
) -> None:
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(lines, encoding="utf-8")
    done = compared(changed, changelog)
    assert (done.returncode == 0) == is_let_pass, done.stdout + done.stderr
    assert "slug was removed" in done.stdout + done.stderr


def test_what_is_only_added_passes(tmp_path: Path) -> None:
    new = tmp_path / "new.graphql"
    text = RELEASED.read_text(encoding="utf-8")
    new.write_text(text.replace("  slug: String!\n", "  slug: String!\n  slogan: String\n"), encoding="utf-8")
    done = compared(new, ROOT / "CHANGELOG.md")
    assert done.returncode == 0, done.stdout + done.stderr
