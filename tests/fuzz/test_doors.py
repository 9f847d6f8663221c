"""Whatever comes in at a door is taken or refused in words: no other exception, ever.

A few dozen tries for each door in the suite; the long run, 1,000 for each and some 0.6 s of CPU for
one try at all doors, is `make test ARGS="tests/fuzz --hypothesis-profile=long --timeout=3600"`.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from activities.connectors.account import balances_of, best_of, levels_of
from activities.connectors.binance_codes import BINANCE_RULES
from activities.connectors.classify import Answer, Operation, judge, parse_json
from activities.connectors.fields import MalformedError
from activities.connectors.instruments import instruments_of
from activities.messages import Account, CancelAllWish
from activities.reconcile_messages import ReconcileRequest
from activities.store.inbox import InboxAdd
from tests.activities.test_connector_reports import EVENT, FULL, READER, ROW, TRADE
from tests.fuzz.hostile import (
    ACCOUNT,
    CANCEL,
    CANCEL_ALL,
    MODIFY,
    ODD,
    OUTCOME,
    RECONCILE,
    REPORT,
    RESOLVE,
    anything,
    as_bytes,
    changed,
    in_words,
    tries,
)
from trading.oms.cli.failures import Exit
from trading.oms.cli.program import oms, program
from trading.oms.cli.target import DECIDING
from trading.oms.commands import (
    CancelRequest,
    ExecutionBatch,
    ModifyRequest,
    OrderInput,
    OutcomeRequest,
    ResolveRequest,
    decode,
    validated,
)
from trading.oms.errors import ExchangeError, InvalidOrder, OutcomeUnknown, StartUpError
from trading.oms.models import Fill, Order
from trading.oms.venue import ExecutionReport
from workers.settings import EXCHANGE_VARIABLES, VARIABLES, Settings

ORDER = {
    "client_order_id": "a-1", "symbol": "BTC/USDT", "side": "buy", "order_type": "limit",
    "quantity": "0.01", "price": "30000", "time_in_force": "GTC", "metadata": {"a": 1},
}  # fmt: skip


MODELS: dict[type[BaseModel], dict[str, Any]] = {
    OrderInput: {"order": ORDER},
    CancelRequest: CANCEL,
    ModifyRequest: MODIFY,
    ResolveRequest: RESOLVE,
    OutcomeRequest: OUTCOME,
    ExecutionBatch: {"reports": [REPORT]},
    Account: ACCOUNT,
    CancelAllWish: CANCEL_ALL,
    ReconcileRequest: RECONCILE,
}


def payloads(base: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Bytes of any kind, and the object itself with parts of it spoilt, on the inside too."""
    inner = [{name: changed(value)} for name, value in base.items() if isinstance(value, dict)]
    spoilt = changed(base) | st.one_of(
        *(
            st.fixed_dictionaries({**{k: st.just(v) for k, v in base.items()}, **one})
            for one in inner
        )
    )
    return (
        st.binary(max_size=200)
        | anything.map(as_bytes)
        | spoilt.map(as_bytes)
        | spoilt.map(lambda value: json.dumps(value).encode("utf-16"))
        | st.integers(1, 5000).map(lambda depth: b"[" * depth + b"]" * depth)
        | st.integers(1, 5000).map(lambda depth: b'{"order":' * depth + b"1" + b"}" * depth)
    )


@pytest.mark.parametrize(("model", "base"), MODELS.items())
@tries
@given(data=st.data())
def test_a_payload_is_read_or_refused(
    model: type[BaseModel], base: dict[str, Any], data: st.DataObject
) -> None:
    try:
        read = decode(data.draw(payloads(base)), model)
    except InvalidOrder as refusal:
        in_words(refusal)
    else:
        assert read.model_dump_json()


@pytest.mark.parametrize(("model", "base"), MODELS.items())
def test_half_a_character_is_refused_and_its_place_is_named(
    model: type[BaseModel], base: dict[str, Any]
) -> None:
    """JSON can escape half of a surrogate pair; nobody can write it down, or send it on."""
    for name in base:
        with pytest.raises(InvalidOrder, match=rf"^{name}: is '\\ud800'; must be whole characters"):
            decode(as_bytes({**base, name: "\ud800"}), model)
    with pytest.raises(InvalidOrder, match="the name of a field: is"):
        decode(as_bytes({**base, "\ud800": 1}), model)
    with pytest.raises(InvalidOrder):
        decode('{"reason": "\ud800"}'.encode("utf-8", "surrogatepass"), model)
    whole = as_bytes({**base, "😀": "😀"})
    with pytest.raises(InvalidOrder, match="is not a field"):
        decode(whole, model)


@tries
@given(fields=changed(ORDER))
def test_an_order_of_python_values_is_made_or_refused(fields: dict[str, Any]) -> None:
    try:
        order = validated(fields, Order)
    except InvalidOrder as refusal:
        in_words(refusal)
    else:
        assert Order.model_validate_json(order.model_dump_json()) == order


words = st.sampled_from([*program.commands, "--json", "--help", "--price", "--id", "-x", "--wait"])
arguments = st.lists(
    words
    | st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from(["0", "NaN", "1e9"])
)
HARMLESS = sorted(set(program.commands) - {"up", "demo", "worker", "migrate", "exec", "bench"})


