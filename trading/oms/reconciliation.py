"""Our picture of an account beside the exchange's: what differs, as values. Nothing is done here.

Compared are exchange orders ("legs"): an order that was modified may have had several, and the
exchange counts the fills of each on its own. A leg in doubt is left out, because its look-up has
rules of its own; so is one whose send is under way, or was made after the exchange was asked.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from trading.oms.enums import OrderSide, OrderStatus
from trading.oms.errors import UnreadableOrder
from trading.oms.exact import EXACT
from trading.oms.identity import HEXADECIMAL, deployment_mark
from trading.oms.models import Fill, OrderState
from trading.oms.reading import number
from trading.oms.venue import ExecutionReport, VenueStatus

LIVE = frozenset({VenueStatus.NEW, VenueStatus.PARTIALLY_FILLED})
_EXCHANGE_CLIENT_ID_LENGTH = 32


class DifferenceKind(StrEnum):
    """What can differ; the order here is the order in which differences are listed."""

    TWO_ALIVE = "two_alive"
    """Two exchange orders of one order rest at once."""
    ALIVE_AFTER_END = "alive_after_end"
    """The exchange has an order open that has ended here."""
    UNKNOWN_HERE = "unknown_here"
    """An open order with the mark of this deployment that the store does not know."""
    IDENTITY_MISMATCH = "identity_mismatch"
    """Our id, but another symbol or side."""
    FILL_MISMATCH = "fill_mismatch"
    """The exchange has executed another quantity than we have booked."""
    ENDED_AT_EXCHANGE = "ended_at_exchange"
    """Open here, ended there."""
    MISSING_AT_EXCHANGE = "missing_at_exchange"
    """Open here, and nothing there speaks of it: look it up."""
    QUANTITY_MISMATCH = "quantity_mismatch"
    """The quantity at the exchange is another one."""
    PRICE_MISMATCH = "price_mismatch"
    """The price at the exchange is another one."""
    EXTERNAL = "external"
    """An open order of somebody else on this account: counted, never touched."""


Key = str | tuple[str, str]
"""Names an exchange order: by its client id, else by symbol and the exchange's own id."""


class OurLeg(NamedTuple):
    """An exchange order that we take to be open; `quantity` and `filled_quantity` are its own.

    `in_doubt`: the exchange need not have it, for its send has no answer or an unknown outcome.
    `sent_at` is the time of its send claim, in the exchange's clock where that is known.
    """

    order_id: str
    exchange_client_id: str | None
    symbol: str
    side: OrderSide
    quantity: Decimal
    filled_quantity: Decimal
    price: Decimal | None = None
    sent_at: datetime | None = None
    in_doubt: bool = False
    exchange_order_id: str | None = None

    @property
    def key(self) -> Key:
        """What the exchange's reports are found by: somebody else's may have no client id."""
        return self.exchange_client_id or (self.symbol, self.exchange_order_id or "")

    @classmethod
    def of(cls, state: OrderState) -> "OurLeg":
        """The only leg of an order that was not replaced.

        Raises `ValueError` for one that was: its fills by leg have to be counted first.
        """
        if state.leg != 1 or key_of(state) is None:
            msg = f"order {state.client_order_id} has leg {state.leg}; give its legs one by one"
            raise ValueError(msg)
        return cls(
            order_id=state.client_order_id,
            exchange_client_id=state.exchange_client_id,
            symbol=state.symbol,
            side=state.side,
            quantity=state.quantity,
            filled_quantity=state.filled_quantity,
            price=state.price,
            sent_at=state.submitted_at,
            in_doubt=is_unconfirmed(state),
            exchange_order_id=state.exchange_order_id,
        )


def key_of(order: OrderState | UnreadableOrder) -> Key | None:
    """What reports of an order are found by; None: it was not sent yet."""
    if order.exchange_client_id is None and order.exchange_order_id is not None:
        return (order.symbol, order.exchange_order_id)
    return order.exchange_client_id


