"""Worker processes for SAML: what hangs, grows or breaks in them ends with them, and another takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from core.errors import InvalidRequest, Unavailable
from tests.web.saml_documents import Answer, Signer, make_signer
from web.auth import saml_pool
from web.auth.saml_client import IdentityProvider, ServiceProvider
from web.auth.saml_pool import QUEUE, WORKERS, SamlPool
from web.auth.saml_worker import MEMORY_BYTES, Job

IDP, AUDIENCE, ACS = "https://idp.example/7", "https://us.example/metadata", "https://us.example/acs"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory, xmlsec1: str) -> Signer:
    return make_signer(tmp_path_factory.mktemp("idp") / "own", xmlsec1)


@pytest.fixture
async def pool(xmlsec1: str) -> AsyncIterator[SamlPool]:
    pool = SamlPool(xmlsec1)
    yield pool
    await pool.close()


def verification(signer: Signer, xmlsec1: str) -> Job:
    answer = Answer(signer=signer, idp=IDP, audience=AUDIENCE, acs_url=ACS, request_id="id-1")
    return Job(
        does="verify",
        provider=ServiceProvider(AUDIENCE, ACS, xmlsec1),
        idp=IdentityProvider(IDP, "https://idp.example/sso", (signer.certificate,), False),
        request_id="id-1",
        document=answer.document().encode(),
    )


def program(folder: Path, text: str) -> str:
    """An xmlsec1 that is none."""
    path = folder / "xmlsec1"
    path.write_text(f"#!/bin/sh\ncase \"$1\" in --version) echo 'xmlsec1 1.2.41 (openssl)'; exit;; esac\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_worker_verifies_one_document_after_another(pool: SamlPool, signer: Signer) -> None:
    for _ in range(3):
        outcome = await pool.do(verification(signer, pool.xmlsec1))
        assert outcome.said is not None and outcome.said.name_id == "ada-7"


async def test_a_worker_that_has_done_its_share_makes_room_for_another(
    signer: Signer, xmlsec1: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library remembers everybody whom it has seen."""
    monkeypatch.setattr(saml_pool, "MAX_JOBS", 2)
    pool, job, seen = SamlPool(xmlsec1, seconds=60.0), replace(verification(signer, xmlsec1), does="request"), []
    for _ in range(4):
        await pool.do(job)
        seen += [worker.process.pid for worker in pool._idle]
    assert len(seen) == len(set(seen)) == 2
    await pool.close()


async def test_a_worker_that_was_killed_is_replaced(pool: SamlPool, signer: Signer) -> None:
    await pool.do(verification(signer, pool.xmlsec1))
    (worker,) = pool._idle
    os.kill(worker.process.pid, signal.SIGKILL)
    await worker.process.wait()
    with pytest.raises(Unavailable):
        await pool.do(verification(signer, pool.xmlsec1))
    assert (await pool.do(verification(signer, pool.xmlsec1))).said is not None
    assert not Path(worker.folder).exists()


async def test_a_worker_that_is_slow_to_start_is_not_begun_anew_for_each_job(signer: Signer, xmlsec1: str) -> None:
    pool = SamlPool(xmlsec1, seconds=0.05)
    job = replace(verification(signer, xmlsec1), does="request")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await pool.do(job)
    assert len(pool._starting) == 1
    pool._seconds = 60.0
    assert (await pool.do(job)).url.startswith("https://idp.example/sso?SAMLRequest=")
    await pool.close()


async def test_what_hangs_is_killed_with_all_that_it_started(signer: Signer, tmp_path: Path) -> None:
    hanging = program(tmp_path, f"echo $$ >> {tmp_path}/pids\nexec sleep 600")
    pool, job = SamlPool(hanging, seconds=60.0), verification(signer, hanging)
    # Its process is there by then.
    await pool.do(replace(job, does="request"))
    pool._seconds = 5.0
    with pytest.raises(Unavailable) as refusal:
        await pool.do(job)
    assert refusal.value.code == "saml_busy" and refusal.value.retry_after > 0
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert pids and pool._idle == []
    for pid in pids:
        # Whoever reaps it, it runs no more.
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    await pool.close()


async def test_what_grows_beyond_its_bound_fails_and_lets_nobody_in(signer: Signer, tmp_path: Path) -> None:
    growing = program(tmp_path, f"exec {sys.executable} -c 'bytearray({MEMORY_BYTES})' && exit 0")
    pool = SamlPool(growing)
    with pytest.raises(InvalidRequest) as refusal:
        await pool.do(verification(signer, growing))
    assert refusal.value.code == "saml_invalid_signature"
    await pool.close()


async def test_no_secret_of_ours_is_within_reach(
    signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDMETRICS_MASTER_KEY", "a secret")
    telling = program(tmp_path, f"env > {tmp_path}/env; exit 1")
    pool = SamlPool(telling)
    with pytest.raises(InvalidRequest):
        await pool.do(verification(signer, telling))
    told = (tmp_path / "env").read_text()
    assert "PATH=" in told and "CLOUDMETRICS" not in told
    await pool.close()


async def test_more_than_wait_are_refused_at_once(signer: Signer, tmp_path: Path) -> None:
    slow = program(tmp_path, "sleep 2; exit 1")
    pool, job = SamlPool(slow, seconds=3.0), verification(signer, slow)
    answers = await asyncio.gather(*(pool.do(job) for _ in range(60)), return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) >= 60 - WORKERS - QUEUE
    assert not any(answer is None for answer in answers)
    await pool.close()


async def test_an_asker_that_goes_away_leaves_no_worker_in_the_middle_of_something(
    signer: Signer, tmp_path: Path, xmlsec1: str
) -> None:
    pool = SamlPool(xmlsec1)
    asking = asyncio.ensure_future(pool.do(verification(signer, xmlsec1)))
    await asyncio.sleep(0.5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert pool._idle == []
    assert (await pool.do(verification(signer, xmlsec1))).said is not None
    await pool.close()


async def test_without_xmlsec1_it_says_what_to_do(signer: Signer) -> None:
    for path in ("", "/nowhere/xmlsec1"):
        with pytest.raises(Unavailable) as refusal:
            await SamlPool(path).do(verification(signer, path or "x"))
        assert refusal.value.code == "saml_unavailable" and "CLOUDMETRICS_XMLSEC1" in refusal.value.message
