"""Orders live across deploys: histories of earlier lives replay with the code as it is now.

A failure here means that a running order would get stuck on the new code. Either the change can be
made so that old histories still replay (`workflow.patched`), or it must not be shipped while
orders are open. `record_histories.py` says how the histories came about.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from tests.replay.record_histories import HISTORIES, LIVES, LONG_LIVES, SPLIT_LIVES
from workers.one_argument import OneArgument
from workflows.order import OrderWorkflow
from workflows.order_work import OrderWork
from workflows.submission import Submission

STORED = sorted(HISTORIES.glob("**/*.json"))


def a_replayer() -> Replayer:
    return Replayer(
        workflows=[OrderWorkflow],
        interceptors=[OneArgument()],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


def a_history(name: str) -> WorkflowHistory:
    """Under its own id: an order is refused under another one."""
    text = (HISTORIES / f"{name}.json").read_text()
    started = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], text)


def test_every_kind_of_life_is_stored() -> None:
    names = {life.__name__ for life in (*LIVES, *SPLIT_LIVES, *LONG_LIVES)}
    assert names <= {path.stem for path in STORED}


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
async def test_a_stored_history_replays_with_the_present_code(path: Any) -> None:
    await a_replayer().replay_workflow(a_history(path.stem))


async def _no_more(*_: object) -> None:
    """A step that a careless change has taken out."""


@pytest.mark.parametrize(("part", "step"), [(OrderWork, "begin"), (Submission, "take_placed")])
async def test_a_changed_workflow_does_not_replay(
    monkeypatch: pytest.MonkeyPatch, part: type, step: str
) -> None:
    changed: Callable[..., Any] = _no_more
    monkeypatch.setattr(part, step, changed)

    # A local activity of another kind is noticed by its place, or by a result of another type.
    with pytest.raises((NondeterminismError, RuntimeError)):
        await a_replayer().replay_workflow(a_history("filled_at_once"))