def is_unconfirmed(state: OrderState) -> bool:
    """Whether the exchange has not said of the present leg that it is there."""
    is_sending = state.status is OrderStatus.SUBMITTED
    if state.leg > 1:
        is_sending = state.exchange_order_id is None
    return is_sending or state.in_doubt_since is not None


class OurPicture(NamedTuple):
    """The legs open here, and whose the ids of our ended ones were (exchange client id: order).

    `left_out` are the keys of orders that are not compared now, because they were touched a moment
    ago or their rows cannot be read; `unreadable` says in words which those are.
    """

    deployment: str
    legs: Sequence[OurLeg]
    ended: Mapping[Key, str] = {}
    left_out: Collection[Key] = frozenset()
    unreadable: Sequence[str] = ()


class ExchangePicture(NamedTuple):
    """What the exchange has said, asked at `asked_at` in its clock.

    `reports` are the open orders, and what it says about further ones that were asked for. With
    `symbols` only these were asked for; None: the whole account. With a `gap` a row of the list
    could not be read: what is here counts, and no order is missing.
    """

    asked_at: datetime
    reports: Sequence[ExecutionReport]
    symbols: Collection[str] | None = None
    gap: str | None = None


class Difference(NamedTuple):
    """One thing that differs; `report` is the exchange's word, where there is one."""

    kind: DifferenceKind
    symbol: str
    message: str
    order_id: str | None = None
    exchange_client_id: str | None = None
    exchange_order_id: str | None = None
    numbers: Mapping[str, Decimal] = {}
    report: ExecutionReport | None = None

    @property
    def key(self) -> tuple[DifferenceKind, str, str | None]:
        """The same for the same difference between two later pictures."""
        return (self.kind, self.symbol, self.exchange_client_id or self.exchange_order_id)


def compare(ours: OurPicture, theirs: ExchangePicture) -> list[Difference]:
    """Everything that differs, the gravest kind first. Equal pictures give an empty list."""
    owners = {leg.key: leg.order_id for leg in ours.legs}
    reports = [one for one in theirs.reports if _keys(one).isdisjoint(ours.left_out)]
    newest = _newest_reports(reports)
    found: list[Difference] = []
    for leg in ours.legs:
        report = newest.get(leg.key)
        if report is not None:
            found += _of_leg(leg, report)
        elif _should_be_there(leg, theirs):
            found.append(_missing(leg))
    found += _two_alive(newest, {**ours.ended, **owners})
    for report in reports:
        if report.status in LIVE and _keys(report).isdisjoint(owners):
            found.append(_not_open_here(report, ours))
    order = {kind: place for place, kind in enumerate(DifferenceKind)}
    return sorted(found, key=lambda d: (order[d.kind], d.symbol, d.exchange_client_id or ""))


def unbooked(fills: Iterable[Fill], booked: Collection[str]) -> list[Fill]:
    """The exchange's fills whose `fill_id` is not booked, oldest first, each once."""
    missing = {fill.fill_id: fill for fill in fills if fill.fill_id not in booked}
    return sorted(missing.values(), key=lambda fill: (fill.timestamp, fill.fill_id))


def is_marked(exchange_client_id: str | None, deployment: str) -> bool:
    """Whether an exchange client id was made by this deployment."""
    return (
        exchange_client_id is not None
        and len(exchange_client_id) == _EXCHANGE_CLIENT_ID_LENGTH
        and exchange_client_id.startswith(deployment_mark(deployment))
        and all(character in HEXADECIMAL for character in exchange_client_id)
    )


def _newest_reports(reports: Iterable[ExecutionReport]) -> dict[Key, ExecutionReport]:
    """By each key, the report that knows most: an end, then the greater total."""
    newest: dict[Key, ExecutionReport] = {}
    for report in reports:
        for key in _keys(report) if report.status is not None else ():
            known = newest.get(key)
            if known is None or _knowledge(report) > _knowledge(known):
                newest[key] = report
    return newest


def _keys(report: ExecutionReport) -> set[Key]:
    keys: set[Key] = set()
    if report.exchange_client_id is not None:
        keys.add(report.exchange_client_id)
    if report.exchange_order_id is not None:
        keys.add((report.symbol, report.exchange_order_id))
    return keys


