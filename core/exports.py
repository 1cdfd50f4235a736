"""Files of exports: where each lies, and the signed links by which they are downloaded.

A link names its tenant, its job and its end, under a MAC of the master key: it is good for one file of one tenant, for
ten minutes, for whoever has it. What a file is called follows from ids alone, so no input makes a path.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import shutil
import struct
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from core.errors import Misconfigured, NotFound

LINK_LIFE = timedelta(minutes=10)
KEPT = timedelta(days=7)
PATH = "/exports/"
_BODY = struct.Struct(">16s16sI")
_MAC_BYTES = 32
MAX_TOKEN_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is good for, and until when (epoch seconds)."""

    tenant_id: UUID
    job_id: UUID
    ends_at: int


class ExportLinks:
    """Makes and reads links."""

    def __init__(self, master_key: bytes) -> None:
        self._key = hmac.digest(master_key, b"exports", "sha256")

    def sign(self, link: Link) -> str:
        """The path of a link on the server."""
        body = _BODY.pack(link.tenant_id.bytes, link.job_id.bytes, link.ends_at)
        return PATH + base64.urlsafe_b64encode(body + self._mac(body)).decode().rstrip("=")

    def read(self, token: str, now: float) -> Link:
        """What a token of a path stands for.

        Raises:
            NotFound: it was not made here, was changed, or has ended; told apart nowhere.
        """
        try:
            padded = token + "=" * (-len(token) % 4)
            text = base64.b64decode(padded, altchars=b"-_", validate=True) if len(token) <= MAX_TOKEN_LENGTH else b""
        except (binascii.Error, ValueError):
            text = b""
        body, mac = text[: _BODY.size], text[_BODY.size :]
        if len(text) != _BODY.size + _MAC_BYTES or not hmac.compare_digest(mac, self._mac(body)):
            raise unknown_link()
        tenant, job, ends_at = _BODY.unpack(body)
        if now >= ends_at:
            raise unknown_link()
        return Link(UUID(bytes=tenant), UUID(bytes=job), ends_at)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def saved_name(job_id: UUID, file: str) -> str:
    """What a downloaded file is called: on disk its name also says which worker made it."""
    return f"{job_id}{Path(file).suffix}"


def unknown_link() -> NotFound:
    return NotFound("This link is unknown, or has ended; ask for a new one with createExportLink.")


class ExportFolder:
    """The folder that web processes and workers of jobs share: a folder a tenant in it, a file a job in that."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None

    @property
    def path(self) -> Path:
        """Raises Misconfigured where no folder is set."""
        if self._path is None:
            raise Misconfigured("CLOUDMETRICS_EXPORT_FOLDER is not set: the folder where exports are kept")
        return self._path

    def of_tenant(self, tenant_id: UUID) -> Path:
        return self.path / str(tenant_id)

    def file(self, tenant_id: UUID, job_id: UUID, suffix: str) -> Path:
        """A finished file; `suffix` is one of our own, such as .4711-a1b2.zip: which worker made it, and its form."""
        return self.of_tenant(tenant_id) / f"{job_id}{suffix}"

    def finished(self, tenant_id: UUID, job_id: UUID, name: str) -> Path:
        """The file that a job says it made.

        Raises:
            NotFound: it is no name of a file of that job.
        """
        if not name.startswith(f"{job_id}.") or "/" in name:
            raise unknown_link()
        return self.of_tenant(tenant_id) / name

    def work(self, tenant_id: UUID, job_id: UUID) -> Path:
        """Where a file's parts lie until it is finished, for the owner alone."""
        folder = self.of_tenant(tenant_id) / f"{job_id}.parts"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def remove_work(self, tenant_id: UUID, job_id: UUID) -> None:
        """Removes the parts of a file that is finished."""
        shutil.rmtree(self.of_tenant(tenant_id) / f"{job_id}.parts", ignore_errors=True)

    def remove_job(self, tenant_id: UUID, job_id: UUID) -> int:
        """Removes what a job made; how many files."""
        removed = 0
        for found in list(self.of_tenant(tenant_id).glob(f"{job_id}.*")):
            removed += _remove(found)
        return removed

    def remove_tenant(self, tenant_id: UUID) -> int:
        """Removes all files of a tenant; how many. Where no folder is set there are none."""
        return _remove(self.of_tenant(tenant_id)) if self._path and self.of_tenant(tenant_id).exists() else 0

    def files(self, tenant_id: UUID) -> int:
        if self._path is None:
            return 0
        return sum(1 for found in self.of_tenant(tenant_id).rglob("*") if found.is_file())

    def jobs(self) -> list[tuple[UUID, UUID]]:
        """Tenants and jobs of which there are files or parts."""
        found = set()
        for path in self.path.glob("*/*"):
            try:
                found.add((UUID(path.parent.name), UUID(path.name.partition(".")[0])))
            except ValueError:
                continue
        return sorted(found)


def _remove(path: Path) -> int:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return 1
    files = sum(1 for found in path.rglob("*") if found.is_file())
    shutil.rmtree(path, ignore_errors=True)
    return files
