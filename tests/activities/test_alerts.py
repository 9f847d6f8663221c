"""Alerts reach a real HTTP server: at least once, in order, signed, whatever goes wrong before."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from pydantic import SecretStr

from activities import alerts
from activities.alert_settings import AlertSettings, names_of
from activities.alerts import AlertDelivery, cursor_name, signature
from activities.store import Store
from tests.activities.store_builders import claimed, new_order, opened
from tests.activities.webhook import HANG, TOKEN, Receiver, receiving
from tests.oms.builders import event
from trading.oms.lifecycle import EventKind

SECRET = "the-shared-secret"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_LOOK_S", 0.01)
    monkeypatch.setattr(alerts, "_FIRST_PAUSE_S", 0.01)


@contextlib.asynccontextmanager
async def delivering(store: Store, url: str) -> AsyncIterator[list[float]]:
    settings = AlertSettings(
        SecretStr(url), SecretStr(SECRET), names_of("order_in_doubt,order_alarm"), "test"
    )
    waited: list[float] = []
    delivery = AlertDelivery(
        store, settings, timeout=aiohttp.ClientTimeout(total=0.3), tell=waited.append
    )
    task = asyncio.create_task(delivery.run())
    try:
        async with asyncio.timeout(5):
            while await store.cursor(cursor_name("test")) is None:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        yield waited
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def doubtful(store: Store) -> str:
    """An order in doubt, with other events before."""
    order = await claimed(store, new_order(metadata={"note": "for nobody else"}))
    await store.record(order.client_order_id, [event(EventKind.IN_DOUBT)])
    return order.client_order_id


async def test_it_is_repeated_until_the_receiver_has_it(
    store_url: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [503, HANG, 307, 404]
    async with opened(store_url) as store, delivering(store, receiver.url) as waited:
        ids = [await doubtful(store), await doubtful(store)]
        await receiver.until(2)
        assert max(waited) > 0.3
        assert [alert["order_id"] for alert in receiver.taken] == ids
    assert len(receiver.asked) == 6
    keys = [headers["Idempotency-Key"] for headers, _ in receiver.asked]
    assert len(set(keys)) == 2
    assert keys[:5] == [receiver.taken[0]["id"]] * 5
    assert TOKEN not in caplog.text
    assert "HTTP 503" in caplog.text


async def test_it_is_signed_and_tells_no_secret(store_url: str, receiver: Receiver) -> None:
    async with opened(store_url) as store, delivering(store, receiver.url):
        await doubtful(store)
        [alert] = await receiver.until(1)
    headers, body = receiver.asked[0]
    stamp = headers["X-OMS-Timestamp"]
    assert headers["X-OMS-Signature"] == signature(SECRET, stamp, body)
    assert (alert["name"], alert["deployment"]) == ("order_in_doubt", "test")
    assert alert["order"]["in_doubt_since"] is not None
    assert "for nobody else" not in body.decode()
    assert SECRET not in body.decode()


async def test_it_goes_on_where_it_was_after_a_restart(store_url: str, receiver: Receiver) -> None:
    async with opened(store_url) as store:
        before = await doubtful(store)  # Older than the webhook: nobody is told now.
        async with delivering(store, receiver.url):
            first = await doubtful(store)
            await receiver.until(1)
        meanwhile = await doubtful(store)
        async with delivering(store, receiver.url):
            last = await doubtful(store)
            await receiver.until(3)
    # What was on its way when the first delivery ended may have come twice.
    assert list(dict.fromkeys(alert["order_id"] for alert in receiver.taken)) == [
        first, meanwhile, last,
    ]  # fmt: skip
    assert before != first


async def test_an_alert_that_is_refused_for_good_does_not_keep_back_the_next(
    store_url: str, receiver: Receiver
) -> None:
    receiver.answers = [422]
    async with opened(store_url) as store, delivering(store, receiver.url):
        ids = [await doubtful(store), await doubtful(store)]
        await receiver.until(1)
    assert receiver.taken[0]["order_id"] == ids[1]


async def test_an_event_that_does_not_exist_cannot_be_wished_for() -> None:
    assert names_of("order_in_doubt, order_f*") >= {"order_in_doubt", "order_fill", "order_filled"}
    with pytest.raises(ValueError, match="no event is named 'order_lost'"):
        names_of("order_in_doubt,order_lost")
