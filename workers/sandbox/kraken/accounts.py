"""What an account asks about itself: balances, orders, trades, and a token for the streams."""

import re
import secrets
import time
from decimal import Decimal
from typing import Any

from workers.sandbox.exact import text
from workers.sandbox.kraken import reports
from workers.sandbox.kraken.errors import UNKNOWN_ORDER, KrakenError, invalid
from workers.sandbox.kraken.names import Names, orders, trades
from workers.sandbox.model import Account, AccountTrade, Order

PAGE = 50
IDS_MAX = 20
TOKEN_S = 900
_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
Params = dict[str, str]


class Accounts:
    """The account endpoints. What is younger than ``lag_ns`` is not seen yet."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._tokens: dict[str, tuple[Account, float]] = {}

    def balance(self, account: Account, _: Params, _lag_ns: int) -> Any:
        return {asset: text(total) for asset, (total, _) in reports.balances(account).items()}

    def balance_extended(self, account: Account, _: Params, _lag_ns: int) -> Any:
        return {
            asset: {"balance": text(total), "hold_trade": text(held)}
            for asset, (total, held) in reports.balances(account).items()
        }

    def token(self, account: Account, _: Params, _lag_ns: int) -> Any:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (account, time.monotonic() + TOKEN_S)
        return {"token": token, "expires": TOKEN_S}

    def owner(self, token: object) -> Account | None:
        """Whose token it is; None where it is nobody's or too old to be used first now."""
        account, until = self._tokens.get(str(token), (None, 0.0))
        return account if until > time.monotonic() else None

    def open_orders(self, account: Account, params: Params, lag_ns: int) -> Any:
        found = [order for order in self._orders(account, params, lag_ns) if order.is_open]
        return {"open": self._infos(found, params)}

    def closed_orders(self, account: Account, params: Params, lag_ns: int) -> Any:
        """50 at a time, the newest first; the times are those of opening or of closing."""
        start, end = self._time(account, params, "start"), self._time(account, params, "end")
        found = [
            order
            for order in self._orders(account, params, lag_ns)
            if not order.is_open and _within(order, params.get("closetime", "both"), (start, end))
        ]
        offset = _offset(params)
        page = found[offset : offset + PAGE]
        return {"closed": self._infos(page, params), "count": len(found)}

    def query_orders(self, account: Account, params: Params, lag_ns: int) -> Any:
        found = {}
        for txid in _txids(params):
            order = self._names.order(account, txid)
            if order is None or not _visible(order.created_ns, lag_ns):
                raise KrakenError(UNKNOWN_ORDER)
            found[txid] = order
        return self._infos(list(found.values()), params)

    def trades_history(self, account: Account, params: Params, lag_ns: int) -> Any:
        start, end = self._time(account, params, "start"), self._time(account, params, "end")
        found = [
            side
            for side in trades(account)
            if _visible(side.trade.time_ns, lag_ns)
            and (start is None or side.trade.time_ms > start)
            and (end is None or side.trade.time_ms <= end)
        ]
        rows = reports.rows_of(found, merged=_merged(params))
        offset = _offset(params)
        page = rows[offset : offset + PAGE]
        return {"trades": self._trades(page), "count": len(rows)}

    def query_trades(self, account: Account, params: Params, lag_ns: int) -> Any:
        found = []
        for txid in _txids(params):
            side = self._names.trade(account, txid)
            if side is None or not _visible(side.trade.time_ns, lag_ns):
                raise KrakenError("EQuery:Invalid trade")
            found.append(side)
        return self._trades([[side] for side in found])

    def _orders(self, account: Account, params: Params, lag_ns: int) -> list[Order]:
        client_id, userref = params.get("cl_ord_id"), params.get("userref")
        return [
            order
            for order in orders(account)
            if _visible(order.created_ns, lag_ns)
            and (not client_id or order.client_id == client_id)
            and (not userref or str(order.strategy_id) == userref)
        ]

    def _infos(self, found: list[Order], params: Params) -> dict[str, Any]:
        with_trades = params.get("trades", "").lower() == "true"
        infos = {}
        for order in found:
            info = infos[self._names.txid(order)] = reports.order_info(order, self._names)
            if with_trades and order.fills:
                info["trades"] = reports.trade_txids(order, self._names, merged=_merged(params))
        return infos

    def _trades(self, rows: list[list[AccountTrade]]) -> dict[str, Any]:
        """A row's trades are the newest first; it has the identifier of the oldest."""
        return {
            self._names.trade_txid(row[-1]): reports.trade_info(row, self._names) for row in rows
        }

    def _time(self, account: Account, params: Params, name: str) -> Decimal | None:
        """A Unix time or an identifier, in milliseconds. Errors: EGeneral:Invalid arguments."""
        raw = params.get(name)
        if not raw or raw == "0":
            return None
        if _TIME.fullmatch(raw):
            return Decimal(raw) * 1000
        if raw.startswith("O") and (order := self._names.order(account, raw)) is not None:
            return Decimal(order.created_ms)
        if raw.startswith("T") and (side := self._names.trade(account, raw)) is not None:
            return Decimal(side.trade.time_ms)
        raise invalid(name)


def _within(order: Order, which: str, limits: tuple[Decimal | None, Decimal | None]) -> bool:
    start, end = limits
    times = {"open": [order.created_ms], "close": [order.updated_ms]}.get(
        which, [order.created_ms, order.updated_ms]
    )
    return any((start is None or at > start) and (end is None or at <= end) for at in times)


def _txids(params: Params) -> list[str]:
    ids = [txid for txid in params.get("txid", "").split(",") if txid]
    if not 0 < len(ids) <= IDS_MAX:
        raise invalid("txid")
    return ids


def _merged(params: Params) -> bool:
    return params.get("consolidate_taker", "true").lower() != "false"


def _offset(params: Params) -> int:
    raw = params.get("ofs") or "0"
    if not raw.isdecimal():
        raise invalid("ofs")
    return int(raw)


def _visible(since_ns: int, lag_ns: int) -> bool:
    return not lag_ns or time.monotonic_ns() - since_ns >= lag_ns
