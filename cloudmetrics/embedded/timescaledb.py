"""TimescaleDB for the PostgreSQL of the wheel: Debian's package of the extension, unpacked beside it, no root.

The extension is built against a newer C library than many systems have, and against OpenSSL, which the wheel lacks:
both are unpacked with it, and the server is started by that library's own loader.
"""

from __future__ import annotations

from pathlib import Path

from cloudmetrics.embedded.debian import SERVICES, fetch_packages
from core.errors import Misconfigured

FOLDER = SERVICES / "timescaledb-pg18"
PACKAGES = ("postgresql-18-timescaledb", "libc6/trixie", "libssl3t64/trixie")
# Its background jobs are of its other licence: a worker of theirs for each database would only be in the way.
OPTIONS = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "0",
}


def fetch_timescaledb() -> Path:
    """The folder of the unpacked packages; fetched when they are not there.

    Raises:
        Misconfigured: this is no Debian, or the packages cannot be had; with apt's words.
    """
    return fetch_packages("TimescaleDB", PACKAGES, FOLDER)


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
