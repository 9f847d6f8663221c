"""What an exchange's answer proves, row by row, and what it never proves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.connectors.binance_codes import BINANCE_RULES
from activities.connectors.classify import Answer, Operation, judge, transport_failure
from trading.oms.errors import (
    DuplicateOrder,
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)

PLACE, CANCEL, AMEND, QUERY = (
    Operation.PLACE,
    Operation.CANCEL,
    Operation.AMEND,
    Operation.QUERY,
)


def error_json(code: object, text: str = "some words") -> str:
    return f'{{"code": {code}, "msg": "{text}"}}'


def outcome(status: int, body: str, operation: Operation, **headers: str) -> ExchangeError | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(Answer.read(status, named, body), operation, BINANCE_RULES)


@pytest.mark.parametrize(
    ("status", "body", "operation", "expected"),
    [
        # The exchange says no, definitely.
        (400, error_json(-1013, "Filter failure: LOT_SIZE"), PLACE, ExchangeRejected),
        (400, error_json(-1111), PLACE, ExchangeRejected),
        (400, error_json(-1121, "Invalid symbol."), PLACE, ExchangeRejected),
        (400, error_json(-1022), PLACE, ExchangeRejected),
        (401, error_json(-2015), PLACE, ExchangeRejected),
        (400, error_json(-2010, "Account has insufficient balance"), PLACE, ExchangeRejected),
        (400, error_json(-2010, "Order would immediately match"), PLACE, ExchangeRejected),
        (400, error_json(-2011, "Unknown order sent."), CANCEL, ExchangeRejected),
        (400, error_json(-2013, "Order does not exist."), AMEND, ExchangeRejected),
        (400, error_json(-2038), AMEND, ExchangeRejected),
        # An order with our id lives.
        (400, error_json(-2010, "Duplicate order sent."), PLACE, DuplicateOrder),
        # It never reached the engine.
        (429, error_json(-1003), PLACE, ExchangeUnavailable),
        (418, error_json(-1003), PLACE, ExchangeUnavailable),
        (429, error_json(-1015, "Too many new orders."), PLACE, ExchangeUnavailable),
        (400, error_json(-1015, "Too many new orders."), PLACE, ExchangeUnavailable),
        (429, "", PLACE, ExchangeUnavailable),
        (418, "<html>teapot</html>", CANCEL, ExchangeUnavailable),
        (400, error_json(-1021), PLACE, ExchangeUnavailable),
        # Nobody knows.
        (500, error_json(-1000), PLACE, OutcomeUnknown),
        (503, "Service Unavailable", PLACE, OutcomeUnknown),
        (504, error_json(-1007), PLACE, OutcomeUnknown),
        (400, error_json(-1006), PLACE, OutcomeUnknown),
        (400, error_json(-1007), CANCEL, OutcomeUnknown),
        (400, error_json(-1008), PLACE, OutcomeUnknown),
        (400, error_json(-9999, "A code of tomorrow"), PLACE, OutcomeUnknown),
        (400, error_json('"-2010x"'), PLACE, OutcomeUnknown),
        (400, "", PLACE, OutcomeUnknown),
        (400, '{"code": null, "msg": "no code"}', PLACE, OutcomeUnknown),
        (400, '{"code": true, "msg": "no code"}', PLACE, OutcomeUnknown),
        (403, "<html>firewall</html>", PLACE, OutcomeUnknown),
        (429, error_json(-2010), CANCEL, OutcomeUnknown),
        # A 5xx proves nothing, whatever code it carries.
        (503, error_json(-2010), PLACE, OutcomeUnknown),
        (500, error_json(-1021), PLACE, OutcomeUnknown),
        # The word on a cancel proves nothing about a new order.
        (400, error_json(-2011), PLACE, OutcomeUnknown),
        # A success that is none.
        (200, "", PLACE, OutcomeUnknown),
        (200, "null", PLACE, OutcomeUnknown),
        (200, '{"orderId": 12', PLACE, OutcomeUnknown),
        (200, error_json(-2010), PLACE, OutcomeUnknown),
        (307, "", PLACE, OutcomeUnknown),
        (200, '{"orderId": 12}', PLACE, None),
        (200, "[]", QUERY, None),
    ],
)
def test_an_answer_means_what_the_table_says(
    status: int, body: str, operation: Operation, expected: type[ExchangeError] | None
) -> None:
    found = outcome(status, body, operation)

    assert (type(found) if found else None) is expected


@pytest.mark.parametrize("status", [200, 301, 400, 403, 418, 429, 500, 503])
@pytest.mark.parametrize("code", [-1003, -1007, -1021, -2010, -2013, -9999])
def test_a_query_that_fails_is_never_more_than_unavailable(status: int, code: int) -> None:
    assert type(outcome(status, error_json(code), QUERY)) is ExchangeUnavailable


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("12", 12.0), ("0", 0.0), ("-1", None), ("soon", None), ("nan", None), ("inf", None)],
)
def test_the_pause_is_read_from_the_header(header: str, seconds: float | None) -> None:
    found = outcome(429, error_json(-1003), PLACE, retry_after=header)

    assert isinstance(found, ExchangeUnavailable)
    assert found.retry_after == seconds


def test_the_exchanges_own_words_are_kept() -> None:
    found = outcome(400, error_json(-2011, "Unknown order sent."), CANCEL)

    assert found is not None
    assert (found.status, found.code, found.text) == (400, "-2011", "Unknown order sent.")


def test_a_text_from_outside_is_safe_to_store() -> None:
    found = outcome(400, '{"code": -9999, "msg": "a\\u0000b\\ud800\\nc"}', PLACE)

    assert found is not None
    assert found.text == "a?b? c"


def test_a_code_stands_for_one_verdict_per_command() -> None:
    keys = [
        (rule.code, rule.status, rule.contains, operation)
        for rule in BINANCE_RULES
        for operation in rule.operations
    ]
    assert len(keys) == len(set(keys))
    assert all(rule.reason for rule in BINANCE_RULES)


@pytest.mark.parametrize(
    ("operation", "written", "expected"),
    [
        (PLACE, False, ExchangeUnavailable),
        (PLACE, True, OutcomeUnknown),
        (CANCEL, True, OutcomeUnknown),
        (AMEND, True, OutcomeUnknown),
        (QUERY, True, ExchangeUnavailable),
        (QUERY, False, ExchangeUnavailable),
    ],
)
def test_without_an_answer_only_the_write_counts(
    operation: Operation, written: bool, expected: type[ExchangeError]
) -> None:
    assert type(transport_failure("reset", operation, written=written)) is expected


@given(
    status=st.integers(100, 599),
    body=st.one_of(
        st.text(),
        st.builds(error_json, st.integers()),
        st.integers(-1200, -1000).map(error_json),
        st.integers(-2100, -2000).map(error_json),
    ),
    operation=st.sampled_from(Operation),
)
def test_every_answer_is_a_success_or_one_of_the_classes(
    status: int, body: str, operation: Operation
) -> None:
    found = outcome(status, body, operation)

    if found is None:
        assert 200 <= status < 300
    elif operation is QUERY:
        assert type(found) is ExchangeUnavailable
    elif not 400 <= status < 500:
        assert type(found) is OutcomeUnknown