@tries
@given(command=st.sampled_from(HARMLESS), rest=arguments)
def test_arguments_are_taken_or_refused_in_one_line(
    command: str,
    rest: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in DECIDING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = oms([command, *rest])
    shown = capsys.readouterr()
    assert code in {Exit.OK, Exit.REFUSED, Exit.BAD_INPUT, Exit.UNREACHABLE}, shown.err
    assert "Traceback" not in shown.err


variables = [one.name for one in VARIABLES] + [
    one.name.replace("<NAME>", "X") for one in EXCHANGE_VARIABLES
]
values = st.text(max_size=20) | st.sampled_from([str(one) for one in ODD])


@tries
@given(
    environment=st.dictionaries(st.sampled_from(variables), values),
    exchanges=st.sampled_from(["", "x", "x,x", ",", "x,y", "X", "\x00", "x" * 100]),
)
def test_an_environment_is_read_or_refused(environment: dict[str, str], exchanges: str) -> None:
    given_values = {"OMS_X_API_KEY": "k", "OMS_X_API_SECRET": "s", **environment}
    try:
        read = Settings.from_environment({**given_values, "OMS_EXCHANGES": exchanges})
        for one in read.exchanges:
            one.check()
    except StartUpError as refusal:
        in_words(refusal)


BALANCES = {"balances": [{"asset": "BTC", "free": "1.0", "locked": "0.0"}]}
TICKER = {"symbol": "BTCUSDT", "bidPrice": "1.0", "askPrice": "2.0"}
DEPTH = {"bids": [["1.0", "2.0"]], "asks": [["2.0", "1.0"]]}
MY_TRADE = {
    "symbol": "BTCUSDT", "id": 28457, "orderId": 100234, "price": "4.0", "qty": "12.0",
    "commission": "10.1", "commissionAsset": "BNB", "time": 1499865549590, "isBuyer": True,
    "isMaker": False,
}  # fmt: skip
AMENDED = {"transactTime": 1741926410255, "amendedOrder": {**ROW, "qty": "5.0"}}
SYMBOL = {
    "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT",
    "isSpotTradingAllowed": True, "baseAssetPrecision": 8, "quotePrecision": 8,
    "filters": [{"filterType": "PRICE_FILTER", "minPrice": "0.01", "tickSize": "0.01"}],
}  # fmt: skip
READERS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "placed": (READER.placed, FULL),
    "fill of placed": (lambda part: READER.placed({**FULL, "fills": [part]}), FULL["fills"][0]),
    "cancelled": (READER.cancelled, {**ROW, "origClientOrderId": "ours", "transactTime": 1}),
    "amended": (READER.amended, AMENDED),
    "queried": (READER.queried, ROW),
    "traded": (READER.traded, MY_TRADE),
    "streamed": (READER.streamed, EVENT),
    "streamed trade": (READER.streamed, {**EVENT, **TRADE}),
    "balances": (balances_of, BALANCES),
    "balance": (lambda row: balances_of({"balances": [row]}), BALANCES["balances"][0]),
    "best": (best_of, TICKER),
    "levels": (lambda raw: levels_of(raw, "bids"), DEPTH),
    "exchangeInfo": (lambda raw: instruments_of("x", raw), {"symbols": [SYMBOL]}),
    "symbol": (lambda row: instruments_of("x", {"symbols": [row]}), SYMBOL),
}


@pytest.mark.parametrize("name", READERS)
@tries
@given(data=st.data())
def test_an_exchange_s_answer_is_read_or_malformed(name: str, data: st.DataObject) -> None:
    read, base = READERS[name]
    raw = parse_json(json.dumps(data.draw(changed(base) | anything)))
    try:
        found = read(raw)
    except MalformedError as refusal:
        in_words(refusal)
    else:
        if isinstance(found, ExecutionReport):
            can_be_kept(found)
        elif isinstance(found, Fill):
            assert Fill.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("field", ["clientOrderId", "symbol"])
def test_an_id_that_the_store_cannot_hold_is_malformed(field: str) -> None:
    """A row of somebody else's order: the database would refuse it, and the batch with it."""
    with pytest.raises(MalformedError):
        READER.queried({**ROW, field: "x" * 65})


def can_be_kept(report: ExecutionReport) -> None:
    """What is read from an exchange must fit into the store of both databases."""
    [row] = InboxAdd([report])._rows
    assert ExecutionReport.model_validate_json(row["report"]) == report
    assert all(len(row[name] or "") <= 64 for name in ("exchange_client_id", "exchange_order_id"))


@pytest.mark.parametrize("operation", list(Operation))
@tries
@given(
    status=st.integers(100, 599),
    text=st.text(max_size=100)
    | changed({"code": -2010, "msg": "no"}).map(json.dumps)
    | st.sampled_from(["<html>502</html>", '{"orderId": 1', "null", "[]", "{}", "[" * 9000]),
    headers=st.dictionaries(st.sampled_from(["Retry-After", "X-MBX-USED-WEIGHT-1M"]), values),
)
def test_whatever_answers_a_request_has_one_meaning(
    operation: Operation, status: int, text: str, headers: dict[str, str]
) -> None:
    error = judge(Answer.read(status, headers, text), operation, BINANCE_RULES)
    assert error is None or isinstance(error, ExchangeError)
    if error is not None and operation.is_command and status >= 500:
        assert isinstance(error, OutcomeUnknown)
