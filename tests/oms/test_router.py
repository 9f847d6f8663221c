"""Orders go where the trader says, else where it is best; a denial has a reason per venue."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from tests.oms.builders import NOW, after, instrument, order, quote
from trading.oms.enums import OrderSide, OrderType, ReasonCode
from trading.oms.models import Instrument, Order
from trading.oms.routing.base import IOrderRouter, Refusal, RoutingDenied
from trading.oms.routing.markets import Level, Offer, VenueMarket, offer_of
from trading.oms.routing.simple import SimpleRouter
from trading.oms.routing.smart import RoutingStrategy, SmartOrderRouter
from trading.oms.venue import IExecutionConnector

SELL = OrderSide.SELL
MARKET = {"order_type": OrderType.MARKET}


class Connector:
    """The two things of a connector that a router looks at."""

    def __init__(self, account: str = "main", symbols: Sequence[str] = ("BTC/USDT",)) -> None:
        self.account = account
        self.symbols = symbols

    def instrument(self, symbol: str) -> Instrument | None:
        return instrument(symbol=symbol) if symbol in self.symbols else None


def connector(account: str = "main", symbols: Sequence[str] = ("BTC/USDT",)) -> IExecutionConnector:
    return cast("IExecutionConnector", Connector(account, symbols))


def simple(*exchanges: str, default: str | None = None) -> SimpleRouter:
    router = SimpleRouter(default)
    for exchange in exchanges:
        router.register_exchange(exchange, connector())
    return router


@pytest.mark.parametrize(
    ("router", "fields", "exchange"),
    [
        (simple("binance", "kraken"), {"exchange": "kraken"}, "kraken"),
        (
            simple("binance", "kraken"),
            {"exchange": None, "metadata": {"exchange": "kraken"}},
            "kraken",
        ),
        (
            simple("binance", "kraken"),
            {"exchange": "binance", "metadata": {"exchange": "kraken"}},
            "binance",
        ),
        (simple("binance", "kraken", default="kraken"), {"exchange": None}, "kraken"),
        (simple("binance"), {"exchange": None}, "binance"),
    ],
)
async def test_the_trader_is_asked_first_and_then_the_configuration(
    router: IOrderRouter, fields: dict[str, Any], exchange: str
) -> None:
    assert await router.route_order(order(**fields)) == exchange


@pytest.mark.parametrize(
    ("router", "fields", "message"),
    [
        (
            simple("binance", "kraken"),
            {"exchange": "okx"},
            "exchange is 'okx'; the known ones are binance, kraken",
        ),
        (
            simple("binance"),
            {"exchange": None, "metadata": {"exchange": 7}},
            "exchange is '7'; the known ones are binance",
        ),
        (
            simple("binance", "kraken"),
            {"exchange": None},
            "names no exchange and there is no default; the known ones are binance, kraken",
        ),
        (simple(default="okx"), {"exchange": None}, "the default exchange is 'okx'"),
        (simple(), {"exchange": None}, "the known ones are none"),
    ],
)
async def test_an_unknown_exchange_is_denied_with_the_known_ones(
    router: IOrderRouter, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(RoutingDenied) as denial:
        await router.route_order(order(**fields))
    assert message in str(denial.value)
    assert denial.value.reason_code is ReasonCode.NO_EXCHANGE


def test_a_venue_can_have_several_accounts() -> None:
    router = SimpleRouter()
    for account in ("main", "other", "main"):
        router.register_exchange("binance", connector(account))
    assert [each.account for each in router.connectors("binance")] == ["main", "other"]
    assert router.exchanges == ["binance"]


Book = list[tuple[str, str]]


def market(
    exchange: str,
    asks: Book | None = None,
    bids: Book | None = None,
    fee: str = "0",
    at: datetime = NOW,
    spendable: str | None = None,
) -> VenueMarket:
    return VenueMarket(
        exchange=exchange,
        symbol="BTC/USDT",
        asks=tuple(Level(Decimal(p), Decimal(q)) for p, q in asks or []),
        bids=tuple(Level(Decimal(p), Decimal(q)) for p, q in bids or []),
        fee_rate=Decimal(fee),
        spendable=None if spendable is None else Decimal(spendable),
        received_at=at,
    )


def smart(
    *markets: VenueMarket,
    strategy: str = RoutingStrategy.BEST_PRICE,
    default: str | None = None,
) -> SmartOrderRouter:
    by_name = {each.exchange: each for each in markets}

    async def get_market(exchange: str, order: Order) -> VenueMarket | None:
        return by_name.get(exchange)

    router = SmartOrderRouter(get_market, strategy, default_exchange=default, clock=lambda: NOW)
    for each in markets:
        router.register_exchange(each.exchange, connector())
    return router


@pytest.mark.parametrize(
    ("what", "a", "b", "fields", "exchange"),
    [
        ("the lower ask", {"asks": [("100", "10")]}, {"asks": [("99", "10")]}, {}, "b"),
        (
            "the higher bid",
            {"bids": [("100", "10")]},
            {"bids": [("99", "10")]},
            {"side": SELL},
            "a",
        ),
        (
            "the fee included",
            {"asks": [("100", "10")]},
            {"asks": [("99.95", "10")], "fee": "0.001"},
            {},
            "a",
        ),
        (
            "the fee of a sell included",
            {"bids": [("100", "10")], "fee": "0.001"},
            {"bids": [("99.95", "10")]},
            {"side": SELL, "price": Decimal(99)},
            "b",
        ),
        (
            "the depth included",
            {"asks": [("99", "1"), ("102", "9")]},
            {"asks": [("100", "10")]},
            {},
            "b",
        ),
        ("equal offers by name", {"asks": [("100", "10")]}, {"asks": [("100", "10")]}, {}, "a"),
        (
            "enough for a market order",
            {"asks": [("99", "9")]},
            {"asks": [("100", "10")]},
            MARKET,
            "b",
        ),
        (
            "most within the limit, before the price of less",
            {"asks": [("99", "1")]},
            {"asks": [("100", "10")]},
            {},
            "b",
        ),
        (
            "enough within the limit, however much more there is",
            {"asks": [("99", "10")]},
            {"asks": [("100", "90")]},
            {},
            "a",
        ),
        (
            "the price of what is within the limit",
            {"asks": [("99", "9"), ("200", "1")]},
            {"asks": [("100", "9"), ("101", "1")]},
            {},
            "a",
        ),
        (
            "something within the limit, before a better price that is not",
            {"asks": [("100", "1"), ("200", "9")]},
            {"asks": [("100.01", "10")]},
            {},
            "a",
        ),
        (
            "the same of a sell",
            {"bids": [("100", "1"), ("50", "9")]},
            {"bids": [("99.99", "10")]},
            {"side": SELL},
            "a",
        ),
        (
            "the best level where nothing is within the limit",
            {"asks": [("102", "10")]},
            {"asks": [("101", "1"), ("200", "9")]},
            {},
            "b",
        ),
        (
            "a quote that is fresh",
            {"asks": [("99", "10")], "at": after(-6)},
            {"asks": [("100", "10")]},
            {},
            "b",
        ),
    ],
)
async def test_the_best_price_is(
    what: str, a: dict[str, Any], b: dict[str, Any], fields: dict[str, Any], exchange: str
) -> None:
    router = smart(market("a", **a), market("b", **b))
    assert await router.route_order(order(exchange=None, **fields)) == exchange


@pytest.mark.parametrize(
    ("enough", "too_little", "fields"),
    [
        ("1000", "999.99", {}),  # 10 at the limit of 100, though 99 is asked.
        ("991.98", "991.97", MARKET),  # 10 at 99, and the fee of 0.2 %.
        ("10", "9.999", {"side": "sell"}),
    ],
)
async def test_a_venue_whose_account_cannot_pay_does_not_count(
    enough: str, too_little: str, fields: dict[str, Any]
) -> None:
    levels: Book = [("99", "10")]
    fee = "0.002" if fields == MARKET else "0"
    worse: Book = [("101" if not fields.get("side") else "98", "10")]

    def chosen(spendable: str) -> SmartOrderRouter:
        best = market("best", levels, levels, fee, spendable=spendable)
        return smart(best, market("other", worse, worse, fee))

    wish = order(exchange=None, **fields)
    assert await chosen(enough).route_order(wish) == "best"
    assert await chosen(too_little).route_order(wish) == "other"


async def test_where_no_account_can_pay_the_denial_says_so() -> None:
    with pytest.raises(RoutingDenied) as denial:
        await smart(market("a", [("99", "10")], spendable="500")).route_order(order(exchange=None))
    assert denial.value.reason_code is ReasonCode.INSUFFICIENT_FUNDS
    assert denial.value.venues == {"a": "the order needs 1000 USDT, its account has 500"}


async def test_the_default_exchange_decides_between_equal_offers() -> None:
    same: Book = [("100", "10")]
    router = smart(market("a", same), market("b", same), default="b")
    assert await router.route_order(order(exchange=None)) == "b"


@pytest.mark.parametrize(
    ("fields", "exchange"),
    [
        ({}, "b"),  # Up to the limit price of 100: 3 against 4.
        ({"price": Decimal(103)}, "a"),
        ({**MARKET, "quantity": Decimal(3)}, "b"),  # Within 1 % of the best.
    ],
)
async def test_the_deepest_book_within_reach_wins(fields: dict[str, Any], exchange: str) -> None:
    router = smart(
        market("a", [("99", "3"), ("102", "90")]),
        market("b", [("100", "4"), ("102", "1")]),
        strategy=RoutingStrategy.LIQUIDITY,
    )
    assert await router.route_order(order(exchange=None, **fields)) == exchange


async def test_a_named_venue_is_taken_whatever_the_strategy() -> None:
    router = smart(market("a", [("100", "10")]), market("b", [("99", "10")]))
    assert await router.route_order(order(exchange="a")) == "a"
    with pytest.raises(RoutingDenied, match="the known ones are a, b"):
        await router.route_order(order(exchange="c"))


async def test_the_configured_strategy_looks_at_no_market() -> None:
    router = smart(
        market("a", [("1", "1")]),
        market("b"),
        strategy=RoutingStrategy.CONFIGURED,
        default="b",
    )
    assert await router.route_order(order(exchange=None)) == "b"


@pytest.mark.parametrize(
    ("word", "exchange", "splits"),
    [
        ("configured", "a", False),
        ("best_price", "b", False),
        ("liquidity", "c", False),
        ("split", "b", True),
    ],
)
async def test_a_strategy_may_be_given_in_the_specifications_words(
    word: str, exchange: str, splits: bool
) -> None:
    books = (market("a"), market("b", [("98", "1")] * 10), market("c", [("99", "100")]))
    router = smart(*books, strategy=word, default="a")
    changed = smart(*books, default="a")
    changed.routing_strategy = word
    for each in (router, changed):
        assert each.routing_strategy is RoutingStrategy(word)
        assert (await each.route_order(order(exchange=None)), each.splits) == (exchange, splits)


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    allowed = "routing_strategy is 'cheapest'; allowed are configured, best_price, liquidity, split"
    with pytest.raises(ValueError, match=allowed):
        smart(strategy="cheapest")
    router = smart()
    with pytest.raises(ValueError, match=allowed):
        router.routing_strategy = "cheapest"
    assert router.routing_strategy is RoutingStrategy.BEST_PRICE


async def test_where_no_venue_is_left_each_says_why() -> None:
    async def get_market(exchange: str, order: Order) -> VenueMarket | str | None:
        if exchange == "halted":
            return "trading is halted there"
        if exchange == "broken":
            raise ConnectionError(exchange)
        return {
            "empty": market("empty", [("99", "0")]),
            "stale": market("stale", [("99", "10")], at=after(-7)),
            "thin": market("thin", [("99", "9")]),
        }.get(exchange)

    router = SmartOrderRouter(get_market, clock=lambda: NOW)
    for exchange in ("broken", "empty", "halted", "none", "stale", "thin"):
        router.register_exchange(exchange, connector())
    router.register_exchange("unlisted", connector(symbols=()))
    with pytest.raises(RoutingDenied) as denial:
        await router.route_order(order(exchange=None, **MARKET))
    assert denial.value.reason_code is ReasonCode.NO_EXCHANGE
    assert denial.value.venues == {
        "broken": "its quote cannot be had: ConnectionError: broken",
        "empty": "nobody sells there",
        "halted": "trading is halted there",
        "none": "it has no quote",
        "stale": "its quote is 7 s old, the limit is 5 s",
        "thin": "it has 9 on offer, the quantity is 10",
        "unlisted": "it does not list BTC/USDT",
    }
    assert "stale: its quote is 7 s old" in str(denial.value)


@pytest.mark.parametrize("strategy", ["best_price", "liquidity", "split"])
async def test_where_trading_is_halted_everywhere_the_denial_says_so(strategy: str) -> None:
    async def get_market(exchange: str, order: Order) -> Refusal:
        return Refusal(ReasonCode.TRADING_HALTED, "trading is halted there")

    router = SmartOrderRouter(get_market, strategy)
    for exchange in ("a", "b"):
        router.register_exchange(exchange, connector())
    router.register_exchange("unlisted", connector(symbols=()))  # It could not take it anyway.
    wish = order(exchange=None)
    with pytest.raises(RoutingDenied, match="a: trading is halted there; b: trading") as denial:
        await (router.divide(wish, wish.quantity, {}) if router.splits else router.offers(wish))
    assert denial.value.reason_code is ReasonCode.TRADING_HALTED


async def test_a_symbol_that_nobody_lists_is_denied_as_unknown() -> None:
    router = SmartOrderRouter(lambda *_: pytest.fail("not asked"))
    router.register_exchange("a", connector(symbols=()))
    with pytest.raises(RoutingDenied) as denial:
        await router.route_order(order(exchange=None))
    assert denial.value.reason_code is ReasonCode.UNKNOWN_SYMBOL


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"price": Decimal("100.001")}, ReasonCode.PRICE_OFF_TICK, "the tick is 0.01"),
        ({"quantity": Decimal("10.0001")}, ReasonCode.QUANTITY_OFF_LOT, "the lot is 0.001"),
        ({"quantity": Decimal("0.001")}, ReasonCode.NOTIONAL_TOO_SMALL, "the smallest is 5"),
    ],
)
async def test_a_venue_whose_rules_the_order_breaks_does_not_count(
    fields: dict[str, Any], code: ReasonCode, reason: str
) -> None:
    router = smart(market("a", [("99", "10")]), market("b", [("99", "10")]))
    with pytest.raises(RoutingDenied, match=f"a: .*{reason}.*; b: .*{reason}") as denial:
        await router.route_order(order(exchange=None, **fields))
    assert denial.value.reason_code is code


async def test_a_venue_without_the_orders_account_does_not_count() -> None:
    router = smart(market("a", [("99", "10")]))
    with pytest.raises(RoutingDenied, match="a: it has no account other"):
        await router.route_order(order(exchange=None, account="other"))


async def test_without_any_exchange_the_denial_says_so() -> None:
    with pytest.raises(RoutingDenied, match="no exchange is registered"):
        await smart().route_order(order(exchange=None))


def test_a_quote_alone_is_a_book_of_one_level() -> None:
    offer = offer_of(order(), VenueMarket.of_quote(quote(), Decimal(10), Decimal("0.001")))
    assert offer == Offer("sandbox", Decimal("100.11001"), Decimal(0))
    one_sided = VenueMarket.of_quote(quote(ask="0"), Decimal(10))
    assert offer_of(order(), one_sided) == "nobody sells there"
