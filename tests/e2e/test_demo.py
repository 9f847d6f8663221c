"""The demo as a whole: it does what it says, leaves nothing behind, and tells no secret."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Program, alive, descendants, until
from workers.demo_story import EXPECTED
from workers.temporal_server import running_dev_server

pytestmark = [pytest.mark.e2e, pytest.mark.temporal]
MARKS = {
    f"OMS_{exchange}_API_{part}": f"marked{exchange}{part}{'7f' * 8}"
    for exchange in ("ALPHA", "BETA")
    for part in ("KEY", "SECRET")
}


async def test_the_demo_trades_kills_a_worker_and_tells_no_secret(
    start: Callable[..., Program], say: Callable[[str], None], tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    async with running_dev_server(say, tmp_path / "temporal.sqlite3", ui=False) as server:
        program = start("demo", "--folder", str(folder), TEMPORAL_ADDRESS=server.address, **MARKS)
        code = program.process.wait(100)
        output = program.output
        assert code == 0, output
        assert not alive(descendants(program.process.pid))
        client = await server.connect()
        histories = {}
        async for found in client.list_workflows():
            handle = client.get_workflow_handle(found.id, run_id=found.run_id)
            histories[found.id] = (await handle.fetch_history()).to_json()
        running = [one async for one in client.list_workflows("ExecutionStatus = 'Running'")]
        assert not running, "a workflow of the demo goes on without a worker"

    assert len([name for name in histories if name.startswith("order-")]) >= len(EXPECTED)
    assert "NOT EQUAL" not in output
    assert "SIGKILL to worker" in output
    assert "alpha has 1 order for it" in output
    assert output.index("All orders") < output.index("ledgers beside ours")
    everything = {"the output": output, **histories}
    everything |= {
        str(path): path.read_bytes().decode(errors="replace")
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert any("oms.sqlite3" in name for name in everything)
    assert any("worker-2.log" in name for name in everything)
    told = {name for name, text in everything.items() if any(m in text for m in MARKS.values())}
    assert not told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_stops_all_it_has_started(
    start: Callable[..., Program], number: signal.Signals
) -> None:
    # Settings of the user's own mean nothing to the demo, which is the same for everybody.
    program = start("demo", OMS_STORE_URL="sqlite:////nowhere/x", OMS_ROUTING="nonsense")
    until(lambda: " 2  " in program.output or program.process.poll() is not None)
    assert len(descendants(program.process.pid)) >= 4
    assert program.end(number) == 130
    assert "Traceback" not in program.output


def test_a_demo_that_is_stopped_while_it_starts_leaves_nothing(
    start: Callable[..., Program],
) -> None:
    program = start("demo")
    until(lambda: descendants(program.process.pid))
    assert program.end() == 130
