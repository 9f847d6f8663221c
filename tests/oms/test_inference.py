"""Inferred fills: whatever the order of arrival, once the real fills are there only they count."""

from decimal import Decimal
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oms.builders import after, event, fill, state
from trading.oms.alarms import Alarm, alarm_of
from trading.oms.enums import OrderSide, OrderStatus
from trading.oms.inference import executed, inferred_fill, to_book
from trading.oms.lifecycle import EventKind, LifecycleEvent, apply, product
from trading.oms.models import Fill, OrderState
from trading.oms.positions import Position, effects, with_fill
from trading.oms.reports import events_of
from trading.oms.venue import ExecutionReport, ReportSource, VenueStatus

ZERO = Decimal(0)
EMPTY = Position(exchange="sandbox", account="main", symbol="BTC/USDT")


class Trade(NamedTuple):
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str


class Book:
    """An order, its fills and its account, as the store keeps them in one transaction."""

    def __init__(self, quantity: Decimal, side: OrderSide, held: Position = EMPTY) -> None:
        self.state: OrderState = state(quantity=quantity, side=side, exchange_order_id="x1")
        self.fills: list[Fill] = []
        self.alarms: list[str] = []
        self.position = held
        self.balances: dict[str, Decimal] = {}

    def tell(self, given: LifecycleEvent) -> None:
        if given.fill is not None and given.fill.fill_id in {f.fill_id for f in self.fills}:
            return
        for one in to_book(given, self.fills):
            assert one.fill is not None
            self.fills.append(one.fill)
            self.state, _, alarm = apply(self.state, one)
            self.alarms += [alarm] if alarm else []
            self.position = with_fill(self.position, one.fill)
            for asset, amount in effects(one.fill).items():
                self.balances[asset] = self.balances.get(asset, ZERO) + amount

    @property
    def gained(self) -> Decimal:
        """What was realised less what is held at cost: the worth of all that was moved."""
        return self.position.realised - self.position.cost

    def totals(self) -> dict[str, Any]:
        keep = self.state.model_dump(exclude={"last_updated_at"})
        assets = {asset: amount for asset, amount in self.balances.items() if amount}
        return {
            **keep,
            "fees_by_currency": {k: v for k, v in self.state.fees_by_currency.items() if v},
            "balances": assets,
            "position": self.position.quantity,
        }


def report_of(
    trades: list[Trade], side: OrderSide, at: float = 100, where: str = "x1"
) -> ExecutionReport:
    """The exchange's totals of one of its orders once it has executed these."""
    worth = sum((product(t.quantity, t.price) for t in trades), ZERO)
    return ExecutionReport(
        exchange="sandbox",
        account="",
        symbol="BTC/USDT",
        exchange_order_id=where,
        status=VenueStatus.PARTIALLY_FILLED,
        side=side,
        cumulative_quantity=sum((t.quantity for t in trades), ZERO),
        cumulative_notional=worth,
        at=after(at),
        received_at=after(at),
        source=ReportSource.QUERY,
    )


def real(trade: Trade, number: int, side: OrderSide, where: str = "x1") -> LifecycleEvent:
    one = fill(
        f"f{number}",
        str(trade.quantity),
        str(trade.price),
        fee=trade.fee,
        fee_currency=trade.fee_currency,
        side=side,
        exchange_order_id=where,
        timestamp=after(number),
    )
    return event(EventKind.FILL, at=number, fill=one, exchange_order_id=where)


def inference(
    book: Book, trades: list[Trade], side: OrderSide, at: float = 100, where: str = "x1"
) -> list[LifecycleEvent]:
    report = report_of(trades, side, at, where)
    found = inferred_fill(report, book.fills)
    if found is None:
        return []
    told = report.model_copy(update={"fills": (found,)})
    return [one for one in events_of(told, 1, book.state) if one.fill is not None]


