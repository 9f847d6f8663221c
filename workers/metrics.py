"""What a worker tells Prometheus beside the SDK's own metrics, at `OMS_METRICS`.

Counters count what this process has committed, so their sum over the workers is the whole. Gauges
are read from the store every few seconds and are the same in every worker: take the largest.
`ops/prometheus/alerts.yaml` alerts on them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from activities.alerts import WAITING
from trading.oms.alarms import Alarm, alarm_of
from trading.oms.enums import TradingState
from trading.oms.errors import OmsError
from trading.oms.models import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from temporalio.common import MetricMeter

    from activities.store import Store
    from activities.store.figures import Figures
    from activities.store.types import JournalEntry

_log = logging.getLogger(__name__)
_EVERY_S = 5.0
_Series = tuple[str, tuple[tuple[str, str], ...]]

COUNTERS = {
    "oms_events_total": "Events of orders, committed by this process, by name",
    "oms_alarms_total": "Alarms in the journal, committed by this process, by run book",
    "oms_store_commits_total": "Transactions that this process has committed",
}
GAUGES = {
    "oms_open_orders": "Open orders, by exchange, account and status",
    "oms_orders_in_doubt": "Orders whose send has no known outcome, by exchange and account",
    "oms_oldest_doubt_seconds": "How long the oldest of them has been in doubt",
    "oms_waiting_reports": "Reports of the exchange that their orders have not booked yet",
    "oms_oldest_report_seconds": "How long the oldest of them has waited",
    WAITING: "How long the webhook has not taken the oldest alert; told by who delivers",
    "oms_trading_state": "0 active, 1 reducing, 2 halted, by scope",
    "oms_reconciled_seconds": "How long ago the newest reconciliation of an account began",
    "oms_differences": "What differed in it",
    "oms_store_up": "1 where the store has answered, 0 where it has not",
    "oms_looked_at_seconds": "When this process has last asked the store, in seconds since 1970",
}
_STATES = {TradingState.ACTIVE: 0, TradingState.REDUCING: 1, TradingState.HALTED: 2}


class _Sample(NamedTuple):
    gauge: str
    labels: Mapping[str, str]
    value: float

    @property
    def series(self) -> _Series:
        """What tells it from all others."""
        return self.gauge, tuple(sorted(self.labels.items()))


class Metrics:
    """Counts commits as they come, and reads the rest from the store from time to time."""

    def __init__(self, meter: MetricMeter, store: Store) -> None:
        """Nothing runs before `start`."""
        self._store = store
        self._counters = {name: meter.create_counter(name, text) for name, text in COUNTERS.items()}
        self._gauges = {name: meter.create_gauge_float(name, text) for name, text in GAUGES.items()}
        self._told: dict[_Series, _Sample] = {}
        self._commits = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Count from now on. A series that began with its first alarm would show no increase."""
        for name in (*Alarm, "unknown"):
            self._counters["oms_alarms_total"].add(0, {"alarm": str(name)})
        self._unsubscribe = self._store.subscribe(self._committed)
        self._task = asyncio.create_task(self._look_again_and_again(), name="metrics")

    async def close(self) -> None:
        """Count no more."""
        if self._task is not None:
            self._unsubscribe()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _committed(self, entries: list[JournalEntry]) -> None:
        for entry in entries:
            self._counters["oms_events_total"].add(1, {"event": entry.name})
            if entry.alarm is not None:
                alarm = alarm_of(entry.alarm)
                label = {"alarm": alarm.value if alarm else "unknown"}
                self._counters["oms_alarms_total"].add(1, label)

    async def _look_again_and_again(self) -> None:
        while True:
            try:
                found = await self._store.upkeep.figures()
            except OmsError as error:
                _log.warning("the metrics could not be read: %s", error)
                self._gauges["oms_store_up"].set(0)
            else:
                self._tell(found)
            self._gauges["oms_looked_at_seconds"].set(time.time())  # It lives, store or not.
            await asyncio.sleep(_EVERY_S)

    def _tell(self, found: Figures) -> None:
        commits = self._store.commits
        self._counters["oms_store_commits_total"].add(commits - self._commits)
        self._commits = commits
        now = {sample.series: sample for sample in _samples(found, utc_now())}
        for gone in self._told.keys() - now.keys():
            old = self._told[gone]
            self._gauges[old.gauge].set(0, dict(old.labels))
        for sample in now.values():
            self._gauges[sample.gauge].set(sample.value, dict(sample.labels))
        self._told = now
        self._gauges["oms_store_up"].set(1)


def _samples(found: Figures, now: datetime) -> Iterator[_Sample]:
    for one in found.open_orders:
        labels = {"exchange": one.exchange, "account": one.account, "status": one.status}
        yield _Sample("oms_open_orders", labels, one.number)
    queues = (
        ("oms_orders_in_doubt", "oms_oldest_doubt_seconds", found.in_doubt),
        ("oms_waiting_reports", "oms_oldest_report_seconds", found.waiting_reports),
    )
    for count, oldest, of_accounts in queues:
        for queue in of_accounts:
            labels = {"exchange": queue.exchange, "account": queue.account}
            yield _Sample(count, labels, queue.number)
            yield _Sample(oldest, labels, (now - queue.since).total_seconds())
    for last in found.passes:
        labels = {"exchange": last.exchange, "account": last.account}
        yield _Sample("oms_reconciled_seconds", labels, (now - last.started_at).total_seconds())
        yield _Sample("oms_differences", labels, last.differed)
    for scope, state in found.trading.items():
        yield _Sample("oms_trading_state", {"scope": scope}, _STATES[state])
