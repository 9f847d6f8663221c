"""What the answers of exchanges without a connector would prove."""

import json

import pytest

from activities.connectors.classify import Operation, judge
from activities.connectors.other_venues import RECORDS, RULES, read_answer
from trading.oms.errors import (
    DuplicateOrder,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)
from trading.oms.identity import exchange_client_id

PLACE, CANCEL = Operation.PLACE, Operation.CANCEL


def okx(code: str, inner: str | None = None) -> dict[str, object]:
    return {"code": code, "msg": "", "data": [{"sCode": inner, "sMsg": ""}] if inner else []}


def bybit(code: int) -> dict[str, object]:
    return {"retCode": code, "retMsg": "", "result": {}}


def coinbase(error: str) -> dict[str, object]:
    return {"success": False, "error_response": {"error": error, "message": ""}}


@pytest.mark.parametrize(
    ("kind", "status", "body", "operation", "error"),
    [
        ("okx", 200, okx("0", "0"), PLACE, None),
        ("okx", 200, okx("1", "51008"), PLACE, ExchangeRejected),
        ("okx", 200, okx("1", "51016"), PLACE, DuplicateOrder),
        ("okx", 200, okx("1", "51400"), CANCEL, ExchangeRejected),
        ("okx", 200, okx("1", "51400"), PLACE, OutcomeUnknown),
        ("okx", 200, okx("50004"), PLACE, OutcomeUnknown),
        ("okx", 200, okx("1", "51149"), PLACE, OutcomeUnknown),
        ("okx", 429, okx("50011"), PLACE, ExchangeUnavailable),
        ("okx", 401, okx("50102"), PLACE, ExchangeUnavailable),
        ("okx", 503, okx("51008"), PLACE, OutcomeUnknown),
        ("bybit", 200, bybit(0), PLACE, None),
        ("bybit", 200, bybit(170131), PLACE, ExchangeRejected),
        ("bybit", 200, bybit(170141), PLACE, DuplicateOrder),
        ("bybit", 200, bybit(10002), PLACE, ExchangeUnavailable),
        ("bybit", 200, bybit(10016), PLACE, OutcomeUnknown),
        ("bybit", 200, bybit(170213), CANCEL, ExchangeRejected),
        ("coinbase", 200, {"success": True}, PLACE, None),
        ("coinbase", 200, {"results": [{"success": True}]}, CANCEL, None),
        ("coinbase", 200, {"results": [{"success": False}]}, CANCEL, OutcomeUnknown),
        ("coinbase", 200, coinbase("INSUFFICIENT_FUND"), PLACE, ExchangeRejected),
        ("coinbase", 200, coinbase("UNKNOWN_FAILURE_REASON"), PLACE, OutcomeUnknown),
        ("coinbase", 429, {"error": "rate_limit_exceeded"}, PLACE, ExchangeUnavailable),
        ("coinbase", 500, {"error": "internal_server_error"}, PLACE, OutcomeUnknown),
        ("binanceus", 400, {"code": -2010, "msg": "Duplicate order sent."}, PLACE, DuplicateOrder),
        ("binanceus", 504, {"code": -1007, "msg": ""}, PLACE, OutcomeUnknown),
    ],
)
def test_an_answer_proves_what_its_very_code_says(
    kind: str,
    status: int,
    body: dict[str, object],
    operation: Operation,
    error: type[Exception] | None,
) -> None:
    answer = read_answer(kind, status, {}, json.dumps(body))
    judged = judge(answer, operation, RULES[kind])
    assert (type(judged) if judged is not None else None) is error


@pytest.mark.parametrize("kind", ["okx", "bybit", "coinbase"])
@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"x": 1}', "null", ""])
def test_what_is_no_answer_of_theirs_is_unknown(kind: str, text: str) -> None:
    for status in (200, 403):
        answer = read_answer(kind, status, {}, text)
        assert type(judge(answer, PLACE, RULES[kind])) is OutcomeUnknown


@pytest.mark.parametrize("kind", RECORDS)
def test_our_client_ids_fit_everywhere(kind: str) -> None:
    ours, record = exchange_client_id("oms", "an order", 1, 1), RECORDS[kind]
    assert len(ours) <= record.client_id_length
    assert set(ours) <= set(record.client_id_alphabet)
    assert record.experimental
