"""The metrics that a worker serves, and the alerts and examples that speak of them."""

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from activities.store import Store
from tests.activities.store_builders import new_order
from trading.oms.alarms import Alarm
from trading.oms.enums import TradingState
from trading.oms.errors import StoreUnavailable
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now
from workers.connection import telemetry
from workers.metrics import COUNTERS, GAUGES, Metrics
from workers.temporal_dev_server import Ports

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "ops" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "ops" / "grafana" / "oms.json"


def rules() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


async def test_a_worker_tells_what_its_store_holds(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.metrics._EVERY_S", 0.02)
    address = f"127.0.0.1:{Ports.free().metrics}"
    runtime = telemetry(address)
    assert runtime is not None
    store = await Store.open(sqlite_url, create=True)
    metrics = Metrics(runtime.metric_meter, store)
    metrics.start()

    order = new_order(exchange="alpha")
    await store.admit(order)
    doubt = LifecycleEvent(kind=EventKind.IN_DOUBT, at=utc_now())
    alarm = LifecycleEvent(kind=EventKind.ALARM, at=utc_now(), reason="in doubt since ...")
    await store.record(order.client_order_id, [doubt, alarm])
    await store.set_trading_state("strategy:x", TradingState.HALTED, by="test")
    there = '{account="main",exchange="alpha"'
    wanted = (
        'oms_events_total{event="order_created"} 1',
        'oms_alarms_total{alarm="doubt-lasts"} 1',
        f'oms_open_orders{there},status="created"}} 1',
        f"oms_orders_in_doubt{there}}} 1",
        'oms_trading_state{scope="strategy:x"} 2',
        "oms_store_up 1",
    )
    text = await _text_with(address, wanted)
    assert re.search(r"oms_oldest_doubt_seconds\{.*\} 0\.\d+", text)

    ended = LifecycleEvent(kind=EventKind.CANCELLED, at=utc_now())
    await store.record(order.client_order_id, [ended])
    await _text_with(address, (f"oms_orders_in_doubt{there}}} 0",))
    await metrics.close()
    await store.close()


async def test_every_alarm_is_counted_from_nothing_on(sqlite_url: str) -> None:
    """So that `increase()` sees the first one: a series that begins with 1 has not increased."""
    address = f"127.0.0.1:{Ports.free().metrics}"
    runtime = telemetry(address)
    assert runtime is not None
    store = await Store.open(sqlite_url, create=True)
    metrics = Metrics(runtime.metric_meter, store)
    metrics.start()
    names = [*(one.value for one in Alarm), "unknown"]
    await _text_with(address, tuple(f'oms_alarms_total{{alarm="{one}"}} 0' for one in names))

    order = new_order(exchange="alpha")
    await store.admit(order)
    alarm = LifecycleEvent(kind=EventKind.ALARM, at=utc_now(), reason="no page has this")
    await store.record(order.client_order_id, [alarm])
    await _text_with(address, ('oms_alarms_total{alarm="unknown"} 1',))
    await metrics.close()
    await store.close()


async def test_a_worker_whose_store_is_away_is_not_taken_for_dead(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cause, one page: OmsStoreAway and not OmsNoWorker as well."""
    address = f"127.0.0.1:{Ports.free().metrics}"
    runtime = telemetry(address)
    assert runtime is not None
    store = await Store.open(sqlite_url, create=True)

    async def away() -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(store.upkeep, "figures", away)
    began = int(utc_now().timestamp())
    metrics = Metrics(runtime.metric_meter, store)
    metrics.start()
    text = await _text_with(address, ("oms_store_up 0", "oms_looked_at_seconds"))
    found = re.search(r"^oms_looked_at_seconds (\S+)", text, re.MULTILINE)
    assert found is not None
    assert int(found[1].partition(".")[0]) >= began
    await metrics.close()
    await store.close()


async def _text_with(address: str, lines: tuple[str, ...]) -> str:
    """The page, once it has the lines."""
    text = ""
    async with aiohttp.ClientSession() as session:
        for _ in range(250):
            async with session.get(f"http://{address}/metrics") as answer:
                text = await answer.text()
            if all(line in text for line in lines):
                return text
    missing = [line for line in lines if line not in text]
    pytest.fail(f"{missing} not in:\n" + "\n".join(x for x in text.splitlines() if "oms_" in x))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_a_metric_that_exists_and_names_a_page(rule: dict[str, Any]) -> None:
    asked = set(re.findall(r"oms_\w+", rule["expr"]))
    assert asked <= {*COUNTERS, *GAUGES}
    page = rule["annotations"]["runbook"]
    pages = [page.replace("{{ $labels.alarm }}", one.value) for one in Alarm]
    assert all((ROOT / one).is_file() for one in pages)


def test_the_dashboard_shows_every_metric_of_ours_and_none_that_there_is_not() -> None:
    text = DASHBOARD.read_text()
    panels = json.loads(text)["panels"]
    asked = {
        name
        for panel in panels
        for target in panel.get("targets", [])
        for name in re.findall(r"oms_\w+", target["expr"])
    }
    assert asked == {*COUNTERS, *GAUGES}
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all((ROOT / page).is_file() for page in re.findall(r"docs/runbooks/[\w-]+\.md", text))


def test_prometheus_scrapes_the_worker_of_the_compose_file() -> None:
    scraped = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yaml").read_text())
    [job] = scraped["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    host, _, port = target.partition(":")
    assert services["worker"]["network_mode"] == f"service:{host}"
    assert services["worker"]["environment"]["OMS_METRICS"].endswith(f":{port}")


def test_the_kubernetes_example_runs_what_there_is() -> None:
    example = yaml.safe_load((ROOT / "ops" / "kubernetes" / "worker.yaml").read_text())
    pod = example["spec"]["template"]["spec"]
    assert [one["command"][2] for one in pod["initContainers"]] == ["workers"]
    [worker] = pod["containers"]
    assert worker["command"] == ["python", "-m", "workers"]
    assert {"name": "OMS_METRICS", "value": "0.0.0.0:9464"} in worker["env"]
    assert pod["terminationGracePeriodSeconds"] >= 30
