"""How commands find the running stack, and how they know a dead one."""

import json
import os
import stat
from pathlib import Path

import pytest

from trading.oms.errors import StartUpError
from workers.stack_file import RunningStack, announced, refuse_second, running_stack, stack_path

STACK = RunningStack(os.getpid(), "a-folder", {"OMS_STORE_URL": "sqlite:///x", "HOME": "/home/me"})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_running_stack_is_found_and_gone_at_the_end() -> None:
    assert running_stack() is None
    with announced(STACK):
        found = running_stack()
        assert found is not None
        assert found.environment == {"OMS_STORE_URL": "sqlite:///x"}
    assert running_stack() is None
    assert not stack_path().exists()


def test_the_file_is_for_its_owner_alone() -> None:
    with announced(STACK):
        assert stat.S_IMODE(stack_path().stat().st_mode) == 0o600


def test_the_keys_do_not_show_in_words() -> None:
    assert "sqlite" not in repr(STACK)


def test_a_second_stack_is_refused() -> None:
    with announced(STACK):
        with pytest.raises(StartUpError, match=str(os.getpid())):
            refuse_second()
        with pytest.raises(StartUpError, match="running already"), announced(STACK):
            pass
        assert running_stack() is not None


def test_the_file_of_a_stack_that_was_killed_is_removed() -> None:
    stack_path().parent.mkdir(parents=True)
    content = {"pid": os.getpid(), "folder": "a-folder", "environment": {}}
    stack_path().write_text(json.dumps(content))
    assert running_stack() is None
    assert not stack_path().exists()


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_file_that_cannot_be_read_is_no_stack(text: str) -> None:
    stack_path().parent.mkdir(parents=True)
    stack_path().write_text(text)
    assert running_stack() is None
