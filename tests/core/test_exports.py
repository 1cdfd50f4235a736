"""A link to a file is good for that file, for ten minutes, as it was signed."""

from __future__ import annotations

import base64
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from core.errors import Misconfigured, NotFound
from core.exports import PATH, ExportFolder, ExportLinks, Link

LINKS = ExportLinks(b"k" * 32)
LINK = Link(UUID(int=1), UUID(int=2), 2_000_000_600)
NOW = 2_000_000_000.0


def token(link: Link = LINK, links: ExportLinks = LINKS) -> str:
    return links.sign(link).removeprefix(PATH)


def test_a_link_says_what_was_signed_until_its_end() -> None:
    assert LINKS.read(token(), NOW) == LINK
    assert LINKS.read(token(), LINK.ends_at - 0.1) == LINK
    with pytest.raises(NotFound):
        LINKS.read(token(), LINK.ends_at)


def test_no_other_bytes_than_those_that_were_signed_are_a_link() -> None:
    text = base64.urlsafe_b64decode(token() + "==")
    forged = []
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= 1
        forged.append(base64.urlsafe_b64encode(bytes(changed)).decode().rstrip("="))
    forged += ["", "x", "%00", "../../etc/passwd", token()[:-1], token() + "A", "A" * 10_000, "é", token() * 2]
    forged += [token(links=ExportLinks(b"o" * 32))]
    for each in forged:
        with pytest.raises(NotFound) as refusal:
            LINKS.read(each, NOW)
        assert refusal.value.message.startswith("This link is unknown, or has ended")


def test_files_of_a_tenant_lie_in_its_own_folder_and_go_with_it(tmp_path: Path) -> None:
    folder, mine, theirs, job = ExportFolder(str(tmp_path)), uuid4(), uuid4(), uuid4()
    for tenant in (mine, theirs):
        folder.work(tenant, job).joinpath("000001.jsonl.gz").touch()
        folder.file(tenant, job, ".zip").touch()
    assert folder.jobs() == sorted([(mine, job), (theirs, job)])
    assert (folder.files(mine), folder.remove_job(mine, job), folder.files(mine)) == (2, 2, 0)
    assert (folder.remove_tenant(mine), folder.remove_tenant(theirs), folder.remove_tenant(theirs)) == (0, 2, 0)
    assert ExportFolder("").remove_tenant(mine) == 0 and ExportFolder("").files(mine) == 0
    with pytest.raises(Misconfigured, match="EXPORT_FOLDER"):
        ExportFolder("").work(mine, job)
