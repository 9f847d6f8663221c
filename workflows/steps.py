"""The order's activities as the workflow calls them: one function each, with its time limits.

They are called by their names, so that a workflow loads no database and no exchange.

Local activities run inside the workflow task and cost no state transition. They are retried for
ever: what an exchange refuses comes back as a value, so an exception means that the store is
away, and an order waits for it. Long look-ups are regular activities on the queue for long work.
"""

from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.messages import (
        AmendAt,
        Booked,
        CancelAt,
        ChangeAnswer,
        ClaimFacts,
        CollectAt,
        Known,
        LookUp,
        Note,
        OrderAt,
        Placed,
        Prepared,
        RateAnswer,
        RateQuestion,
        Reports,
        RiskAnswer,
        RiskQuestion,
        Routed,
        Send,
        SendAnswer,
        Sighting,
    )
    from activities.split_messages import (
        LegAnswer,
        Legs,
        LegWish,
        SplitPlan,
        SplitQuestion,
        SplitWish,
    )
    from trading.oms.lifecycle import LifecycleEvent
    from trading.oms.models import Order
    from trading.oms.reading import number
    from trading.oms.venue import ExecutionReport

_Answer = TypeVar("_Answer")
_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
)
_ONCE = RetryPolicy(maximum_attempts=1)
LATE_S = 60.0
"""How long after its time an order that nobody has sent may still be sent."""
# Longer pauses are timers: a step that is repeated within its task holds a slot and keeps the
# worker from stopping.
_PAUSE_IN_TASK = timedelta(seconds=1)
_STEP_TIMEOUT = timedelta(seconds=10)
_LOOK_UP_TIMEOUT = timedelta(seconds=20)
_SILENCE_MAX = timedelta(seconds=4)


def io_queue(task_queue: str) -> str:
    """The queue for what takes long, of the deployment whose orders run on `task_queue`.

    Two deployments in one namespace must not look up each other's orders.
    """
    return f"{task_queue}-io"


async def _local(
    step: str,
    argument: Any,
    answer: type[_Answer],
    summary: str | None = None,
    retry: RetryPolicy = _RETRY,
) -> _Answer:
    result: _Answer = await workflow.execute_local_activity(
        step,
        argument,
        result_type=answer,
        start_to_close_timeout=_STEP_TIMEOUT,
        local_retry_threshold=_PAUSE_IN_TASK,
        retry_policy=retry,
        summary=summary,
    )
    return result


async def place(order: Order) -> Placed | None:
    """Decide about a new order and send it, where nothing has to wait; else prepare it.

    It is tried once. None: something failed, and `prepare` finds out what has come of it.
    """
    summary = f"place {order.side} {number(order.quantity)} {order.symbol}"
    try:
        return await _local("place_order", order, Placed, summary, retry=_ONCE)
    except FailureError as error:
        if is_cancelled_exception(error):
            raise
        return None


async def prepare(order: Order) -> Prepared:
    """Insert the order or find it, choose the venue, run the checks, take a rate limit's slot."""
    return await _local("prepare_order", order, Prepared, "admit, route, check, rate limit")


async def load(order_id: str) -> Known:
    """Read the state of a known order."""
    return await _local("load_order", order_id, Known)


async def split(question: SplitQuestion) -> Routed:
    """Make legs for a quantity of a split order."""
    return await _local("split_order", question, Routed)


async def load_legs(order_id: str) -> Legs:
    """Read a split order with its legs."""
    return await _local("load_legs", order_id, Legs)


async def plan_split_change(question: SplitWish) -> SplitPlan:
    """Share a change of a split order out over its legs."""
    return await _local("plan_split_change", question, SplitPlan)


