"""The page about the model server: its limits, metrics, paths and commands are those of the server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from trueline.serving.endpoints import Endpoints
from trueline.serving.exposition import FAMILIES
from trueline.serving.limits import Limits
from trueline.serving.server import Config
from trueline.settings import StateFolder

sys.path.append(str(Path(__file__).parents[1] / "serving"))

from serving_world import Fake, Running, table

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
COMMANDS = [
    command for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for command in re.split(r"\n(?=curl )", block)
]


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of a section's tables by what is in the first, between backticks."""
    section = re.split(r"\n## ", PAGE.partition(f"\n## {heading}\n")[2])[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_every_limit_is_there_with_its_default():
    shown = {name: float(cells[0].replace(",", "")) for name, cells in rows("Limits").items()}
    assert shown == {one.name: float(one.default) for one in fields(Limits)}


def test_every_metric_is_there_with_its_words():
    assert {name: cells[0] for name, cells in rows("Metrics").items()} == {one.name: one.help for one in FAMILIES}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Running(
        Config(state=StateFolder(tmp_path_factory.mktemp("docs") / "state").create(), port=0), {1: Fake(1)}
    )
    running.start()
    assert running.put(table())["ok"]
    yield running
    running.stop()


def test_every_path_is_there(server):
    endpoints = server.server._endpoints
    assert isinstance(endpoints, Endpoints)
    paths = {path.replace("{model}", "{m}").replace("{version}", "{v}") for path in endpoints._table()}
    assert not {path for path in paths if not re.search(rf"`(GET |POST )?{re.escape(path)}`", PAGE)}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_every_curl_on_the_page_is_answered(server, command):
    here = command.replace("localhost:7078", f"127.0.0.1:{server.port}")
    done = subprocess.run(["/bin/bash", "-c", here], capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(done.stdout)
    assert "error" not in said, said
    assert "error_code" not in said, said
