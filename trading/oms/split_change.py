"""How a change of a split order is shared out over its legs: pure, and exact.

A new price goes to every open leg. Less is taken from what has no open leg any more, then from the
last legs first; a leg that would have nothing left is ended. More becomes new legs, so that those
at rest keep their place in the queue; what is too small for a leg of its own is added to one.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from trading.oms.enums import OrderStatus, Pending
from trading.oms.exact import EXACT
from trading.oms.models import Exact, Instrument, Order, OrderState
from trading.oms.reading import number
from trading.oms.routing.rules import refused_by_rules
from trading.oms.split import dead_quantity

_NONE = Decimal(0)
_LIVE = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
_UNSENT = frozenset({OrderStatus.CREATED, OrderStatus.PENDING_SUBMISSION})


class Change(BaseModel):
    """What one leg is asked for: another quantity or price, or to end."""

    model_config = ConfigDict(frozen=True)

    order_id: str
    new_quantity: Exact | None = None
    new_price: Exact | None = None
    ends: bool = False

    @property
    def said(self) -> str:
        """In words, for the journal."""
        if self.ends:
            return "to end"
        wish = {"quantity": self.new_quantity, "price": self.new_price}
        return ", ".join(f"{name} {number(v)}" for name, v in wish.items() if v is not None)

    def refusal_of(self, leg: OrderState, said: str | None) -> str | None:
        """Why the leg has not what it was asked for; `said` is its own word. None: it has."""
        if self.ends:
            if leg.is_terminal and leg.status is not OrderStatus.FILLED:
                return None
            return said or "it was filled before it could be ended"
        if self.new_quantity in {None, leg.quantity} and self.new_price in {None, leg.price}:
            return None
        return said or leg.status.value


class Plan(BaseModel):
    """What a change of a split order asks of its legs, or in words why it is refused.

    `more` is for new legs, and `carrier` the change of one leg that takes it where there can be
    none. `given_up` has no open leg and needs nobody's consent.
    """

    model_config = ConfigDict(frozen=True)

    changes: tuple[Change, ...] = ()
    more: Exact = _NONE
    carrier: Change | None = None
    given_up: Exact = _NONE
    refusal: str | None = None


class Wish(BaseModel):
    """A change that a trader wants of a split order; None leaves it as it is."""

    model_config = ConfigDict(frozen=True)

    new_quantity: Exact | None = None
    new_price: Exact | None = None


Fits = Callable[[OrderState, Decimal], str | None]
"""Why a leg's exchange does not take such a rest of it; None: it does."""


def planned(
    order: Order,
    parent: OrderState,
    legs: Iterable[OrderState],
    wish: Wish,
    rules: Mapping[str, Instrument | None],
) -> Plan:
    """Share the change out. `rules` are the exchanges', by name; `order` is the trader's."""
    legs = list(legs)
    alive = [leg for leg in legs if leg.is_open]
    refusal = _refusal(parent, alive, wish)
    if refusal is not None:
        return Plan(refusal=refusal)
    price = wish.new_price or parent.price
    asked = order.model_copy(update={"price": price})

    def fits(leg: OrderState, rest: Decimal) -> str | None:
        refused = refused_by_rules(asked, rules.get(leg.exchange), rest)
        return None if refused is None else refused.text

    more = EXACT.subtract(wish.new_quantity or parent.quantity, parent.quantity)
    given_up = min(max(more.copy_negate(), _NONE), max(dead_quantity(parent, legs), _NONE))
    taken = _taken(alive, EXACT.subtract(max(more.copy_negate(), _NONE), given_up), fits)
    if isinstance(taken, str):
        return Plan(refusal=taken)
    changes = _changes(alive, taken, wish.new_price)
    for change, leg in (
        (c, leg) for c in changes for leg in alive if leg.client_order_id == c.order_id
    ):
        rest = EXACT.subtract(leg.remaining_quantity, taken.get(leg.client_order_id, _NONE))
        if not change.ends and (why := fits(leg, rest)) is not None:
            return Plan(refusal=f"{leg.client_order_id}: {why}")
    if more <= 0:
        return Plan(changes=changes, given_up=given_up)
    return Plan(changes=changes, more=more, carrier=_carrier(alive, more, wish.new_price, fits))