def _knowledge(report: ExecutionReport) -> tuple[bool, Decimal, datetime]:
    return (report.status not in LIVE, report.cumulative_quantity or Decimal(0), report.at)


def _should_be_there(leg: OurLeg, theirs: ExchangePicture) -> bool:
    if leg.in_doubt or theirs.gap is not None:
        return False
    if theirs.symbols is not None and leg.symbol not in theirs.symbols:
        return False
    return leg.sent_at is None or leg.sent_at < theirs.asked_at


def _missing(leg: OurLeg) -> Difference:
    return Difference(
        DifferenceKind.MISSING_AT_EXCHANGE,
        leg.symbol,
        f"order {leg.order_id} is open here, and the exchange does not list it",
        leg.order_id,
        leg.exchange_client_id,
        leg.exchange_order_id,
    )


def _of_leg(leg: OurLeg, report: ExecutionReport) -> list[Difference]:
    if report.symbol != leg.symbol or (report.side or leg.side) is not leg.side:
        theirs = f"{report.side} {report.symbol}"
        text = f"order {leg.order_id} is a {leg.side} of {leg.symbol} here and {theirs} there"
        return [_about(DifferenceKind.IDENTITY_MISMATCH, leg, report, text)]
    found = []
    for kind, name, own, their in (
        (
            DifferenceKind.FILL_MISMATCH,
            "filled_quantity",
            leg.filled_quantity,
            report.cumulative_quantity,
        ),
        (DifferenceKind.QUANTITY_MISMATCH, "quantity", leg.quantity, report.quantity),
        (DifferenceKind.PRICE_MISMATCH, "price", leg.price, report.price or None),
    ):
        if own is None or their is None or own == their:
            continue
        text = f"{name} of order {leg.order_id} is {number(own)} here and {number(their)} there"
        numbers = {"ours": own, "theirs": their, "missing_here": EXACT.subtract(their, own)}
        found.append(_about(kind, leg, report, text)._replace(numbers=numbers))
    if report.status not in LIVE and report.status is not None:
        text = f"order {leg.order_id} is open here and {report.status} there"
        found.append(_about(DifferenceKind.ENDED_AT_EXCHANGE, leg, report, text))
    return found


def _about(kind: DifferenceKind, leg: OurLeg, report: ExecutionReport, text: str) -> Difference:
    return Difference(
        kind,
        leg.symbol,
        text,
        leg.order_id,
        leg.exchange_client_id,
        report.exchange_order_id,
        report=report,
    )


def _two_alive(
    newest: Mapping[Key, ExecutionReport], owners: Mapping[Key, str]
) -> Iterable[Difference]:
    alive: dict[str, list[ExecutionReport]] = {}
    for key, report in newest.items():
        if report.status in LIVE and key in owners:
            alive.setdefault(owners[key], []).append(report)
    for order_id, reports in alive.items():
        for report in sorted(reports, key=lambda each: each.at)[1:]:
            yield Difference(
                DifferenceKind.TWO_ALIVE,
                report.symbol,
                f"order {order_id} rests {len(reports)} times at the exchange",
                order_id,
                report.exchange_client_id,
                report.exchange_order_id,
                report=report,
            )


def _not_open_here(report: ExecutionReport, ours: OurPicture) -> Difference:
    client_id = report.exchange_client_id
    order_id = ours.ended.get(client_id or "")
    if order_id is not None:
        kind = DifferenceKind.ALIVE_AFTER_END
        text = f"order {order_id} has ended here and is open at the exchange"
    elif is_marked(client_id, ours.deployment):
        kind = DifferenceKind.UNKNOWN_HERE
        text = f"the exchange has {client_id} open, which is ours by its mark and not in the store"
    else:
        kind = DifferenceKind.EXTERNAL
        text = f"somebody else has {client_id or report.exchange_order_id} open on this account"
    return Difference(
        kind, report.symbol, text, order_id, client_id, report.exchange_order_id, report=report
    )
