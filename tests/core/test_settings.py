"""Settings: what is wrong stops the start and names the variable."""

from __future__ import annotations

import pytest

from core.errors import Misconfigured
from core.settings import Settings


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"CLOUDMETRICS_PORT": "x"}, "CLOUDMETRICS_PORT"),
        ({"CLOUDMETRICS_PROT": "1"}, "CLOUDMETRICS_PROT"),
        ({"CLOUDMETRICS_LOG_FSYNC": "never"}, "CLOUDMETRICS_LOG_FSYNC"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        Settings.from_env(environ)


def test_a_child_process_gets_the_same_settings() -> None:
    settings = Settings.from_env({"CLOUDMETRICS_PORT": "8123", "CLOUDMETRICS_HEARTBEAT_SECONDS": "0.5"})
    assert Settings.from_env(settings.to_env()) == settings
    with pytest.raises(Misconfigured, match="MASTER_KEY"):
        settings.master_key_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("LOG_MAX_BYTES", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("REQUESTS_PER_MINUTE", "-5"),
        ("HEARTBEAT_SECONDS", "0"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,rubbish"),
        ("TENANT_TOPICS", "some"),
    ],
)
def test_a_value_that_nothing_could_run_with_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"CLOUDMETRICS_{name}"):
        Settings.from_env({f"CLOUDMETRICS_{name}": value})


def test_trusted_proxies_are_addresses_and_networks() -> None:
    settings = Settings.from_env({"CLOUDMETRICS_TRUSTED_PROXIES": "10.0.0.0/8, 2001:db8::1"})
    assert settings.trusted_proxies == "10.0.0.0/8, 2001:db8::1"
