"""What the errors of Temporal's client mean to who asks an order's workflow for something."""

from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from trading.oms.errors import InvalidOrder, OrderNotFound, ServiceUnavailable

WORKFLOW = "Order"
_ENDED_MEANWHILE = "AcceptedUpdateCompletedWorkflow"
_TRY_AGAIN = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.CANCELLED,
    }
)


def why_failed(error: WorkflowFailureError, order_id: str) -> Exception:
    """What a workflow that has failed was never given: an order that it could take."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        if cause.type == "OrderNotFound":
            return OrderNotFound(f"no order has the id {order_id!r}")
        return InvalidOrder(cause.message)
    return InvalidOrder(str(cause))


def refused(error: WorkflowUpdateFailedError) -> Exception:
    """What a failed update means: asked too early, or refused for good."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == "NotYet":
        return error
    if isinstance(cause, ApplicationError) and cause.type == "InvalidOrder":
        raise InvalidOrder(cause.message) from None
    if isinstance(cause, ApplicationError) and cause.type == _ENDED_MEANWHILE:
        raise OrderNotFound(cause.message) from None
    raise error


def translated(error: RPCError) -> Exception:
    """What an RPC error means: try again, or there is no running workflow of this id."""
    if error.status in _TRY_AGAIN:
        return error
    if error.status is RPCStatusCode.NOT_FOUND:
        raise OrderNotFound(str(error)) from None
    if error.status is RPCStatusCode.ALREADY_EXISTS:
        raise WorkflowAlreadyStartedError("", WORKFLOW) from None
    raise unavailable(error) from error


def unavailable(error: RPCError) -> ServiceUnavailable:
    """Temporal itself is away, or does not want the call."""
    return ServiceUnavailable(f"Temporal did not take the call: {error}")
