"""Apache Kafka 4.1 itself on this machine, for tests and for trying the larger sizes: one broker, KRaft, Java 17.

Its jars come by Maven once (43 MB) and stay in the checkout.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cloudmetrics.embedded.debian import FETCH_SECONDS, SERVICES
from core.errors import LogUnavailable, Misconfigured
from core.kafka.log import KafkaLog
from core.orphans import dies_with_parent

PARTS = Path(__file__).resolve().parent / "kafka"
JARS = SERVICES / "kafka-4.1.1"
READY_SECONDS = 60.0
MEMORY = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True, slots=True)
class KafkaFolder:
    """Where one broker keeps its data, and the ports it listens on. `advertised_port`: where clients are told to go,
    when something stands in front of it."""

    path: Path
    broker_port: int
    controller_port: int
    advertised_port: int | None = None

    @classmethod
    def at(cls, path: Path, port: int | None = None) -> KafkaFolder:
        """A folder with free ports, or with this one for clients."""
        return cls(path.resolve(), port or free_port(), free_port())

    @property
    def brokers(self) -> str:
        return f"127.0.0.1:{self.broker_port}"


def fetch_jars() -> Path:
    """The folder of jars; fetched when they are not there.

    Raises:
        Misconfigured: Maven or Java is missing, or Maven failed; with its words.
    """
    if JARS.exists():
        return JARS
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Misconfigured(f"Kafka needs {program}, which is not on this machine (Java 17 or later, and Maven)")
    SERVICES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SERVICES) as fresh:
        command = [
            "mvn", "-q", "-B", "-f", str(PARTS / "pom.xml"), f"-Dmaven.repo.local={SERVICES / 'maven'}",
            "dependency:copy-dependencies", f"-DoutputDirectory={fresh}/jars", "-DincludeScope=runtime",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
        if done.returncode != 0:
            raise Misconfigured(f"Maven could not fetch Kafka: {(done.stdout + done.stderr).strip()[-800:]}")
        try:
            os.rename(f"{fresh}/jars", JARS)
        except OSError:
            # Somebody else fetched them meanwhile.
            if not JARS.exists():
                raise
    return JARS


def start_kafka(folder: KafkaFolder) -> subprocess.Popen[bytes]:
    """Starts the broker on its folder; formats it the first time."""
    jars = fetch_jars()
    data, properties = folder.path / "data", folder.path / "server.properties"
    folder.path.mkdir(parents=True, exist_ok=True)
    text = (PARTS / "server.properties").read_text(encoding="utf-8")
    properties.write_text(
        text.format(
            broker=folder.broker_port,
            advertised=folder.advertised_port or folder.broker_port,
            controller=folder.controller_port,
            data=data,
        ),
        encoding="utf-8",
    )
    java = ["java", *MEMORY, "-cp", f"{jars}/*", f"-Dlog4j2.configurationFile={PARTS / 'log4j2.properties'}"]
    if not (data / "meta.properties").exists():
        cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Misconfigured(f"Kafka's folder cannot be formatted: {(done.stdout + done.stderr).strip()[-800:]}")
    with open(folder.path / "kafka.log", "ab") as log:
        return subprocess.Popen(
            [*java, "kafka.Kafka", str(properties)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGKILL),
        )


async def until_answering(brokers: str) -> None:
    """Waits until a broker serves.

    Raises:
        Misconfigured: not within a minute.
    """
    log = KafkaLog(brokers, partitions=1, replication=1, retention_hours=1)
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                try:
                    await log.lag("services", re.compile("-"))
                    return
                except LogUnavailable:
                    await asyncio.sleep(0.2)
    except TimeoutError:
        message = f"Kafka did not answer at {brokers} within {READY_SECONDS:.0f} s; see its kafka.log"
        raise Misconfigured(message) from None
    finally:
        await log.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
