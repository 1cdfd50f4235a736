"""The network between our processes and the servers, by the proxies; and clients that hang up."""

from __future__ import annotations

import time

from tests.faults.fault import KAFKA, DidNotStrike, Fault, Scene, Strike
from tests.faults.kafka_frames import failing_produce
from tests.faults.proxy import FAIR, Mode, Weather


def each_server(weather: Weather, seconds: float) -> Strike:
    """The same weather before each server in turn."""

    def strike(scene: Scene) -> None:
        for name in scene.site.servers:
            proxy = scene.site.proxies[name]
            proxy.weather(weather)
            time.sleep(seconds)
            proxy.weather(FAIR)
            time.sleep(0.5)

    return strike


def cut_at_commit(scene: Scene) -> None:
    """The server hears COMMIT, and its reply does not arrive."""
    proxy = scene.site.proxies["postgres"]
    before = proxy.cuts
    for _ in range(3):
        proxy.weather(Weather(cut_reply=b"COMMIT"))
        time.sleep(scene.dice.uniform(0.3, 0.8))
        proxy.weather(FAIR)
        time.sleep(0.8)
    if proxy.cuts == before:
        raise DidNotStrike("no COMMIT came by")


def failing_producer(scene: Scene) -> None:
    """The broker is made to say that the producer's sequence is broken (45), which is for good."""
    proxy = scene.site.proxies["kafka"]
    for _ in range(2):
        proxy.weather(Weather(edits=failing_produce(3)))
        time.sleep(2.5)
        proxy.weather(FAIR)


def hasty_clients(scene: Scene) -> None:
    """Calls to Valkey take 100 ms, and clients hang up in the middle of them."""
    scene.site.proxies["valkey"].weather(Weather(delay=0.05))
    for member in list(scene.clients.members):
        scene.clients.start(member, "--patience", "0.15", "--pause", "0.05")
    time.sleep(4.0)
    scene.site.proxies["valkey"].weather(FAIR)


FAULTS = (
    Fault("F11", "idempotent producer broken for good", failing_producer, logs=KAFKA),
    Fault("F20", "connection cut between COMMIT and its reply", cut_at_commit, is_short=("valkey",)),
    Fault("F26", "clients hang up in mid call", hasty_clients),
    Fault("F29", "black hole before each server 7 s", each_server(Weather(Mode.BLACK_HOLE), 7.0)),
    Fault("F29b", "half-open connections to each server", each_server(Weather(Mode.HALF_OPEN), 6.0)),
    Fault("F29c", "each server refuses", each_server(Weather(Mode.REFUSE), 3.0)),
    Fault("F29d", "connections cut after 20,000 bytes", each_server(Weather(cut_after=20_000), 4.0)),
    Fault("F30", "200 ms of delay and 1 % resets", each_server(Weather(delay=0.2, reset_share=0.01), 5.0)),
)
