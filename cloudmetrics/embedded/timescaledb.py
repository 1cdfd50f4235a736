"""TimescaleDB for the PostgreSQL of the wheel: Debian's package of the extension, unpacked beside it, no root.

The extension is built against a newer C library than many systems have, and against OpenSSL, which the wheel lacks:
both are unpacked with it, and the server is started by that library's own loader.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from cloudmetrics.embedded.kafka_server import FETCH_SECONDS, SERVICES
from core.errors import Misconfigured

FOLDER = SERVICES / "timescaledb-pg18"
PACKAGES = ("postgresql-18-timescaledb", "libc6/trixie", "libssl3t64/trixie")
SUITES = ("trixie", "sid")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*.sources", "/etc/apt/sources.list.d/*.list")
PROGRAMS = ("apt-get", "dpkg-deb")
# Its background jobs are of its other licence: a worker of theirs for each database would only be in the way.
OPTIONS = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "0",
}


def fetch_timescaledb() -> Path:
    """The folder of the unpacked packages; fetched when they are not there, with package lists of its own.

    Raises:
        Misconfigured: this is no Debian, or the packages cannot be had; with apt's words.
    """
    if FOLDER.exists():
        return FOLDER
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise Misconfigured(f"TimescaleDB is fetched as a Debian package, and there is no {program} here")
    SERVICES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SERVICES) as text:
        work = Path(text)
        config = _write_config(work)
        _run(["apt-get", "-q", "update"], work, config)
        (work / "packages").mkdir()
        _run(["apt-get", "-q", "download", *PACKAGES], work / "packages", config)
        for package in sorted((work / "packages").glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(work / "root")], work, config)
        try:
            os.rename(work / "root", FOLDER)
        except OSError:
            # Somebody else fetched it meanwhile.
            if not FOLDER.exists():
                raise
    return FOLDER


def launched_with(folder: Path, programs: Path) -> tuple[list[str], dict[str, str]]:
    """How the wheel's server is started with the extension: what stands in place of `postgres`, and its options.

    Raises:
        Misconfigured: the folder is not what `fetch_timescaledb` makes.
    """
    loaders = sorted((folder / "usr/lib").glob("*/ld-linux-*.so.*"))
    if not loaders or not (folder / "usr/share/postgresql/18/extension/timescaledb.control").exists():
        raise Misconfigured(f"{folder} is not TimescaleDB as `make services` unpacks it; see CLOUDMETRICS_TIMESCALEDB")
    libraries = loaders[0].parent
    server = str(programs / "postgres")
    # By name, and found on the library path: the loader parts a list of files at the spaces that a path may have.
    command = [
        str(loaders[0]), "--preload", "libcrypto.so.3 libssl.so.3", "--argv0", server,
        "--library-path", f"{libraries}:{programs.parent / 'lib'}", server,
    ]  # fmt: skip
    paths = {
        "extension_control_path": f"{folder}/usr/share/postgresql/18:$system",
        "dynamic_library_path": f"{folder}/usr/lib/postgresql/18/lib:$libdir",
    }
    return command, {**OPTIONS, **paths}


def _write_config(work: Path) -> Path:
    """apt's files in a folder of ours: nothing of the system's is read but where its packages come from."""
    for name in ("lists/partial", "cache/archives/partial", "state"):
        (work / name).mkdir(parents=True)
    (work / "state/status").touch()
    mirror = _mirror()
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


def _mirror() -> str:
    """Where this system's Debian packages come from.

    Raises:
        Misconfigured: its sources name no mirror of Debian.
    """
    for pattern in SOURCES:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            for found in re.findall(r"^(?:URIs:|deb) .*?(\S+://\S+/debian)/?\s", path.read_text(), re.MULTILINE):
                return str(found)
    raise Misconfigured("TimescaleDB is fetched as a Debian package, and this system's apt names no mirror of Debian")


def _run(command: list[str], folder: Path, config: Path) -> None:
    environ = {**os.environ, "APT_CONFIG": str(config)}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
    )
    if done.returncode != 0:
        raise Misconfigured(f"TimescaleDB cannot be fetched: {(done.stdout + done.stderr).strip()[-800:]}")