async def ask_leg(wish: LegWish) -> LegAnswer:
    """Ask the workflow of a leg for a cancel or a modification, until it has taken it."""
    answer: LegAnswer = await workflow.execute_activity(
        "ask_leg",
        wish,
        result_type=LegAnswer,
        task_queue=io_queue(workflow.info().task_queue),
        start_to_close_timeout=_LOOK_UP_TIMEOUT,
        retry_policy=_RETRY,
        summary=f"ask {wish.order_id}",
    )
    return answer


async def check_risk(question: RiskQuestion) -> RiskAnswer:
    """Run the pre-trade checks."""
    return await _local("check_risk", question, RiskAnswer)


async def acquire_rate_limit(question: RateQuestion) -> RateAnswer:
    """Take a slot of the exchange's rate limit."""
    return await _local("acquire_rate_limit", question, RateAnswer)


async def send(message: Send, summary: str) -> SendAnswer:
    """Claim and send, once; after a minute in which neither was possible it is refused."""
    not_after = workflow.now() + timedelta(seconds=LATE_S)
    message = message.model_copy(update={"not_after": not_after})
    return await _local("send_order", message, SendAnswer, summary)


async def replace(message: Send) -> SendAnswer:
    """Claim a new leg, and let the exchange place it and cancel the old one, in one request."""
    return await send(message, "cancel and replace")


async def record(
    order_id: str,
    *events: LifecycleEvent,
    not_placed: OrderAt | None = None,
    in_doubt: OrderAt | None = None,
) -> Booked:
    """Commit events of our own, and with them that a send placed nothing, or that nobody knows."""
    note = Note(order_id=order_id, events=events, not_placed=not_placed, in_doubt=in_doubt)
    return await _local("record_events", note, Booked)


async def record_unsent(order_id: str, known: ClaimFacts, *events: LifecycleEvent) -> Booked:
    """Commit events that hold only where nothing was sent after the request that is known."""
    note = Note(order_id=order_id, events=events, unsent_after=known)
    return await _local("record_events", note, Booked)


async def book(here: OrderAt, reports: tuple[ExecutionReport, ...]) -> Booked:
    """Commit what the exchange said; `here` is what carries the order."""
    message = Reports(order_id=here.order_id, reports=reports, generation=here.generation)
    return await _local("book_reports", message, Booked)


async def cancel(
    order: OrderAt, reason: str | None, *, is_replacement: bool = False
) -> ChangeAnswer:
    """Ask the exchange to cancel what carries the order."""
    message = CancelAt(at=order, reason=reason, is_replacement=is_replacement)
    return await _local("cancel_at_exchange", message, ChangeAnswer, "cancel")


async def cancel_stray(stray: OrderAt, reason: str) -> ChangeAnswer:
    """Ask the exchange to cancel this very send, whatever carries the order."""
    message = CancelAt(at=stray, reason=reason, is_replacement=True, of_strays=True)
    return await _local("cancel_at_exchange", message, ChangeAnswer, "cancel")


async def amend(message: AmendAt) -> ChangeAnswer:
    """Ask the exchange to change quantity and price in place."""
    summary = f"amend to {message.new_quantity}"
    return await _local("amend_at_exchange", message, ChangeAnswer, summary)


async def collect_fills(order: OrderAt, *, of_strays: bool = False) -> Booked:
    """Fetch the order's fills from the exchange and book them."""
    message = CollectAt(**order.model_dump(), of_strays=of_strays)
    return await _local("collect_fills", message, Booked, "collect fills")


async def look_up(order: LookUp) -> Sighting:
    """Look for an order whose send has no known outcome, by several sources."""
    sighting: Sighting = await workflow.execute_activity(
        "look_up_order",
        order,
        result_type=Sighting,
        task_queue=io_queue(workflow.info().task_queue),
        start_to_close_timeout=_LOOK_UP_TIMEOUT,
        heartbeat_timeout=_SILENCE_MAX,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=500),
            backoff_coefficient=1.5,
            maximum_interval=timedelta(seconds=10),
        ),
        summary=f"look up leg {order.leg} generation {order.generation}",
    )
    return sighting
