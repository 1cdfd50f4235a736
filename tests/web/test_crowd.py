"""How many sockets there may be, and that each gives its place back."""

from __future__ import annotations

from contextlib import ExitStack
from uuid import uuid4

import pytest

from core.errors import TooMany
from core.tenancy import TenantId
from web.crowd import MAX_OF_ADDRESS, MAX_OF_TENANT, MAX_SOCKETS, MAX_UNKNOWN, Crowd


@pytest.fixture
def crowd() -> Crowd:
    return Crowd(what="GraphQL sockets", remedy="close one")


def refusal_of(crowd: Crowd, place: str, *given: object) -> TooMany:
    with pytest.raises(TooMany) as found, getattr(crowd, place)(*given):
        pass
    assert found.value.code == "too_many_sockets" and found.value.retry_after > 0
    return found.value


def test_an_address_has_so_many_and_another_is_not_touched(crowd: Crowd) -> None:
    with ExitStack() as places:
        for _ in range(MAX_OF_ADDRESS):
            places.enter_context(crowd.arrived("203.0.113.1"))
        assert "100 GraphQL sockets from this address" in refusal_of(crowd, "arrived", "203.0.113.1").message
        places.enter_context(crowd.arrived("203.0.113.2"))
    places.enter_context(crowd.arrived("203.0.113.1"))


def test_a_tenant_has_so_many_and_another_is_not_touched(crowd: Crowd) -> None:
    tenant, other = TenantId(uuid4()), TenantId(uuid4())
    with ExitStack() as places:
        for _ in range(MAX_OF_TENANT):
            places.enter_context(crowd.known(tenant))
        assert "of this tenant" in refusal_of(crowd, "known", tenant).message
        places.enter_context(crowd.known(other))
    with crowd.known(tenant):
        pass


def test_those_who_have_not_said_who_they_are_leave_room_for_those_who_have(crowd: Crowd) -> None:
    with ExitStack() as places:
        for _ in range(MAX_UNKNOWN):
            places.enter_context(crowd.unknown())
        assert "who they are" in refusal_of(crowd, "unknown").message
        places.enter_context(crowd.known(TenantId(uuid4())))


def test_a_process_has_so_many_in_all(crowd: Crowd) -> None:
    with ExitStack() as places:
        for n in range(MAX_SOCKETS):
            places.enter_context(crowd.arrived(f"address {n}"))
        assert "in this process" in refusal_of(crowd, "arrived", "one more").message
    with crowd.arrived("one more"):
        pass
