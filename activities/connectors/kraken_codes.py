"""Kraken Spot's answers to a command and what they prove. Source: "Spot Error Messages".

Errors are texts, "EOrder:Insufficient funds", in a list with HTTP 200. The first row that fits
counts; what no row knows is outcome unknown. Absent on purpose: EService:Unavailable,
EService:Busy, EService:Timeout, EGeneral:Internal error and EGeneral:Unknown error, which say
nothing on whether the engine has the order, and any list with two different errors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from activities.connectors.classify import Answer, Operation, Rule, Verdict, parse_json, shown

_REJECTED = Verdict.REJECTED
_NEVER = Verdict.NEVER_REACHED
_CHANGE = frozenset({Operation.CANCEL, Operation.AMEND})
NOT_UNIQUE = "EGeneral:Invalid arguments:cl_ord_id not unique"
UNKNOWN_ORDER = "EOrder:Unknown order"

_REFUSALS = {
    "EOrder:Insufficient funds": "the balance is too small",
    "EOrder:Order minimum not met": "less than the pair's smallest order",
    "EOrder:Cost minimum not met": "less than the pair's smallest cost",
    "EOrder:Tick size check failed": "the price is off the tick",
    "EOrder:Invalid price": "the price is not allowed",
    "EOrder:Invalid order": "the order is not valid",
    "EOrder:Post only order": "it would take, and was to make",
    "EOrder:Insufficient liquidity": "nobody to trade with",
    "EOrder:Orders limit exceeded": "too many open orders",
    "EOrder:Trading agreement required": "the account may not trade",
    "EOrder:Margin allowance exceeded": "no margin",
    "EOrder:Reduce only": "nothing to reduce",
    "EAPI:Invalid key": "the key is not valid",
    "EAPI:Invalid signature": "the signature is not valid",
    "EAPI:Feature disabled": "not for this account",
    "EGeneral:Permission denied": "the key may not do this",
    "EGeneral:Invalid arguments": "the request's form",
    "EGeneral:Unknown method": "no such endpoint",
    "EQuery:Unknown asset pair": "no such pair",
    "EQuery:Invalid asset pair": "no such pair",
    "EAccount:Invalid permissions": "the account may not trade this pair",
    "ETrade:User Locked": "the account is locked",
    "EAuth:Account temporary disabled": "the account is disabled",
    "EAuth:Account unconfirmed": "the account is not confirmed",
    "EService:Market in cancel_only mode": "only cancels are taken",
    "EService:Market in post_only mode": "only makers are taken",
    "EService:Market in limit_only mode": "only limit orders are taken",
}

KRAKEN_RULES: tuple[Rule, ...] = (
    Rule(NOT_UNIQUE, Verdict.DUPLICATE, "an order with our id lives"),
    # Checked at the door, before the matching engine.
    Rule("EAPI:Rate limit exceeded", _NEVER, "too many calls: refused at the door"),
    Rule("EOrder:Rate limit exceeded", _NEVER, "too many orders in this pair: refused at the door"),
    Rule("EGeneral:Temporary lockout", _NEVER, "locked out for a while"),
    Rule("EGeneral:Too many requests", _NEVER, "too many calls: refused at the door"),
    Rule("EAuth:Rate limit exceeded", _NEVER, "too many calls: refused at the door"),
    Rule("EAuth:Too many requests", _NEVER, "too many calls: refused at the door"),
    Rule("EAPI:Invalid nonce", _NEVER, "a later request overtook it: not looked at"),
    # The fence itself: the engine drops what comes after its deadline.
    Rule("EService:Deadline elapsed", _NEVER, "its deadline had passed: the engine dropped it"),
    Rule(UNKNOWN_ORDER, _REJECTED, "no such open order to change", operations=_CHANGE),
    *(Rule(code, _REJECTED, reason) for code, reason in _REFUSALS.items()),
)
_KNOWN = frozenset(rule.code for rule in KRAKEN_RULES)


@dataclass(frozen=True)
class KrakenAnswer(Answer):
    """A response of Kraken: `body` is the `result` of a success, `code` the error's text.

    Detail behind a known error ("EGeneral:Invalid arguments:volume") is left out of `code` only
    where the longer text has no row of its own; `message` has it all.
    """

    errors: tuple[str, ...] = ()

    @property
    def is_refusal(self) -> bool:
        """One error in Kraken's own form; with HTTP 200, where all its errors come."""
        return self.status == HTTPStatus.OK and self.code is not None

    @property
    def is_success(self) -> bool:
        """HTTP 200 with a result and an empty list of errors."""
        return self.status == HTTPStatus.OK and self.body is not None and not self.errors


def read_answer(
    status: int, headers: Mapping[str, str], text: str, scrub: Callable[[str], str]
) -> KrakenAnswer:
    """Read a response. Anything may come back, so nothing here raises. "W…" are warnings."""
    raw = parse_json(text)
    listed = raw.get("error") if isinstance(raw, dict) else None
    if not isinstance(listed, list):
        return KrakenAnswer(status, text, headers, None, None, text, shown(scrub(text)))
    found = tuple(str(entry) for entry in listed if not str(entry).startswith("W"))
    message = "; ".join(found)
    code = _code(found[0]) if len(set(found)) == 1 else None
    result = raw.get("result")
    return KrakenAnswer(
        status, text, headers, result, code, message, shown(scrub(message)), errors=found
    )


def _code(text: str) -> str:
    """The error as the table has it: as long as it is known, else its first two parts."""
    parts = text.split(":")
    for length in range(len(parts), 1, -1):
        code = ":".join(parts[:length])
        if code in _KNOWN:
            return code
    return shown(":".join(parts[:2]))[:64]
