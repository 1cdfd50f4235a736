"""The proxy does to the network what it is told, and mends it again."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.faults.kafka_frames import failing_produce, no_produce_to
from tests.faults.proxy import FAIR, Mode, Proxies, Proxy, Weather


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it hears."""

    def handle(self) -> None:
        with_peer: socket.socket = self.request
        try:
            while data := with_peer.recv(4096):
                with_peer.sendall(data)
        except ConnectionError:
            return


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxies = Proxies()
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield proxies.add("echo", server.server_address[1])
        finally:
            proxies.close()
            server.shutdown()


def call(proxy: Proxy, data: bytes = b"hello", peer: socket.socket | None = None) -> bytes:
    """What comes back; b'' when the connection is closed."""
    if peer is None:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=1.0) as fresh:
            return call(proxy, data, fresh)
    peer.sendall(data)
    return peer.recv(4096)


def test_it_carries_both_ways_and_again_after_every_weather(proxy: Proxy) -> None:
    assert call(proxy) == b"hello"
    for mode in (Mode.REFUSE, Mode.RESET, Mode.BLACK_HOLE, Mode.HALF_OPEN):
        proxy.weather(Weather(mode))
        with pytest.raises(OSError):
            call(proxy)
        proxy.weather(FAIR)
        assert call(proxy) == b"hello"


def test_what_a_black_hole_held_back_arrives_when_it_is_over(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=1.0) as peer:
        assert call(proxy, b"one", peer) == b"one"
        proxy.weather(Weather(Mode.BLACK_HOLE))
        with pytest.raises(TimeoutError):
            call(proxy, b"two", peer)
        proxy.weather(FAIR)
        assert peer.recv(4096) == b"two"


def test_a_half_open_connection_stays_silent_for_good(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=1.0) as peer:
        assert call(proxy, b"one", peer) == b"one"
        proxy.weather(Weather(Mode.HALF_OPEN))
        proxy.weather(FAIR)
        with pytest.raises(TimeoutError):
            call(proxy, b"two", peer)


def test_it_cuts_after_so_many_bytes_and_after_a_word(proxy: Proxy) -> None:
    proxy.weather(Weather(cut_after=10))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=1.0) as peer:
        assert call(proxy, b"12345", peer) == b"12345"
        with pytest.raises(ConnectionError):
            while call(proxy, b"67890x", peer):
                pass
    proxy.weather(Weather(cut_reply=b"COMMIT"))
    assert call(proxy, b"BEGIN") == b"BEGIN"
    with pytest.raises(ConnectionError):
        call(proxy, b"COMMIT")
    assert proxy.cuts == 2


def produce(correlation: int, topic: bytes) -> bytes:
    head = (0).to_bytes(2, "big") + (7).to_bytes(2, "big") + correlation.to_bytes(4, "big") + topic
    return len(head).to_bytes(4, "big") + head


def test_a_reply_to_produce_is_made_to_fail_and_its_topic_cut_off() -> None:
    up, down = failing_produce(1)()
    assert up(produce(5, b"t")) == produce(5, b"t")
    body = b"".join(n.to_bytes(size, "big") for n, size in ((5, 4), (1, 4), (1, 2)))
    body += b"t" + (1).to_bytes(4, "big") + (0).to_bytes(4, "big")
    reply = (len(body) + 10).to_bytes(4, "big") + body + bytes(10)
    assert down(reply[:9]) == b""
    assert down(reply[9:]) == reply[:-10] + (45).to_bytes(2, "big") + bytes(8)
    up(produce(5, b"t"))
    assert down(reply) == reply
    forbidden, _ = no_produce_to(b"events.dead")()
    assert forbidden(produce(1, b"events.raw")) == produce(1, b"events.raw")
    assert forbidden(produce(2, b"events.dead")) is None
