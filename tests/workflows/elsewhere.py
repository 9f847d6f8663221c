"""What somebody else does on the account, by hand or with another program."""

from decimal import Decimal

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
