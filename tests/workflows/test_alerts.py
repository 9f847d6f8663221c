"""An order in doubt is told to the webhook by whatever worker has the delivery."""

import pytest
from pydantic import SecretStr

from activities.alerts import cursor_name
from tests.activities.webhook import receiving
from tests.workflows.desk import Desk, until, working
from trading.oms.enums import OrderStatus
from workers.settings import Settings

pytestmark = pytest.mark.temporal


async def test_an_order_in_doubt_is_told_to_the_webhook(idle_desk: Desk) -> None:
    desk = idle_desk
    async with receiving() as receiver:
        desk.settings = desk.settings.model_copy(update={"alert_url": SecretStr(receiver.url)})
        async with working(desk):
            await until(lambda: desk.store.cursor(cursor_name(desk.settings.deployment)))
            desk.exchange.fault("code_-1007", order="alive", count=1, endpoint="POST order")
            result = await desk.submit(strategy_id="s1")
            [alert] = await receiver.until(1)
            assert (alert["name"], alert["order_id"]) == ("order_in_doubt", result.order_id)
            assert (alert["order"]["strategy_id"], alert["order"]["price"]) == ("s1", "30000")
            await desk.until_status(result.order_id, OrderStatus.ACCEPTED)


def test_a_webhook_that_cannot_be_is_refused_without_telling_it() -> None:
    with pytest.raises(Exception, match="begins with https://") as caught:
        Settings.from_environment({"OMS_ALERT_URL": "hooks.example/secret-token"})
    assert "secret-token" not in str(caught.value)
    with pytest.raises(Exception, match="no event is named 'order_lost'"):
        Settings.from_environment({"OMS_ALERT_EVENTS": "order_lost"})
