"""The engine without a wire: priority, exactness, conservation."""

import contextlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.sandbox.clock import Clock
from workers.sandbox.config import AccountSpec, SandboxConfig
from workers.sandbox.engine import Engine
from workers.sandbox.errors import ApiError
from workers.sandbox.model import Account, Execution, NewOrder, Order, Trade

D = Decimal
FUNDS = {"BTC": D(5), "USDT": D(100000)}


class Recorder:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.executions: list[tuple[Order, Execution, str]] = []
        self.trades: list[Trade] = []

    def executed(self, order: Order, execution: Execution) -> None:
        self.executions.append((order, execution, order.status))

    def traded(self, trade: Trade) -> None:
        self.trades.append(trade)

    def balances_changed(self, account: Account, assets: list[str]) -> None: ...

    def deposited(self, account: Account, asset: str, amount: Decimal) -> None: ...

    def book_changed(self, market: object) -> None: ...


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def engine(recorder: Recorder) -> Engine:
    return make_engine(recorder)


def make_engine(recorder: Recorder) -> Engine:
    accounts = tuple(AccountSpec(key, "s", dict(FUNDS)) for key in ("alice", "bob"))
    return Engine(SandboxConfig(accounts=accounts, first_id=0), Clock(), recorder)


def place(engine: Engine, who: str, side: str, quantity: str, price: str, **more: Any) -> Order:
    request = NewOrder(
        "BTCUSDT",
        side,
        more.pop("type", "LIMIT"),
        more.pop("tif", "GTC"),
        quantity=D(quantity),
        price=D(price),
        **more,
    )
    account = engine.market_account if who == "market" else engine.accounts[who]
    return engine.place(account, request)


def test_the_better_price_trades_first_and_at_its_own_price(engine: Engine) -> None:
    worse = place(engine, "alice", "SELL", "1", "101")
    better = place(engine, "alice", "SELL", "1", "100")
    taker = place(engine, "bob", "BUY", "1.5", "105")
    assert [fill.price for fill in taker.fills] == [D(100), D(101)]
    assert (better.status, worse.status, worse.executed) == ("FILLED", "PARTIALLY_FILLED", D("0.5"))


def test_at_one_price_the_older_order_trades_first(engine: Engine) -> None:
    older = place(engine, "alice", "BUY", "1", "100")
    younger = place(engine, "bob", "BUY", "1", "100")
    place(engine, "market", "SELL", "1", "100", tif="IOC")
    assert (older.status, younger.status) == ("FILLED", "NEW")


def test_an_amended_order_keeps_its_place_and_a_replaced_one_loses_it(engine: Engine) -> None:
    older = place(engine, "alice", "BUY", "2", "100")
    younger = place(engine, "bob", "BUY", "1", "100")
    engine.amend(older, D(1))
    place(engine, "market", "SELL", "1", "100", tif="IOC")
    assert (older.status, younger.status) == ("FILLED", "NEW")


def test_an_amendment_frees_exactly_what_is_no_longer_needed(engine: Engine) -> None:
    order = place(engine, "alice", "BUY", "2", "100")
    place(engine, "market", "SELL", "0.5", "100", tif="IOC")
    engine.amend(order, D("1.25"))
    usdt = engine.accounts["alice"].balance("USDT")
    assert (usdt.locked, usdt.free) == (D(75), FUNDS["USDT"] - 50 - 75)


def test_a_taker_gets_back_what_its_limit_reserved_beyond_the_price(engine: Engine) -> None:
    place(engine, "market", "SELL", "1", "100")
    place(engine, "alice", "BUY", "1", "150")
    usdt = engine.accounts["alice"].balance("USDT")
    assert (usdt.free, usdt.locked) == (FUNDS["USDT"] - 100, D(0))


def test_fees_are_taken_from_what_is_received(engine: Engine) -> None:
    place(engine, "alice", "BUY", "1", "100")
    place(engine, "bob", "SELL", "1", "100")
    assert engine.accounts["alice"].balance("BTC").free == FUNDS["BTC"] + D("0.999")
    assert engine.accounts["bob"].balance("USDT").free == FUNDS["USDT"] + D("99.9")
    assert engine.ledger.fees == {"BTC": D("0.001"), "USDT": D("0.1")}


@pytest.mark.parametrize(
    ("tif", "reason", "executed"),
    [
        ("IOC", "UNFILLED_IOC_QUANTITY_EXPIRED", "1"),
        ("FOK", "UNFILLED_FOK_ORDER_EXPIRED", "0"),
    ],
)
def test_what_does_not_fill_at_once_expires_with_its_reason(
    engine: Engine, tif: str, reason: str, executed: str
) -> None:
    place(engine, "market", "SELL", "1", "100")
    order = place(engine, "alice", "BUY", "2", "100", tif=tif)
    assert (order.status, order.expiry_reason, order.executed) == ("EXPIRED", reason, D(executed))
    assert engine.accounts["alice"].balance("USDT").locked == 0


