"""Payloads as they come: bytes of anybody, read by hand.

A typed parameter would repeat the task of a payload that it cannot read for ever.
"""

from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from trading.oms.commands import decode, validated
    from trading.oms.errors import InvalidOrder
    from trading.oms.models import Order
    from trading.oms.order_workflow import WORKFLOW_PREFIX, workflow_id

NOTHING = RawValue(Payload())


def decoded(payload: RawValue, model: type[Any]) -> Any:
    """The payload as `model`. Raises a non-retryable `ApplicationError` that names the field."""
    try:
        return decode(payload.payload.data, model)
    except InvalidOrder as error:
        raise ApplicationError(str(error), type="InvalidOrder", non_retryable=True) from None


def own_order(order: Order, its_workflow: str) -> Order:
    """The order under the id that its workflow's id has; without one of its own it gets that.

    An id made up here would be another one in each try of the first task. Raises a non-retryable
    `ApplicationError` where the two ids differ.
    """
    own = its_workflow.removeprefix(WORKFLOW_PREFIX)
    if "client_order_id" not in order.model_fields_set:
        try:
            order = validated({**order.model_dump(), "client_order_id": own}, Order)
        except InvalidOrder as error:
            raise ApplicationError(str(error), type="InvalidOrder", non_retryable=True) from None
    if its_workflow != workflow_id(order.client_order_id):
        msg = (
            f"client_order_id is {order.client_order_id!r} and the workflow's id {its_workflow!r}; "
            f"the workflow's id must be {WORKFLOW_PREFIX}<client_order_id>"
        )
        raise ApplicationError(msg, type="InvalidOrder", non_retryable=True)
    return order
