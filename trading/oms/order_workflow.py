"""What everyone who starts or calls the workflow of an order has to know of it."""

from datetime import timedelta

WORKFLOW_PREFIX = "order-"
"""Begins the id of each order's workflow; the rest is its order's id."""
TASK_TIMEOUT = timedelta(seconds=5)
"""A task that a dead worker was left with is given to another after so long."""


def workflow_id(order_id: str) -> str:
    """The workflow id of an order: `order-<client_order_id>`."""
    return WORKFLOW_PREFIX + order_id
