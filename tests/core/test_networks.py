"""Who is counted as one sender."""

from __future__ import annotations

import pytest

from core.networks import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:0207", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff:192.0.2.7", "2001:db8:1:2::"),
        ("", "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_an_ipv4_address_is_one_sender_however_it_is_written(address: str, network: str) -> None:
    assert network_of(address) == network