def test_a_fill_or_kill_order_that_can_be_filled_is(engine: Engine) -> None:
    place(engine, "market", "SELL", "1", "100")
    place(engine, "market", "SELL", "1", "101")
    assert place(engine, "alice", "BUY", "2", "101", tif="FOK").status == "FILLED"


def test_a_market_order_that_empties_the_book_expires(engine: Engine) -> None:
    place(engine, "market", "SELL", "1", "100")
    order = place(engine, "alice", "BUY", "2", "0", type="MARKET")
    assert (order.status, order.expiry_reason) == ("EXPIRED", "INSUFFICIENT_LIQUIDITY")
    assert order.executed == 1


def test_a_market_order_by_quote_quantity_spends_at_most_that(engine: Engine) -> None:
    place(engine, "market", "SELL", "1", "100")
    place(engine, "market", "SELL", "1", "300")
    order = place(engine, "alice", "BUY", "0", "0", type="MARKET", quote_quantity=D(200))
    assert order.status == "FILLED"
    assert order.executed == D("1.333333")
    assert order.executed_quote == D("199.9999")


def test_a_post_only_order_that_would_take_is_refused(engine: Engine) -> None:
    place(engine, "market", "SELL", "1", "100")
    with pytest.raises(ApiError, match="-2010: Order would immediately match and take"):
        place(engine, "alice", "BUY", "1", "100", type="LIMIT_MAKER")
    assert place(engine, "alice", "BUY", "1", "99", type="LIMIT_MAKER").status == "NEW"


def test_a_stop_waits_for_the_last_price_and_then_works(engine: Engine) -> None:
    place(engine, "market", "SELL", "10", "100")
    place(engine, "market", "BUY", "1", "100", tif="IOC")
    with pytest.raises(ApiError, match="Order would trigger immediately"):
        place(engine, "alice", "BUY", "1", "120", type="STOP_LOSS_LIMIT", stop_price=D(100))
    stop = place(engine, "alice", "BUY", "1", "120", type="STOP_LOSS_LIMIT", stop_price=D(110))
    assert (stop.status, stop.working_ms) == ("NEW", None)
    assert engine.accounts["alice"].balance("USDT").locked == 120
    place(engine, "market", "BUY", "9", "100", tif="IOC")
    place(engine, "market", "SELL", "2", "115")
    place(engine, "market", "BUY", "1", "115", tif="IOC")
    assert (stop.status, stop.executed_quote) == ("FILLED", D(115))
    assert engine.accounts["alice"].balance("USDT").locked == 0


def test_a_stop_that_becomes_a_market_order_and_cannot_pay_expires(engine: Engine) -> None:
    place(engine, "market", "SELL", "1", "100")
    place(engine, "market", "BUY", "1", "100", tif="IOC")
    stop = place(engine, "alice", "BUY", "2", "0", type="STOP_LOSS", stop_price=D(40000))
    place(engine, "market", "SELL", "5", "90000")
    place(engine, "market", "BUY", "1", "90000", tif="IOC")
    assert (stop.status, stop.expiry_reason) == ("EXPIRED", "REJECTED")
    assert engine.accounts["alice"].balance("USDT").free == FUNDS["USDT"]


def test_a_self_trade_has_two_sides_with_one_trade_id(engine: Engine, recorder: Recorder) -> None:
    maker = place(engine, "alice", "BUY", "1", "100")
    taker = place(engine, "alice", "SELL", "1", "100")
    (trade,) = recorder.trades
    assert maker.fills == taker.fills == [trade]
    sides = [(o.id, e.trade.id) for o, e, _ in recorder.executions if e.trade is not None]
    assert sorted(sides) == [(maker.id, trade.id), (taker.id, trade.id)]


@pytest.mark.parametrize(
    ("mode", "maker_status", "taker_status"),
    [
        ("NONE", "FILLED", "FILLED"),
        ("EXPIRE_TAKER", "NEW", "EXPIRED_IN_MATCH"),
        ("EXPIRE_MAKER", "EXPIRED_IN_MATCH", "NEW"),
        ("EXPIRE_BOTH", "EXPIRED_IN_MATCH", "EXPIRED_IN_MATCH"),
    ],
)
def test_self_trade_prevention_acts_only_when_asked_for(
    engine: Engine, mode: str, maker_status: str, taker_status: str
) -> None:
    maker = place(engine, "alice", "BUY", "1", "100")
    taker = place(engine, "alice", "SELL", "1", "100", stp=mode)
    assert (maker.status, taker.status) == (maker_status, taker_status)
    check_invariants(engine)


