"""Binance's answer to POST /api/v3/order/cancelReplace: what became of each half.

Source: rest-api.md, "Cancel an Existing Order and Send a New Order". With STOP_ON_FAILURE there are
three words: both halves done (200), the cancel refused and the new order not attempted (400,
-2022), the cancel done and the new order refused (409 or 429, -2021). Anything else is no word.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from activities.connectors.binance_codes import BINANCE_RULES
from activities.connectors.classify import Answer, Operation, judge, shown
from activities.connectors.fields import MalformedError, object_of, text_of
from activities.connectors.reports import BinanceReader
from trading.oms.errors import ExchangeError, ExchangeUnavailable, OutcomeUnknown
from trading.oms.venue_changes import Replacement

_HALF_DONE = frozenset({"-2021", "-2022"})
_DONE, _FAILED, _NOT_ATTEMPTED = "SUCCESS", "FAILURE", "NOT_ATTEMPTED"
_SAID_SO = frozenset(
    {
        HTTPStatus.OK,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


def replacement_of(answer: Answer | None, reader: BinanceReader) -> Replacement | None:
    """What an answer says of both halves; None where it says nothing of them.

    Raises `MalformedError` where it contradicts itself or the mode that we ask for.
    """
    said = _word_on_both(answer)
    if answer is None or said is None:
        return None
    results = text_of(said, "cancelResult"), text_of(said, "newOrderResult")
    if results == (_DONE, _DONE):
        placed = reader.placed(said.get("newOrderResponse"))
        return Replacement(reader.cancelled(said.get("cancelResponse")), placed)
    if results == (_DONE, _FAILED):
        cancelled = reader.cancelled(said.get("cancelResponse"))
        return Replacement(cancelled, _refusal(answer, said.get("newOrderResponse")))
    if results == (_FAILED, _NOT_ATTEMPTED):
        return Replacement(None, _not_attempted(answer, said.get("cancelResponse")))
    raise MalformedError(f"a cancel-replace with the results {' and '.join(results)}")


def code_of_new_order(answer: Answer) -> str | None:
    """The exchange's code for a new order that was refused after the cancel; None without one."""
    said = _word_on_both(answer)
    refusal = said.get("newOrderResponse") if said is not None else None
    return str(refusal.get("code")) if isinstance(refusal, dict) and "code" in refusal else None


def _word_on_both(answer: Answer | None) -> Mapping[str, Any] | None:
    if answer is None or answer.status not in _SAID_SO or not isinstance(answer.body, dict):
        return None
    if answer.status == HTTPStatus.OK:
        return answer.body if "cancelResult" in answer.body else None
    data = answer.body.get("data")
    return data if answer.code in _HALF_DONE and isinstance(data, dict) else None


def _refusal(answer: Answer, half: Any) -> ExchangeError:
    """What the refusal of the new order proves: the same as if it had been sent alone."""
    inner = _inner(answer, half)
    error = judge(inner, Operation.PLACE, BINANCE_RULES)
    return error or OutcomeUnknown(f"the new order was refused without a word: {inner.words}")


def _not_attempted(answer: Answer, half: Any) -> ExchangeUnavailable:
    inner = _inner(answer, half)
    text = f"the old order was not cancelled: {inner.words or 'no reason given'}"
    return ExchangeUnavailable(text, code=inner.code, status=answer.status)


def _inner(answer: Answer, half: Any) -> Answer:
    row = object_of(half)
    code, message = row.get("code"), str(row.get("msg") or "")
    return Answer(
        answer.status,
        answer.text,
        answer.headers,
        row,
        shown(str(code))[:32] if code is not None else None,
        message,
        shown(message),
    )
