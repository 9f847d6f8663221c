"""The results for people (tables) and for machines (one line of JSON)."""

from __future__ import annotations

import math
import operator
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench.measures import Cell, Life, cell_facts, quantile
from bench.tables import WRITES, rate_text, written_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.plan import Results

_WIDTH = 100
_OWN = ("client and worker", "worker")
_rate = operator.attrgetter("orders_per_s")
_wire = operator.attrgetter("wire_ms")
_answer = operator.attrgetter("answer_ms")
_event = operator.attrgetter("event_ms")


def summary(results: Results) -> dict[str, Any]:
    """The line of JSON. Ratios are those within a round; their median over the rounds."""
    resting, many = Life.RESTING, results.plan.many
    line: dict[str, Any] = {
        f"{name}_orders_per_s": _median(results.of(key, resting, many), _rate)
        for name, key in (
            ("floor", "floor"),
            ("embedded", "sqlite"),
            ("embedded_postgres", "postgres"),
            ("remote", "remote"),
            ("dbos", "dbos"),
        )
    }
    floor, ours = (results.of(name, resting, many) for name in ("floor", "sqlite"))
    pairs = list(zip(ours, floor, strict=False))
    others = list(
        zip(*(results.of(name, resting, many) for name in ("postgres", "dbos")), strict=False)
    )
    alone, floor_alone = (results.of(name, resting, 1) for name in ("sqlite", "floor"))
    wire, first = _all(alone, _wire), _all(floor_alone, _wire)
    line |= {
        "ratio_to_floor": _rounded(_middle([a.orders_per_s / b.orders_per_s for a, b in pairs])),
        "ratio_to_dbos": _rounded(_middle([a.orders_per_s / b.orders_per_s for a, b in others])),
        "own_cpu_ms_per_order": _rounded(_middle([_own_cpu(a) - _own_cpu(b) for a, b in pairs])),
        "submit_to_wire_p50_ms": _rounded(quantile(wire, 0.5)),
        "submit_to_wire_p99_ms": _rounded(quantile(wire, 0.99)),
        "submit_to_wire_ratio": _rounded(quantile(wire, 0.5) / quantile(first, 0.5)),
        "submit_to_answer_p50_ms": _rounded(quantile(_all(alone, _answer), 0.5)),
        "fill_to_event_p50_ms": _rounded(quantile(_all(alone, _event), 0.5)),
    }
    if results.pure is not None:
        line["risk_us"] = _rounded(results.pure.risk_us)
        line["state_update_us"] = _rounded(results.pure.state_update_us)
        line["pure_orders_per_s"] = round(results.pure.pipeline_orders_per_s)
    return {name: value for name, value in line.items() if value is not None}


def detail(results: Results) -> dict[str, Any]:
    """Every cell of every round."""
    return {
        "rounds": results.plan.rounds,
        "seconds_per_cell": results.plan.seconds,
        "stores": {name: asdict(figures) for name, figures in results.stores.items()},
        "cells": [cell_facts(cell) for cell in results.cells],
    }


def show(results: Results, machine: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=_WIDTH, highlight=False)
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"load {machine['load_before']} before and {machine['load_after']} after; "
        f"median of {results.plan.rounds} rounds (least to most)"
    )
    plan = results.plan
    for life, at_once in (*plan.cells, (Life.RESTING, plan.crowd)):
        console.print(_latencies(results, life, at_once))
    console.print(_cpu(results))
    console.print(_weights(results))
    console.print(_writes(results))
    console.print(_store_table(results))
    if results.pure is not None:
        pure = results.pure
        console.print(
            f"Deciding alone, one core: all risk checks {pure.risk_us:.0f} µs, one state update "
            f"{pure.state_update_us:.1f} µs, validate + route + check + apply "
            f"{pure.pipeline_orders_per_s:.0f} orders/s"
        )


def _latencies(results: Results, life: Life, at_once: int) -> Table:
    table = _table(f"{life.value} order, {at_once} at once")
    for name in ("orders/s", "to exchange p50/p99", "to answer p50/p99", "fill to event p50/p99"):
        table.add_column(name, justify="right")
    for name, title in results.titles.items():
        cells = results.of(name, life, at_once)
        table.add_row(
            title,
            rate_text([cell.orders_per_s for cell in cells]),
            *(_pair(_all(cells, times)) for times in (_wire, _answer, _event)),
        )
    return table


def _cpu(results: Results) -> Table:
    parts = list(dict.fromkeys(part for cell in results.cells for part in cell.cpu_ms))
    table = _table(f"CPU ms per resting order, {results.plan.many} at once")
    for part in parts:
        table.add_column(part, justify="right")
    for name, title in results.titles.items():
        cells = results.of(name, Life.RESTING, results.plan.many)
        row = []
        for part in parts:
            used = _middle([cell.cpu_ms[part] for cell in cells if part in cell.cpu_ms])
            row.append("-" if used is None else f"{used:.1f}")
        table.add_row(title, *row)
    return table


def _weights(results: Results) -> Table:
    table = _table("in Temporal, per order")
    for life in Life:
        table.add_column(f"{life.value}: transitions", justify="right")
        table.add_column("events", justify="right")
        table.add_column("bytes", justify="right")
    for name, title in results.titles.items():
        row = []
        for life in Life:
            cells = results.of(name, life, results.plan.many)
            weights = [weight for cell in cells for weight in cell.weights]
            row += [
                f"{statistics.median(getattr(weight, part) for weight in weights):.0f}"
                if weights
                else "-"
                for part in ("transitions", "events", "bytes")
            ]
        table.add_row(title, *row)
    return table


def _writes(results: Results) -> Table:
    table = _table(f"the database, per resting order, {results.plan.many} at once")
    for title in WRITES.values():
        table.add_column(title, justify="right")
    for name, title in results.titles.items():
        cells = results.of(name, Life.RESTING, results.plan.many)
        written = next((cell.database for cell in cells if cell.database), {})
        table.add_row(title, *written_row(written))
    return table


def _store_table(results: Results) -> Table:
    table = _table("the store alone: median ms of a durable commit")
    for name in ("admit", "claim", "settle", "lives/s, 50 at once"):
        table.add_column(name, justify="right")
    for name, one in results.stores.items():
        times = (one.admit_ms, one.claim_ms, one.settle_ms)
        table.add_row(name, *(f"{ms:.2f}" for ms in times), f"{one.lives_per_s:.0f}")
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, width=_WIDTH)
    table.add_column("")
    return table


def _pair(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{quantile(values, 0.5):.1f} / {quantile(values, 0.99):.1f} ms"


def _own_cpu(cell: Cell) -> float:
    """The client's and the worker's, wherever they run."""
    return sum(cell.cpu_ms.get(part, 0.0) for part in _OWN)


def _all(cells: list[Cell], values: Callable[[Cell], list[float]]) -> list[float]:
    return [value for cell in cells for value in values(cell)]


def _median(cells: list[Cell], value: Callable[[Cell], float]) -> float | None:
    return _rounded(_middle([value(cell) for cell in cells]))


def _middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _rounded(value: float | None) -> float | None:
    """Three digits are more than these measurements can tell apart; nan is nothing."""
    return None if value is None or math.isnan(value) else float(f"{value:.3g}")
