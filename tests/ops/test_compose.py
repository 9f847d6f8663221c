"""The compose file and what it refers to. No Docker engine is needed."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from workers.temporal_dev_server import DYNAMIC_CONFIG, SEARCH_ATTRIBUTES

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


@cache
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def test_the_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*command, str(COMPOSE)], check=True, capture_output=True)


@pytest.mark.parametrize("name", services())
def test_a_service_waits_for_what_exists_and_can_be_waited_for(name: str) -> None:
    for target, wait in services()[name].get("depends_on", {}).items():
        other = services()[target]
        if wait["condition"] == "service_healthy":
            assert "healthcheck" in other
        if wait["condition"] == "service_completed_successfully":
            assert other["restart"].startswith("on-failure"), "it would be started for ever"


@pytest.mark.parametrize("name", services())
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in services()[name].get("ports", []))


@pytest.mark.parametrize("name", services())
def test_images_are_pinned_and_mounts_exist(name: str) -> None:
    service = services()[name]
    assert service["image"] == "oms" or re.search(r":v?\d+(\.\d+)*$", service["image"])
    for mount in service.get("volumes", []):
        source = mount.partition(":")[0]
        assert source in compose()["volumes"] or (ROOT / source).exists()
    if "build" in service:
        assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_every_setting_has_a_default_and_is_explained_at_the_top() -> None:
    text = COMPOSE.read_text()
    explained = re.findall(r"^#   ([A-Z_]+) ", text, re.MULTILINE)
    used = re.findall(r"\$\{([A-Z_]+)([^}]*)\}", text)
    assert {name for name, _ in used} == set(explained)
    assert all(rest.startswith(":-") for _, rest in used)


def test_no_order_is_given_to_a_worker_before_its_namespace_exists() -> None:
    assert "temporal-namespace" in services()["worker"]["depends_on"]


def test_the_namespace_gets_the_search_attributes_of_the_dev_server() -> None:
    script = (ROOT / "ops/temporal/namespace.sh").read_text()
    named = re.search(r"^attributes=\"([\w ]+)\"$", script, re.MULTILINE)
    assert named is not None
    assert tuple(named[1].split()) == SEARCH_ATTRIBUTES


def test_the_server_gets_the_settings_of_the_dev_server() -> None:
    settings = yaml.safe_load((ROOT / "ops/temporal/dynamicconfig.yaml").read_text())
    plain = {key: yaml.safe_load(value) for key, value in DYNAMIC_CONFIG.items()}
    assert {key: values[0]["value"] for key, values in settings.items()} == plain


def test_the_image_and_the_makefile_use_the_same_uv() -> None:
    pinned = re.search(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f"uv=={pinned[1]}" in (ROOT / "ops/Dockerfile").read_text()


@pytest.mark.parametrize("script", ["schema.sh", "namespace.sh"])
def test_the_scripts_are_valid_shell(script: str) -> None:
    subprocess.run(["sh", "-n", str(ROOT / "ops/temporal" / script)], check=True)
