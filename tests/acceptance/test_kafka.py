"""The main job with Apache Kafka itself as the log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from cloudmetrics.embedded.kafka_server import KafkaFolder, start_kafka, until_answering
from tests.acceptance.test_main_job import LOG, check_numbers, start_import
from tests.conftest import Instance, start_instance

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def on_kafka(tmp_path_factory: pytest.TempPathFactory, kafka_brokers: str) -> Iterator[Instance]:
    data = tmp_path_factory.mktemp("on kafka") / "data"
    running = start_instance(data, "--empty", settings={"KAFKA_BROKERS": kafka_brokers})
    try:
        yield running
    finally:
        running.cli("down")


def test_an_imported_log_comes_back_exactly_and_a_second_import_adds_nothing(on_kafka: Instance) -> None:
    assert "10,000 accepted" in on_kafka.cli("import", "access-log", str(LOG)).stdout
    check_numbers(on_kafka)
    assert "0 accepted, 10,000 already there" in on_kafka.cli("import", "access-log", str(LOG)).stdout
    check_numbers(on_kafka)


def test_doctor_follows_a_probe_through_every_hop(on_kafka: Instance) -> None:
    found = json.loads(on_kafka.cli("doctor", "--json").stdout)
    assert found["ok"], found


def test_a_tenant_made_later_is_counted(on_kafka: Instance) -> None:
    on_kafka.cli("tenant", "create", "later")
    done = on_kafka.cli("import", "access-log", str(LOG), "--tenant", "later")
    assert "10,000 accepted" in done.stdout


@dataclass(slots=True)
class OwnBroker:
    """A broker that a test may kill."""

    folder: KafkaFolder
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        self.process = start_kafka(self.folder)


@pytest.fixture
def broker(tmp_path: Path, kafka_brokers: str) -> Iterator[OwnBroker]:
    folder = KafkaFolder.at(tmp_path / "kafka")
    broker = OwnBroker(folder, start_kafka(folder))
    try:
        asyncio.run(until_answering(folder.brokers))
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def instance(tmp_path: Path, broker: OwnBroker) -> Iterator[Instance]:
    running = start_instance(tmp_path / "data", "--empty", settings={"KAFKA_BROKERS": broker.folder.brokers})
    try:
        yield running
    finally:
        running.cli("down")


def test_killed_workers_and_a_killed_broker_lose_and_double_nothing(instance: Instance, broker: OwnBroker) -> None:
    running = start_import(instance)
    for _ in range(2):
        time.sleep(1.0)
        if pid := instance.pid("pipeline"):
            os.kill(pid, signal.SIGKILL)
    broker.kill()
    refused = send(instance)
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "log_unavailable"
    check_that_commands_say_it(instance)
    broker.start_again()
    out, err = running.communicate(timeout=150)
    assert running.returncode == 0, err
    assert b"0 rejected" in out
    check_numbers(instance)


def check_that_commands_say_it(instance: Instance) -> None:
    """In words of their own, and nothing of what the client tells of each attempt."""
    for command, words in {
        ("status",): "the event log does not answer",
        ("doctor",): "event log does not answer",
        ("deadletters", "list"): "no dead letters",
    }.items():
        done = instance.cli(*command, check=False)
        assert words in done.stdout and done.stderr == "", (command, done.stdout, done.stderr)


def send(instance: Instance) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {instance.publishable_key}"}
    return httpx2.post(f"{instance.url}/v1/events", json={"events": [{"type": "a"}]}, headers=headers, timeout=10)
