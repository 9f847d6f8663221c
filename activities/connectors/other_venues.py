"""Binance US, OKX, Bybit and Coinbase Advanced (spot): capability records and error tables.

No connector speaks to these exchanges yet; this is what one would be built on. Sources: the
exchanges' API documents, and the meanings of codes as ccxt keeps them with its classes. What could
not be found there is left out, and so is outcome unknown; the same holds for what the documents
call undecided (OKX 50004: "does not indicate success or failure"). Margins in milliseconds are
Binance's until somebody has measured the others.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from activities.connectors.binance_codes import BINANCE_RULES
from activities.connectors.classify import Answer, Operation, Rule, Verdict, parse_json, shown
from trading.oms.venue import Amend, Capabilities, DedupeScope

_REJECTED, _NEVER, _LIVES = Verdict.REJECTED, Verdict.NEVER_REACHED, Verdict.DUPLICATE
_PLACE = frozenset({Operation.PLACE})
_CHANGE = frozenset({Operation.CANCEL, Operation.AMEND})
_MARGINS = {"fence_ms": 5000, "processing_bound_ms": 10_000, "order_history_days": 90}
_WORD = string.ascii_letters + string.digits


def _rows(
    verdict: Verdict, operations: frozenset[Operation], codes: Mapping[str, str]
) -> list[Rule]:
    return [Rule(code, verdict, reason, operations=operations) for code, reason in codes.items()]


_ALL = _PLACE | _CHANGE

OKX_RULES: tuple[Rule, ...] = (
    Rule("51016", _LIVES, "an order with our clOrdId exists"),
    *_rows(_NEVER, _ALL, {
        "50011": "too many requests: refused at the door",
        "50061": "too many orders of this account: refused at the door",
        "50102": "the stamp has expired: not looked at",
    }),
    *_rows(_REJECTED, _ALL, {
        "50103": "no key", "50105": "wrong passphrase", "50111": "wrong key",
        "50113": "wrong signature", "50114": "not authorised", "51000": "the request's form",
        "51001": "no such instrument", "51010": "not for this account",
        "51024": "the account is blocked",
    }),
    *_rows(_REJECTED, _PLACE, {
        "51006": "price out of the limit", "51008": "the balance is too small",
        "51020": "less than the smallest order", "51121": "off the lot",
        "51131": "the balance is too small",
    }),
    *_rows(_REJECTED, _CHANGE, {
        "51400": "no such order", "51401": "cancelled already", "51402": "filled already",
        "51503": "no such order",
    }),
)  # fmt: skip

BYBIT_RULES: tuple[Rule, ...] = (
    Rule("170141", _LIVES, "an order with our orderLinkId exists"),
    *_rows(_NEVER, _ALL, {
        "10002": "outside of recv_window: not passed on",
        "10006": "too many requests: refused at the door",
        "10018": "too many requests of this address: refused at the door",
    }),
    *_rows(_REJECTED, _ALL, {
        "10001": "the request's form", "10003": "wrong key", "10004": "wrong signature",
        "10005": "the key may not do this", "10010": "not from this address",
        "170115": "invalid time in force", "170116": "invalid order type", "170117": "invalid side",
        "170121": "no such symbol", "170130": "the data of a parameter is invalid",
    }),
    *_rows(_REJECTED, _PLACE, {
        "170124": "amount too large", "170131": "the balance is too small",
        "170133": "price too low", "170134": "off the tick", "170135": "quantity too large",
        "170136": "less than the smallest order", "170137": "off the lot",
        "170140": "less than the smallest cost", "170193": "price too high",
        "170194": "price too low", "170210": "the engine refused", "170218": "it would take",
    }),
    *_rows(_REJECTED, _CHANGE, {
        "170139": "filled already", "170142": "cancelled already", "170143": "not on the book",
        "170213": "no such order",
    }),
)  # fmt: skip

COINBASE_RULES: tuple[Rule, ...] = (
    *_rows(_NEVER, _ALL, {
        "rate_limit_exceeded": "too many requests: refused at the door",
        "resource_exhausted": "too many requests: refused at the door",
    }),
    *_rows(_REJECTED, _ALL, {
        "authentication_error": "the key or its signature", "unauthorized": "not authorised",
        "PERMISSION_DENIED": "the key may not do this", "INVALID_ARGUMENT": "the request's form",
        "invalid_request": "the request's form", "validation_error": "the request's form",
    }),
    *_rows(_REJECTED, _PLACE, {
        "INSUFFICIENT_FUND": "the balance is too small",
        "UNSUPPORTED_ORDER_CONFIGURATION": "no such order type here",
    }),
)  # fmt: skip

RECORDS: dict[str, Capabilities] = {
    "binanceus": Capabilities(
        exchange_kind="binanceus",
        dedupe_scope=DedupeScope.OPEN_ONLY,
        lookup_by_client_id=True,
        fence="recvWindow",
        amend=Amend.CANCEL_REPLACE,
        client_id_length=36,
        client_id_alphabet=_WORD + "-_",
        **_MARGINS,
    ),
    "okx": Capabilities(
        exchange_kind="okx",
        dedupe_scope=DedupeScope.OPEN_ONLY,
        lookup_by_client_id=True,
        fence="expTime",
        amend=Amend.IN_PLACE,
        client_id_length=32,
        client_id_alphabet=_WORD,
        cancel_all_after="cancel-all-after",
        **_MARGINS,
    ),
    "bybit": Capabilities(
        exchange_kind="bybit",
        dedupe_scope=DedupeScope.OPEN_ONLY,
        lookup_by_client_id=True,
        fence="recv_window",
        amend=Amend.IN_PLACE,
        client_id_length=36,
        client_id_alphabet=_WORD + "-_",
        **_MARGINS,
    ),
    # A client id sent again is not refused. No fence: a late request is taken whenever it arrives,
    # and an order in doubt that is not found stays so until an operator says what became of it.
    "coinbase": Capabilities(
        exchange_kind="coinbase",
        dedupe_scope=DedupeScope.NONE,
        lookup_by_client_id=False,
        fence=None,
        amend=Amend.IN_PLACE,
        client_id_length=36,
        client_id_alphabet=_WORD + "-",
        **_MARGINS,
    ),
}
RULES: dict[str, Sequence[Rule]] = {
    "binanceus": BINANCE_RULES,
    "okx": OKX_RULES,
    "bybit": BYBIT_RULES,
    "coinbase": COINBASE_RULES,
}


@dataclass(frozen=True)
class SpokenAnswer(Answer):
    """A response of an exchange that refuses with HTTP 200, by a code of its own in the JSON."""

    @property
    def is_refusal(self) -> bool:
        """A code with HTTP 200, or a 4xx."""
        return self.code is not None and (self.status == HTTPStatus.OK or super().is_refusal)

    @property
    def is_success(self) -> bool:
        """HTTP 200 with JSON and without a code."""
        return self.status == HTTPStatus.OK and isinstance(self.body, dict) and self.code is None


def read_answer(
    kind: str, status: int, headers: Mapping[str, str], text: str, scrub: Callable[[str], str] = str
) -> Answer:
    """Read a response of one of these exchanges. Anything may come back; nothing here raises."""
    if kind == "binanceus":
        return Answer.read(status, headers, text, scrub)
    body = parse_json(text)
    code, message = _CODES[kind](body) if isinstance(body, dict) else (None, text)
    words = shown(scrub(message))
    return SpokenAnswer(status, text, headers, body, code, message, words)


def _okx(body: Mapping[str, Any]) -> tuple[str | None, str]:
    """`code` "0" is a success; "1" and "2" say that the word is in the row's `sCode`."""
    code, message = str(body.get("code", "?")), str(body.get("msg", ""))
    rows = body.get("data")
    row = rows[0] if isinstance(rows, list) and len(rows) == 1 else None
    if isinstance(row, dict) and row.get("sCode") not in {None, "0"}:
        return str(row["sCode"]), str(row.get("sMsg", ""))
    return (None if code == "0" else code), message


def _bybit(body: Mapping[str, Any]) -> tuple[str | None, str]:
    """`retCode` 0 is a success."""
    code = str(body.get("retCode", "?"))
    return (None if code == "0" else code), str(body.get("retMsg", ""))


def _coinbase(body: Mapping[str, Any]) -> tuple[str | None, str]:
    """A command has succeeded where `success` is true; a cancel says it in its one result."""
    rows = body.get("results")
    word = rows[0] if isinstance(rows, list) and len(rows) == 1 else body
    if not isinstance(word, dict):
        return "?", ""
    if word.get("success") is True:
        return None, ""
    inner = word.get("error_response")
    row = inner if isinstance(inner, dict) else word
    code = row.get("error") or row.get("failure_reason") or "?"
    return str(code), str(row.get("message", ""))


_CODES = {"okx": _okx, "bybit": _bybit, "coinbase": _coinbase}
