"""Payloads as they come: bytes of anybody, read by hand.

A typed parameter would repeat the task of a payload that it cannot read for ever.
"""

from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from trading.oms.commands import decode
    from trading.oms.errors import InvalidOrder

NOTHING = RawValue(Payload())


def decoded(payload: RawValue, model: type[Any]) -> Any:
    """The payload as `model`. Raises a non-retryable `ApplicationError` that names the field."""
    try:
        return decode(payload.payload.data, model)
    except InvalidOrder as error:
        raise ApplicationError(str(error), type="InvalidOrder", non_retryable=True) from None
