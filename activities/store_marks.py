"""Whether the store is the one that it was: a restored backup must not send anything.

How far the journal had come is kept in Temporal, with the results of reconciliation and of the
orders themselves, where a restored store cannot take it back.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime
from typing import TYPE_CHECKING

from activities.reconcile_messages import StoreMark
from activities.store import TradingState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activities.reconcile_messages import OrderMark
    from activities.store import Store

_log = logging.getLogger(__name__)
_SEEN = "store-mark"
_LACKING = "store-mark:orders"


async def mark_of(store: Store) -> StoreMark:
    """The store as it is now."""
    head = await store.head()
    return StoreMark(epoch=await store.epoch(), head=head, entry=await _entry(store, head))


async def halt_if_gone_back(
    store: Store, before: StoreMark | None, *, dry_run: bool = False
) -> str | None:
    """Compare the store with a mark of it; where it has gone back, halt all trading and say why.

    One mark halts once, so that a resumed store is not halted again by the same old mark. Where
    the store has forgotten that, it was restored again.
    """
    if before is None:
        return None
    difference = await _difference(store, before)
    if difference is None:
        return None
    text = f"{difference}: it was restored or exchanged, and nothing is sent until `oms resume`"
    name, value = f"{_SEEN}:{before.epoch}", f"at {before.head} {before.entry}"
    known = await store.cursor(name)
    if known != value and not dry_run:
        await _halt(store, text)
        await store.advance_cursor(name, known, value)
    return text


async def halt_if_orders_lack(store: Store, marks: Sequence[OrderMark]) -> str | None:
    """Compare the store with what Temporal knows of orders; where one lacks, halt and say why.

    This notices a backup that is younger than the last mark of the store. What was noticed once is
    not noticed again after `oms resume`: only orders that ended or began since then are.
    """
    noticed = await store.cursor(_LACKING)
    since = datetime.fromisoformat(noticed) if noticed else None
    lacking = [
        mark for mark in marks if (since is None or mark.at > since) and await _lacks(store, mark)
    ]
    if not lacking:
        return None
    ids = ", ".join(sorted({mark.order_id for mark in lacking})[:3])
    text = (
        f"Temporal knows more of {len(lacking)} orders than the store ({ids}): "
        "it was restored or exchanged, and nothing is sent until `oms resume`"
    )
    await _halt(store, text)
    await store.advance_cursor(_LACKING, noticed, max(mark.at for mark in lacking).isoformat())
    return text


async def _lacks(store: Store, mark: OrderMark) -> bool:
    state = await store.order(mark.order_id)
    return state is None or state.sequence < mark.sequence


async def _halt(store: Store, text: str) -> None:
    _log.error("%s", text)
    await store.set_trading_state("all", TradingState.HALTED, reason=text, by="oms")


async def _difference(store: Store, before: StoreMark) -> str | None:
    """In words, how the store is not the one that a mark was taken of."""
    epoch, head = await store.epoch(), await store.head()
    if epoch != before.epoch:
        return f"the store is {epoch} and was {before.epoch}"
    if head < before.head:
        return f"the store's journal is at {head} and was at {before.head}"
    if before.entry and await _entry(store, before.head) != before.entry:
        return f"entry {before.head} of the store's journal is another one than it was"
    return None


async def _entry(store: Store, sequence: int) -> str:
    """A hash of a journal entry; empty where there is none."""
    found = await store.events_after(sequence - 1, limit=1) if sequence else []
    if not found or found[0].sequence != sequence:
        return ""
    one = found[0]
    parts = (one.order_id, str(one.order_sequence), one.name, one.committed_at.isoformat())
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]
