"""What somebody else does on the account, by hand or with another program."""

from decimal import Decimal

from activities.connectors.classify import Operation
from activities.connectors.kraken_connector import KrakenConnector
from activities.connectors.wire import Call
from tests.workflows.desk import Desk
from trading.oms.enums import OrderSide, OrderType
from trading.oms.venue import OrderRequest


async def place_elsewhere(desk: Desk, client_id: str) -> None:
    """An order on the account that this system's workflows have not sent."""
    assert desk.runtime is not None
    connector = desk.runtime.parts.connectors[desk.exchange.name, "main"]
    await connector.place(
        OrderRequest(
            exchange=desk.exchange.name,
            account="main",
            symbol="BTC/USDT",
            exchange_client_id=client_id,
            side=OrderSide.BUY,
            order_type=OrderType.LIMIT,
            quantity=Decimal("0.02"),
            price=Decimal(29000),
            timestamp_ms=int(connector.exchange_now().timestamp() * 1000),
            window_ms=600,
        )
    )


async def place_by_hand(desk: Desk) -> None:
    """An order on Kraken's page, which gives it no client id."""
    assert desk.runtime is not None
    connector = desk.runtime.parts.connectors[desk.exchange.name, "main"]
    assert isinstance(connector, KrakenConnector)
    terms = {"ordertype": "limit", "type": "buy", "volume": "0.02", "price": "29000"}
    wish = {**terms, "pair": connector._pair("BTC/USDT")}
    await connector._wire.call(Call(Operation.PLACE, symbol="BTC/USDT"), "POST", "AddOrder", wish)
