"""The scenes of the demo: what is done on the two exchanges, and what must come of it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from activities.store import Store
from trading.oms.commands import validated
from trading.oms.enums import OrderSide, OrderStatus, OrderType, ReasonCode, TimeInForce
from trading.oms.identity import exchange_client_id
from trading.oms.models import Order, OrderResult, OrderState
from trading.oms.order_manager import OrderManager
from trading.oms.reading import number
from workers.demo_narrator import Narrator
from workers.stack import LocalStack

SYMBOL, MARKET = "BTC/USDT", "BTCUSDT"
_TICK, _LOT = Decimal("0.01"), Decimal("0.000001")
_ANSWER_DELAY_MS = 20_000
_PATIENCE_S = 60.0
_REST_PATIENCE_S = 12.0
_MIDDLE_OF_RECORDING = Decimal(39500)
_REST_QUANTITY = Decimal("0.25")

EXPECTED: dict[str, OrderStatus] = {
    "at-once": OrderStatus.FILLED,
    "resting": OrderStatus.FILLED,
    "cancelled": OrderStatus.CANCELLED,
    "modified": OrderStatus.FILLED,
    "ioc": OrderStatus.EXPIRED,
    "would-take": OrderStatus.REJECTED,
    "too-rich": OrderStatus.REJECTED,
    "off-tick": OrderStatus.REJECTED,
    "survivor": OrderStatus.FILLED,
}
"""How each order has to end."""


class Story:
    """Trades on the stack through the remote door, as a strategy in a process of its own would."""

    def __init__(
        self, stack: LocalStack, oms: OrderManager, store: Store, narrator: Narrator, prefix: str
    ) -> None:
        """`prefix` begins every order id of this run."""
        self._stack = stack
        self._oms = oms
        self._store = store
        self._say = narrator
        self._prefix = prefix
        self._first: Order | None = None

    async def tell(self) -> None:
        """Play all scenes, one after the other."""
        scenes: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("A limit order rests at beta; the recorded market will fill it in parts", self._rest),
            ("A limit order above the best ask fills at once", self._fill_at_once),
            ("An order is cancelled", self._cancel),
            ("An order is reduced in place, then moved to a price at which it fills", self._modify),
            ("An immediate-or-cancel order takes what is there; the rest expires", self._ioc),
            ("The exchange rejects an order: it is post-only and would take", self._reject),
            ("Our risk checks deny two orders: too dear, and off the tick", self._deny),
            ("The same order again is the same order; other content is refused", self._repeat),
            ("A worker is killed between sending and acknowledgement", self._kill),
            ("The resting order of the first scene is filled", self._finish_rest),
        ]
        for title, play in scenes:
            self._say.scene(title)
            await play()

    async def ended(self) -> bool:
        """Whether every order has ended as it had to; says which has not."""
        good = True
        for name, status in EXPECTED.items():
            state = await self._store.order(self._prefix + name)
            if state is None or state.status is not status:
                found = state.status if state else "unknown"
                self._say.remark(f"{name} is {found}, it had to be {status}", "bold red")
                good = False
        return good

    # The scenes.

    async def _rest(self) -> None:
        await self._rest_as("resting")

    async def _rest_as(self, name: str) -> None:
        bid, ask = await self._stack.exchanges["beta"].best(MARKET)
        # The recording rises from 39430 to 39550 and begins again: it will come by.
        rises = bid < _MIDDLE_OF_RECORDING
        side, price = (OrderSide.SELL, ask + 1) if rises else (OrderSide.BUY, bid - 1)
        await self._submit(name, exchange="beta", side=side, quantity=_REST_QUANTITY, price=price)

    async def _fill_at_once(self) -> None:
        _, ask = await self._stack.exchanges["alpha"].best(MARKET)
        self._first = self._order("at-once", quantity=Decimal("0.6"), price=ask + 20)
        await self._send(self._first)

    async def _cancel(self) -> None:
        await self._submit("cancelled", quantity=Decimal("0.05"), price=Decimal(38000))
        result = await self._oms.cancel_order(
            self._prefix + "cancelled", exchange="alpha", symbol=SYMBOL, reason="seen enough"
        )
        await self._say.caught_up(await self._store.order(result.order_id))

    async def _modify(self) -> None:
        order_id = self._prefix + "modified"
        await self._submit(
            "modified", exchange="beta", quantity=Decimal("0.09"), price=Decimal(38500)
        )
        self._say.remark("the quantity becomes 0.06")
        await self._told(await self._oms.modify_order(order_id, new_quantity=Decimal("0.06")))
        _, ask = await self._stack.exchanges["beta"].best(MARKET)
        self._say.remark(f"the price becomes {number(ask + 15)}")
        await self._told(await self._oms.modify_order(order_id, new_price=ask + 15))

    async def _ioc(self) -> None:
        bid, _ = await self._stack.exchanges["beta"].best(MARKET)
        await self._submit(
            "ioc",
            exchange="beta",
            side=OrderSide.SELL,
            quantity=Decimal(6),
            price=bid - 2,
            time_in_force=TimeInForce.IOC,
        )

    async def _reject(self) -> None:
        _, ask = await self._stack.exchanges["alpha"].best(MARKET)
        price = ask + 20
        await self._submit("would-take", quantity=Decimal("0.05"), price=price, post_only=True)

    async def _deny(self) -> None:
        await self._submit("too-rich", quantity=Decimal(100), price=Decimal(39000))
        price = Decimal(39000) + _TICK / 10
        await self._submit("off-tick", exchange="beta", quantity=Decimal("0.01"), price=price)

    async def _repeat(self) -> None:
        first = self._first
        assert first is not None  # noqa: S101 - an earlier scene has set it
        again = await self._oms.submit_order(first)
        self._say.remark(
            f"{self._say.short(again.order_id)} again: it is {again.status}; "
            f"alpha has {await self._placed(first)} order for it"
        )
        other = await self._oms.submit_order(first.model_copy(update={"quantity": Decimal(7)}))
        if again.status is not OrderStatus.FILLED or await self._placed(first) != 1:
            self._say.remark("the same order was sent again", "bold red")
        if other.reason_code is not ReasonCode.ORDER_EXISTS_WITH_DIFFERENT_CONTENT:
            self._say.remark("other content under the same id was not refused", "bold red")
        self._say.remark(f"the same id for 7 BTC: {other.error}")

    async def _kill(self) -> None:
        alpha = self._stack.exchanges["alpha"]
        _, ask = await alpha.best(MARKET)
        order = self._order("survivor", quantity=Decimal("0.07"), price=ask + 20)
        fault = {"ms": _ANSWER_DELAY_MS, "count": 1, "endpoint": "POST /api/v3/order"}
        await alpha.control("faults", fault="reply_delayed_ms", **fault)
        self._say.remark(f"alpha will keep its next answer back for {_ANSWER_DELAY_MS // 1000} s")
        sending = asyncio.create_task(self._send(order))
        try:
            await self._until_placed(order)
            await self._say.caught_up(await self._store.order(order.client_order_id))
            killed = self._stack.worker
            self._stack.kill_worker()
            self._say.remark(
                f"SIGKILL to worker {killed.pid if killed else '?'}: "
                "alpha has the order, its answer reaches nobody",
                "bold red",
            )
            worker = self._stack.begin_worker()
            self._say.remark(f"another worker starts (process {worker.pid})")
            await self._stack.until_working(worker)
            await sending
            state = await self._until(order.client_order_id, lambda state: state.is_terminal)
            await self._say.caught_up(state)
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            await alpha.control("faults", clear="all")
        self._say.remark(f"alpha has {await self._placed(order)} order for it", "bold green")

    async def _finish_rest(self) -> None:
        """Wait for the last part; a trade that took the order whole calls for another order."""
        name = "resting"
        for number_of_order in range(2, 6):
            parts = await self._until_filled(self._prefix + name)
            self._say.remark(f"{name} was filled in {parts} part{'s' * (parts != 1)}")
            if parts > 1:
                return
            name = f"resting-{number_of_order}"
            await self._rest_as(name)

    async def _until_filled(self, order_id: str) -> int:
        """Wait until a resting order is filled; how many parts it took."""
        state = await self._until(order_id, lambda state: state.is_terminal, _REST_PATIENCE_S)
        if state is not None and state.is_open:
            self._say.remark("the market has moved away; a trader comes to its price")
            side = "BUY" if state.side is OrderSide.SELL else "SELL"
            half = (state.remaining_quantity / 2).quantize(_LOT)
            for quantity in (half, state.remaining_quantity - half):
                trade = {"symbol": MARKET, "side": side, "price": str(state.price)}
                beta = self._stack.exchanges["beta"]
                await beta.control("trade", **trade, quantity=str(quantity))
            state = await self._until(order_id, lambda state: state.is_terminal)
        await self._say.caught_up(state)
        return len(await self._store.fills(order_id))

    # What scenes are made of.

    def _order(self, name: str, **fields: Any) -> Order:
        values: dict[str, Any] = {
            "symbol": SYMBOL,
            "side": OrderSide.BUY,
            "order_type": OrderType.LIMIT,
            "exchange": "alpha",
            "strategy_id": "demo",
            "client_order_id": self._prefix + name,
        }
        return validated({**values, **fields}, Order)

    async def _submit(self, name: str, **fields: Any) -> None:
        await self._send(self._order(name, **fields))

    async def _send(self, order: Order) -> None:
        self._say.wish(OrderState.of(order))
        await self._told(await self._oms.submit_order(order))

    async def _told(self, result: OrderResult) -> None:
        await self._say.caught_up(result.state)

    async def _placed(self, order: Order) -> int:
        """How many orders the exchange has that belong to this one."""
        deployment = self._stack.environment["OMS_DEPLOYMENT"]
        ids = {
            exchange_client_id(deployment, order.client_order_id, leg, generation)
            for leg in (1, 2)
            for generation in (1, 2, 3)
        }
        ledger = await self._stack.exchanges[str(order.exchange)].ledger()
        return sum(row["clientOrderId"] in ids for row in ledger["orders"])

    async def _until_placed(self, order: Order) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not await self._placed(order):
            if time.monotonic() > deadline:
                msg = f"alpha has not got order {order.client_order_id} within {_PATIENCE_S:.0f} s"
                raise TimeoutError(msg)
            await asyncio.sleep(0.05)

    async def _until(
        self,
        order_id: str,
        is_so: Callable[[OrderState], bool],
        patience_s: float = _PATIENCE_S,
    ) -> OrderState | None:
        """The state once it is so, or as it is after `patience_s` seconds."""
        deadline = time.monotonic() + patience_s
        while True:
            state = await self._store.order(order_id)
            if (state is not None and is_so(state)) or time.monotonic() > deadline:
                return state
            await asyncio.sleep(0.05)
