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