amounts = st.integers(min_value=1, max_value=10**7).map(lambda n: Decimal(n).scaleb(-6))
trades_made = st.lists(
    st.builds(Trade, amounts, amounts, amounts, st.sampled_from(["USDT", "BTC", "BNB"])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(trades=trades_made, whole=st.booleans(), side=st.sampled_from(OrderSide), data=st.data())
def test_once_all_real_fills_are_there_only_they_count(
    trades: list[Trade],
    whole: bool,
    side: OrderSide,
    data: st.DataObject,
) -> None:
    quantity = sum((t.quantity for t in trades), ZERO if whole else Decimal(1))
    alone, book = Book(quantity, side), Book(quantity, side)
    events = [real(trade, number, side) for number, trade in enumerate(trades)]
    for one in events:
        alone.tell(one)
    late: list[LifecycleEvent] = []
    for one in data.draw(st.permutations(events)):
        for _ in range(data.draw(st.integers(min_value=0, max_value=2))):
            seen = data.draw(st.integers(min_value=1, max_value=len(trades)))
            made = inference(book, trades[:seen], side)
            if data.draw(st.booleans()):
                late += made
                continue
            for inferred in made * 2:
                book.tell(inferred)
        book.tell(one)
        book.tell(one)
        for inferred in data.draw(st.permutations(late)):
            book.tell(inferred)

    assert book.totals() == alone.totals()
    # A fill that closes one side and opens the other is rounded in two parts, at 18 decimals.
    assert abs(book.gained - alone.gained) <= Decimal("1e-16")
    assert book.state.inferred_quantity == 0
    assert {alarm_of(text) for text in book.alarms} <= {Alarm.INFERRED_FILL}


@settings(max_examples=100, deadline=None)
@given(trades=trades_made, known=st.integers(min_value=0, max_value=5))
def test_an_inferred_fill_brings_the_order_to_the_totals_of_the_exchange(
    trades: list[Trade], known: int
) -> None:
    side = OrderSide.BUY
    report = report_of(trades, side)
    book = Book(report.cumulative_quantity or ZERO, side)
    for number, trade in enumerate(trades[:known]):
        book.tell(real(trade, number, side))
    made = inference(book, trades, side)
    for one in made:
        book.tell(one)

    quantity, notional = executed(book.fills, "x1")
    assert book.state.status is OrderStatus.FILLED
    assert quantity == report.cumulative_quantity
    # The price is rounded at 18 decimals, and its product once more.
    half_of_the_last = Decimal("5e-19")
    assert abs(notional - (report.cumulative_notional or ZERO)) <= half_of_the_last * (quantity + 1)
    assert inference(book, trades, side) == []
    assert len(book.alarms) == len(made) == (known < len(trades))


def test_each_exchange_order_has_its_own_totals_after_every_event() -> None:
    buy = OrderSide.BUY
    one = [Trade(Decimal(n), Decimal(10 + n), ZERO, "USDT") for n in (1, 2, 2)]
    other = [Trade(Decimal(4), Decimal(20), ZERO, "USDT")]
    book = Book(Decimal(10), buy)

    def told(*events: LifecycleEvent) -> list[int]:
        """What is filled then, how much of it is inferred, and what each exchange order has."""
        for each in events:
            book.tell(each)
        of_each = [executed(book.fills, where)[0] for where in ("x1", "x2")]
        found = [book.state.filled_quantity, book.state.inferred_quantity, *of_each]
        return [int(quantity) for quantity in found]

    assert told(*inference(book, one[:2], buy)) == [3, 3, 3, 0]
    assert told(*inference(book, other, buy, at=50, where="x2")) == [7, 7, 3, 4]
    assert told(*inference(book, one, buy)) == [9, 9, 5, 4]
    assert told(real(one[0], 0, buy)) == [9, 8, 5, 4]
    assert told(real(other[0], 1, buy, where="x2")) == [9, 4, 5, 4]
    assert told(real(one[1], 2, buy)) == [9, 2, 5, 4]
    assert told(real(one[2], 3, buy)) == [9, 0, 5, 4]


def test_what_was_inferred_beside_fills_that_are_not_booked_is_nothing() -> None:
    """It is the rest of a total, and without what it was added to no total at all."""
    trades = [Trade(Decimal(n), Decimal(10), ZERO, "USDT") for n in (3, 2)]
    elsewhere, book = (Book(Decimal(5), OrderSide.BUY) for _ in range(2))
    elsewhere.tell(real(trades[0], 0, OrderSide.BUY))
    (rest,) = inference(elsewhere, trades, OrderSide.BUY)
    book.tell(rest)
    assert book.fills == []


def test_nothing_is_inferred_from_totals_without_their_worth() -> None:
    report = report_of([Trade(Decimal(1), Decimal(2), ZERO, "USDT")], OrderSide.BUY)
    assert inferred_fill(report, []) is not None
    for missing in ("cumulative_quantity", "cumulative_notional", "side", "exchange_order_id"):
        assert inferred_fill(report.model_copy(update={missing: None}), []) is None
    again = inferred_fill(report, [])
    assert again is not None
    assert again == inferred_fill(report, [])


def test_a_sale_that_was_inferred_and_is_replaced_leaves_the_average_cost_alone() -> None:
    held = with_fill(EMPTY, fill("before", "5", "10", fee=ZERO))
    trade = Trade(Decimal(2), Decimal(12), ZERO, "USDT")
    alone, book = (Book(Decimal(2), OrderSide.SELL, held) for _ in range(2))
    one = real(trade, 1, OrderSide.SELL)
    alone.tell(one)
    for inferred in inference(book, [trade], OrderSide.SELL):
        book.tell(inferred)
    book.tell(one)
    assert (book.position.cost, book.position.realised) == (Decimal(30), Decimal(4))
    assert book.position.cost == alone.position.cost
