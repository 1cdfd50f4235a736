"""Fixtures of the pipeline's tests."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from core.settings import Settings
from tests.conftest import Servers
from tests.pipeline.stored import Stored


@pytest.fixture
def stored(servers_of_store: Servers, settings: Settings) -> Stored:
    database = urlsplit(settings.owner_url).path.removeprefix("/")
    return Stored(servers_of_store.folder.database_url("superuser", database))
