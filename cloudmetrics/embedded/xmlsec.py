"""xmlsec1, which verifies the signatures of SAML: the system's own, or Debian's package unpacked beside its libraries
and started by their own loader, no root."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from cloudmetrics.embedded.debian import SERVICES, fetch_packages
from core.errors import Misconfigured

FOLDER = SERVICES / "xmlsec1"
PROGRAM = FOLDER / "xmlsec1"
_PARTS = ("xmlsec1", "libxmlsec1t64", "libxmlsec1t64-openssl", "libxml2", "libxslt1.1", "liblzma5", "zlib1g",
          "libzstd1", "libssl3t64", "libc6")  # fmt: skip
PACKAGES = tuple(f"{name}/trixie" for name in _PARTS)


def known_xmlsec1() -> str:
    """The path of an xmlsec1 that is here already; empty when there is none."""
    return shutil.which("xmlsec1") or (str(PROGRAM) if PROGRAM.exists() else "")


def fetch_xmlsec1() -> str:
    """The path of xmlsec1; fetched when this machine has none.

    Raises:
        Misconfigured: it cannot be had; with the reason.
    """
    known = known_xmlsec1()
    if known:
        return known
    fetch_packages("xmlsec1", PACKAGES, FOLDER)
    _write_launcher(FOLDER)
    return str(PROGRAM)


def _write_launcher(folder: Path) -> None:
    """The program that stands in place of xmlsec1: the same, with its own C library."""
    loaders = sorted((folder / "usr/lib").glob("*/ld-linux-*.so.*"))
    if not loaders:
        raise Misconfigured(f"{folder} is not xmlsec1 as `make services` unpacks it; remove it, and fetch it again")
    loader, program = shlex.quote(str(loaders[0])), shlex.quote(str(folder / "usr/bin/xmlsec1"))
    libraries = shlex.quote(str(loaders[0].parent))
    fresh = folder / f"xmlsec1.{os.getpid()}"
    fresh.write_text(f'#!/bin/sh\nexec {loader} --library-path {libraries} {program} "$@"\n', encoding="utf-8")
    fresh.chmod(0o755)
    fresh.rename(folder / "xmlsec1")
