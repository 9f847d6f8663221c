"""Binance Spot's answers to a command and what they prove. Source: errors.md, "Error codes".

The first row that fits counts; what no row knows is outcome unknown. Absent on purpose: HTTP 403
(the web application firewall; nothing says that it never follows a request that went through),
-1000, -1001, -1006, -1007 and -1008 ("execution status unknown" or no word on the engine).
"""

from activities.connectors.classify import Operation, Rule, Verdict

_REJECTED = Verdict.REJECTED
_NEVER = Verdict.NEVER_REACHED
_PLACE = frozenset({Operation.PLACE})
_CANCEL = frozenset({Operation.CANCEL})
_AMEND = frozenset({Operation.AMEND})
# The engine's word on a cancel-replace is a word on each half (`binance_replace`).
_ONE_HALF = _PLACE | _CANCEL | _AMEND

_PARAMETERS = {
    "-1014": "unknown order composition",
    "-1020": "unsupported operation",
    "-1100": "illegal characters in a parameter",
    "-1101": "too many parameters",
    "-1102": "a mandatory parameter is missing or malformed",
    "-1103": "unknown parameter",
    "-1104": "unread parameters",
    "-1105": "a parameter is empty",
    "-1106": "a parameter was not required",
    "-1108": "a parameter overflows",
    "-1111": "precision is over the maximum of this asset",
    "-1114": "time in force was not required",
    "-1115": "invalid time in force",
    "-1116": "invalid order type",
    "-1117": "invalid side",
    "-1118": "the new client order id was empty",
    "-1119": "the original client order id was empty",
    "-1121": "invalid symbol",
    "-1122": "the symbol's status does not allow it",
    "-1128": "the combination of parameters is invalid",
    "-1130": "the data of a parameter is invalid",
    "-1131": "recvWindow must be less than 60000",
    "-1135": "invalid JSON",
    "-1145": "invalid cancelRestrictions",
}

BINANCE_RULES: tuple[Rule, ...] = (
    # Limits are checked at the door, before the matching engine.
    Rule("-1003", _NEVER, "too much request weight: refused at the door", status=429),
    Rule("-1003", _NEVER, "banned for too much request weight", status=418),
    Rule("-1015", _NEVER, "too many unfilled orders: refused at the door"),
    Rule(None, _NEVER, "a rate limit answered without a body", status=429),
    Rule(None, _NEVER, "a ban answered without a body", status=418),
    # The fence itself: refused on receipt, or by the second check just before the engine.
    Rule("-1021", _NEVER, "the stamp is outside of recvWindow: not passed to the engine"),
    # The key and the signature are checked before anything else.
    Rule("-1002", _REJECTED, "not authorised for this request"),
    Rule("-1022", _REJECTED, "the signature is not valid"),
    Rule("-2014", _REJECTED, "the API key's format is invalid"),
    Rule("-2015", _REJECTED, "the key, its address or its permissions are invalid"),
    # The request's form and the symbol's filters are checked before the engine.
    Rule("-1013", _REJECTED, "a filter or the message's form refused it before the engine"),
    *(Rule(code, _REJECTED, reason) for code, reason in _PARAMETERS.items()),
    # The engine's own words (table "Messages for -1010, -2010, -2011, -2038").
    Rule("-2010", Verdict.DUPLICATE, "an order with our id lives", contains="duplicate order"),
    Rule("-1010", Verdict.DUPLICATE, "an order with our id lives", contains="duplicate order"),
    Rule("-2010", _REJECTED, "the engine refused the new order", operations=_PLACE),
    Rule("-1010", _REJECTED, "the engine refused", operations=_ONE_HALF),
    Rule("-2011", _REJECTED, "the engine refused the cancel", operations=_CANCEL),
    Rule("-2013", _REJECTED, "no such order to change", operations=_CANCEL | _AMEND),
    Rule("-2026", _REJECTED, "archived long ago", operations=_CANCEL | _AMEND),
    Rule("-2038", _REJECTED, "the engine refused the amend", operations=_AMEND),
    Rule("-2039", _REJECTED, "our two ids name two orders", operations=_CANCEL | _AMEND),
)
