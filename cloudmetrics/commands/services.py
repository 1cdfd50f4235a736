"""`services`: what the larger sizes have, for trying it on this machine: Kafka here; TimescaleDB, xmlsec1 for `up`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from cloudmetrics.data_folder import DEFAULT, DataFolder
from cloudmetrics.embedded.kafka_server import JARS, KafkaFolder, fetch_jars, start_kafka, until_answering
from cloudmetrics.embedded.timescaledb import FOLDER, fetch_timescaledb
from cloudmetrics.embedded.xmlsec import fetch_xmlsec1, known_xmlsec1
from core.errors import Misconfigured
from core.settings import PREFIX

SUMMARY = "start Apache Kafka, fetch TimescaleDB and xmlsec1, for trying the larger sizes here"
STOP_SECONDS = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")
    parser.add_argument("--kafka-port", type=int, default=9092, help="port for clients (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder = DataFolder.at(args.data)
    folder.create()
    if not JARS.exists():
        print("cloudmetrics: fetching Kafka's jars (43 MB, once) …", file=sys.stderr, flush=True)
    fetch_jars()
    timescaledb, xmlsec1 = _timescaledb(), _xmlsec1()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    kafka = KafkaFolder.at(folder.path / "kafka", args.kafka_port)
    process = start_kafka(kafka)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: process.terminate())
    try:
        asyncio.run(until_answering(kafka.brokers))
        print(_block(kafka, Path(args.data), timescaledb, xmlsec1), flush=True)
        process.wait()
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
    if process.returncode not in (0, 143, -signal.SIGTERM):
        raise Misconfigured(f"Kafka ended with {process.returncode}; see {kafka.path / 'kafka.log'}")
    return 0


def _timescaledb() -> str:
    """What people set to have it; or why they cannot."""
    if not FOLDER.exists():
        print("cloudmetrics: fetching TimescaleDB (6 MB and the package lists, once) …", file=sys.stderr, flush=True)
    try:
        return f"{PREFIX}TIMESCALEDB='{fetch_timescaledb()}'"
    except Misconfigured as error:
        return f"not here: {error.message}"


def _xmlsec1() -> str:
    """Where it is, or why it is not."""
    if not known_xmlsec1():
        print("cloudmetrics: fetching xmlsec1 (7 MB and the package lists, once) …", file=sys.stderr, flush=True)
    try:
        return f"{fetch_xmlsec1()}; `up` finds it"
    except Misconfigured as error:
        return f"not here: {error.message}"


def _block(kafka: KafkaFolder, data: Path, timescaledb: str, xmlsec1: str) -> str:
    return f"""
Kafka is ready.

  Brokers   {kafka.brokers}
  Data      {kafka.path}

Use it as the log, in another terminal:
  {PREFIX}KAFKA_BROKERS={kafka.brokers} {sys.executable} -m cloudmetrics up --data '{data}'

TimescaleDB, for the PostgreSQL that `up` starts (a new data folder uses it at once, another one after `store move`):
  {timescaledb}

xmlsec1, for sign-in by SAML:
  {xmlsec1}

Stop: Ctrl-C.
"""
