"""The answers to submissions, cancels and modifications, from an order's state."""

from collections.abc import Sequence

from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode, RejectedBy
from trading.oms.models import CancelResult, OrderResult, OrderState

_UNANSWERED = frozenset(
    {OrderStatus.CREATED, OrderStatus.PENDING_SUBMISSION, OrderStatus.SUBMITTED}
)
_REFUSED = frozenset({OrderStatus.REJECTED, OrderStatus.ERROR})
_CANCEL_OUTCOMES = {
    OrderStatus.CANCELLED: CancelOutcome.CANCELLED,
    OrderStatus.FILLED: CancelOutcome.ALREADY_FILLED,
}


def is_answer(state: OrderState) -> bool:
    """Whether a submission has its outcome: the exchange's word, a refusal, or known doubt."""
    return state.status not in _UNANSWERED or state.in_doubt_since is not None


def result_of(state: OrderState, content_hash: str | None = None) -> OrderResult:
    """The answer to a submission, as far as it is known."""
    refused = state.status in _REFUSED
    return OrderResult(
        success=not refused,
        order_id=state.client_order_id,
        status=state.status,
        in_doubt=state.in_doubt_since is not None,
        error=state.rejection_reason if refused else None,
        reason_code=state.reason_code if refused else None,
        rejected_by=state.rejected_by,
        content_hash=content_hash,
        state=state,
    )


def different_content(state: OrderState, difference: Sequence[str]) -> OrderResult:
    """The refusal of an order whose id another order has."""
    return OrderResult(
        success=False,
        order_id=state.client_order_id,
        status=state.status,
        error="the id belongs to an order with other content: " + "; ".join(difference),
        reason_code=ReasonCode.ORDER_EXISTS_WITH_DIFFERENT_CONTENT,
        rejected_by=RejectedBy.OMS,
        state=state,
    )


def cancel_result(state: OrderState, error: str | None = None) -> CancelResult:
    """The answer to a cancel: the outcome where the order has ended, else pending or in doubt."""
    if state.is_terminal:
        outcome = _CANCEL_OUTCOMES.get(state.status, CancelOutcome.ALREADY_ENDED)
    elif state.in_doubt_since is not None:
        outcome = CancelOutcome.IN_DOUBT
    else:
        outcome = CancelOutcome.PENDING
    return CancelResult(
        success=outcome is CancelOutcome.CANCELLED,
        order_id=state.client_order_id,
        outcome=outcome,
        filled_quantity=state.filled_quantity,
        status=state.status,
        error=error,
    )


def modification_refused(state: OrderState, reason: str) -> OrderResult:
    """The answer to a modification that did not happen; the order goes on as it was."""
    return OrderResult(
        success=False,
        order_id=state.client_order_id,
        status=state.status,
        in_doubt=state.in_doubt_since is not None,
        error=reason,
        state=state,
    )


def not_resolved(state: OrderState, reason: str) -> OrderResult:
    """The answer to a verdict that changed nothing: the doubt goes on, or there is none."""
    return modification_refused(state, reason)
