"""Debian's packages unpacked into a folder of ours: no root, nothing of the system is changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from cloudmetrics.children import CHECKOUT
from core.errors import Misconfigured

# Whatever is fetched lies here, once for all data folders.
SERVICES = CHECKOUT / ".services"
FETCH_SECONDS = 600
SUITES = ("trixie", "sid")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*.sources", "/etc/apt/sources.list.d/*.list")
PROGRAMS = ("apt-get", "dpkg-deb")


def fetch_packages(what: str, packages: tuple[str, ...], folder: Path) -> Path:
    """The folder with the unpacked packages; fetched when it is not there, with package lists of its own. `packages`
    are as `apt-get download` takes them, such as `libc6/trixie`.

    Raises:
        Misconfigured: this is no Debian, or the packages cannot be had; with apt's words.
    """
    if folder.exists():
        return folder
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise Misconfigured(f"{what} is fetched as a Debian package, and there is no {program} here")
    SERVICES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SERVICES) as text:
        work = Path(text)
        config = _write_config(what, work)
        _run(what, ["apt-get", "-q", "update"], work, config)
        (work / "packages").mkdir()
        _run(what, ["apt-get", "-q", "download", *packages], work / "packages", config)
        for package in sorted((work / "packages").glob("*.deb")):
            _run(what, ["dpkg-deb", "-x", str(package), str(work / "root")], work, config)
        try:
            os.rename(work / "root", folder)
        except OSError:
            # Somebody else fetched it meanwhile.
            if not folder.exists():
                raise
    return folder


def _write_config(what: str, work: Path) -> Path:
    """apt's files in a folder of ours: nothing of the system's is read but where its packages come from."""
    for name in ("lists/partial", "cache/archives/partial", "state"):
        (work / name).mkdir(parents=True)
    (work / "state/status").touch()
    mirror = _mirror(what)
    lines = [f"deb [signed-by={KEYRING}] {mirror} {suite} main" for suite in SUITES]
    (work / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = work / "apt.conf"
    config.write_text(
        f'Dir::State "{work}/state"; Dir::State::Lists "{work}/lists"; Dir::State::status "{work}/state/status";\n'
        f'Dir::Cache "{work}/cache"; Dir::Etc::SourceList "{work}/sources.list"; Dir::Etc::SourceParts "/dev/null";\n'
        'Acquire::Languages "none"; Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";\n'
        'APT::Sandbox::User "";\n',
        encoding="utf-8",
    )
    return config


def _mirror(what: str) -> str:
    """Where this system's Debian packages come from.

    Raises:
        Misconfigured: its sources name no mirror of Debian.
    """
    for pattern in SOURCES:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            for found in re.findall(r"^(?:URIs:|deb) .*?(\S+://\S+/debian)/?\s", path.read_text(), re.MULTILINE):
                return str(found)
    raise Misconfigured(f"{what} is fetched as a Debian package, and this system's apt names no mirror of Debian")


def _run(what: str, command: list[str], folder: Path, config: Path) -> None:
    environ = {**os.environ, "APT_CONFIG": str(config)}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
    )
    if done.returncode != 0:
        raise Misconfigured(f"{what} cannot be fetched: {(done.stdout + done.stderr).strip()[-800:]}")