def test_a_client_id_is_free_again_when_its_order_is_closed(engine: Engine) -> None:
    first = place(engine, "alice", "BUY", "1", "100", client_id="mine")
    with pytest.raises(ApiError, match="-2010: Duplicate order sent"):
        place(engine, "alice", "BUY", "1", "100", client_id="mine")
    engine.cancel(first)
    assert place(engine, "alice", "BUY", "1", "100", client_id="mine").id != first.id


def test_a_refused_order_leaves_no_trace(engine: Engine) -> None:
    with pytest.raises(ApiError, match="insufficient balance"):
        place(engine, "alice", "BUY", "5", "50000")
    assert engine.orders == []
    assert engine.accounts["alice"].balance("USDT").free == FUNDS["USDT"]


def test_the_markets_own_orders_are_not_kept(engine: Engine) -> None:
    order = place(engine, "market", "BUY", "1", "100")
    engine.expire(order, "EXCHANGE_CANCELED")
    place(engine, "market", "BUY", "1", "100", tif="IOC")
    assert engine.market_account.orders == {"BTCUSDT": {}}
    assert engine.market_account.by_client_id == {}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", "market"]),
        st.sampled_from(["BUY", "SELL", "CANCEL", "AMEND"]),
        st.integers(1, 300),
        st.integers(95, 105),
        st.sampled_from(["GTC", "GTC", "IOC", "FOK", "MARKET", "LIMIT_MAKER", "STOP_LOSS_LIMIT"]),
        st.sampled_from(["NONE", "NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_whatever_is_done_nothing_is_made_or_lost_and_priority_holds(
    actions: list[tuple[str, str, int, int, str, str]],
) -> None:
    recorder = Recorder()
    engine = make_engine(recorder)
    for action in actions:
        before = _queue(engine)
        count = len(recorder.trades)
        with contextlib.suppress(ApiError):
            _act(engine, *action)
        check_invariants(engine)
        _check_priority(before, recorder.trades[count:])


def _act(engine: Engine, who: str, what: str, size: int, level: int, kind: str, stp: str) -> None:
    quantity, price = D(size) * D("0.013331"), str(D(level))
    open_orders = [order for order in engine.orders if order.is_open]
    if what in {"CANCEL", "AMEND"}:
        if open_orders:
            order = open_orders[size % len(open_orders)]
            if what == "CANCEL":
                engine.cancel(order)
            else:
                engine.amend(order, quantity)
        return
    more: dict[str, Any] = {"stp": stp if who != "market" else "NONE"}
    if kind in {"GTC", "IOC", "FOK"}:
        more["tif"] = kind
    else:
        more["type"] = kind
    if kind == "STOP_LOSS_LIMIT":
        more["stop_price"] = D(level + 1)
    place(engine, who, what, str(quantity), "0" if kind == "MARKET" else price, **more)


def _queue(engine: Engine) -> dict[int, tuple[Any, ...]]:
    """Each resting order's place in its queue: the lower, the earlier it has to trade."""
    book = engine.markets["BTCUSDT"].book
    places: dict[int, tuple[Any, ...]] = {}
    for side, sign in ((book.bids, -1), (book.asks, 1)):
        for level in side:
            for position, order in enumerate(level.orders.values()):
                places[order.id] = (sign * level.price, position)
    return places


def _check_priority(before: dict[int, tuple[Any, ...]], trades: list[Trade]) -> None:
    """Makers that rested before the step traded in the order of the queue, side by side."""
    for maker_is_buyer in (True, False):
        makers = [
            before[maker.id]
            for trade in trades
            if trade.buyer_is_maker is maker_is_buyer
            and (maker := trade.buyer if maker_is_buyer else trade.seller).id in before
        ]
        assert makers == sorted(makers)


def check_invariants(engine: Engine) -> None:
    accounts = [*engine.accounts.values(), engine.market_account]
    for asset, total in engine.ledger.totals().items():
        held = [a.balances[asset] for a in accounts if asset in a.balances]
        assert sum((b.free + b.locked for b in held), D(0)) == total
    for account in engine.accounts.values():
        for asset, balance in account.balances.items():
            assert balance.free >= 0
            assert balance.locked >= 0
            assert balance.locked == sum(
                (
                    order.locked
                    for order in account.open_orders.get("BTCUSDT", {}).values()
                    if asset == ("USDT" if order.side == "BUY" else "BTC")
                ),
                D(0),
            )
    check_book(engine)


def check_book(engine: Engine) -> None:
    book = engine.markets["BTCUSDT"].book
    for side in (book.bids, book.asks):
        for level in side:
            assert level.quantity == sum((o.remaining for o in level.orders.values()), D(0))
            assert level.quantity > 0
            assert all(order.is_open and order.on_book for order in level.orders.values())
    bid, ask = book.best()
    assert bid is None or ask is None or bid.price < ask.price