def _taken(legs: list[OrderState], less: Decimal, fits: Fits) -> dict[str, Decimal] | str:
    """What is taken from each leg, by its id; in words why nothing adds up to it.

    The last legs are ended until what is left fits into one. Where that does not add up, one leg
    alone may carry all of it.
    """
    left, taken, why = less, dict[str, Decimal](), []
    for leg in reversed(legs):
        if not left:
            break
        part = min(leg.remaining_quantity, left)
        rest = EXACT.subtract(leg.remaining_quantity, part)
        refused = fits(leg, rest) if rest else None
        if refused is not None:
            why.append(f"{leg.client_order_id}: {refused}")
            continue
        taken[leg.client_order_id] = part
        left = EXACT.subtract(left, part)
    if not left:
        return taken
    for leg in reversed(legs):
        rest = EXACT.subtract(leg.remaining_quantity, less)
        if rest > 0 and fits(leg, rest) is None:
            return {leg.client_order_id: less}
    return f"no open legs can give {number(less)} up: {'; '.join(why)}"


def _changes(
    legs: list[OrderState], taken: Mapping[str, Decimal], new_price: Decimal | None
) -> tuple[Change, ...]:
    changes = []
    for leg in legs:
        less = taken.get(leg.client_order_id)
        if less is not None and less == leg.remaining_quantity:
            changes.append(Change(order_id=leg.client_order_id, ends=True))
            continue
        price = new_price if new_price not in {None, leg.price} else None
        quantity = EXACT.subtract(leg.quantity, less) if less is not None else None
        if quantity is not None or price is not None:
            change = Change(order_id=leg.client_order_id, new_quantity=quantity, new_price=price)
            changes.append(change)
    return tuple(changes)


def _carrier(
    legs: list[OrderState], more: Decimal, new_price: Decimal | None, fits: Fits
) -> Change | None:
    """The first leg whose exchange takes so much more of it."""
    for leg in legs:
        if fits(leg, EXACT.add(leg.remaining_quantity, more)) is None:
            return Change(
                order_id=leg.client_order_id,
                new_quantity=EXACT.add(leg.quantity, more),
                new_price=new_price if new_price not in {None, leg.price} else None,
            )
    return None


def _refusal(parent: OrderState, legs: list[OrderState], wish: Wish) -> str | None:
    if parent.is_terminal or not legs:
        return f"the order is {parent.status.value} and no leg of it is open"
    if parent.pending is Pending.CANCEL:  # The workflow knows whether a modify is under way.
        return "a cancel of this order is still under way"
    for leg in legs:
        if _is_made_for(leg, parent, wish):
            continue
        if leg.status not in _LIVE or leg.in_doubt_since or leg.pending is not Pending.NONE:
            return f"{leg.client_order_id} is {leg.status} and not at rest at its exchange"
    if wish.new_price is not None and parent.price is None:
        return f"new_price is {number(wish.new_price)}; a {parent.order_type} order has no price"
    if wish.new_quantity is not None and wish.new_quantity <= parent.filled_quantity:
        return (
            f"new_quantity is {number(wish.new_quantity)}; "
            f"must be greater than the {number(parent.filled_quantity)} already filled"
        )
    return None


def _is_made_for(leg: OrderState, parent: OrderState, wish: Wish) -> bool:
    """Whether a leg that nobody has sent yet is what is wished already.

    An earlier try of this very task has made it, and a crash has ended that: the wish is the same.
    """
    is_whole = wish.new_quantity in {None, parent.quantity} and wish.new_price in {None, leg.price}
    return is_whole and leg.status in _UNSENT
