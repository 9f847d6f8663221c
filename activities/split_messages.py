"""What the workflow of an order that is split tells its activities, and what they answer."""

from pydantic import Field

from activities.messages import Message
from trading.oms.models import Exact, OrderState
from trading.oms.routing.base import Refusal
from trading.oms.split_change import Plan, Wish


class SplitQuestion(Message):
    """Divide a quantity of an order into legs, the first of them with this number.

    `refused` are the exchanges that do not count any more, with the reasons. `adds` makes the order
    greater by it; else it is of the quantity that the order has. `price`: None is the order's.
    """

    order_id: str
    quantity: Exact
    first: int = 1
    price: Exact | None = None
    adds: bool = False
    refused: dict[str, Refusal] = Field(default_factory=dict)


class Legs(Message):
    """A split order and its legs, by number."""

    state: OrderState
    legs: tuple[OrderState, ...]


class LegWish(Message):
    """Ask a leg for a cancel, or for a modification where new values are given."""

    order_id: str
    reason: str | None = None
    new_quantity: Exact | None = None
    new_price: Exact | None = None


class LegAnswer(Message):
    """Whether a leg has done what was asked, as far as it said, and else why not."""

    order_id: str
    success: bool
    reason: str | None = None


class SplitWish(Message):
    """Share a change of a split order out over its legs, as they are now."""

    order_id: str
    wish: Wish


class SplitPlan(Message):
    """How, with the order and the legs by which it was decided."""

    legs: Legs
    plan: Plan
