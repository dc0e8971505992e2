"""Every `curl` of the serving guide is answered, as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import httpx
import pytest
from serving_world import table

GUIDE = Path(__file__).parents[2] / "docs" / "serving.md"


def commands():
    """The curl commands of the guide's shell blocks; a command goes on over lines inside its quotes."""
    for block in re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        for start in re.finditer(r"^curl ", block, re.MULTILINE):
            command = re.split(r"\n(?=\w)", block[start.start() :])[0]
            yield command.strip()


def test_there_are_examples_of_every_protocol():
    shown = "\n".join(commands())
    for path in ("/predict", "/invocations", "/v1/models/m:predict", "/v2/models/m/infer", "/v2/repository/index"):
        assert f"curl -s localhost:7078{path} " in shown


@pytest.mark.parametrize("command", [*commands()])
def test_an_example_is_answered(serve, command):
    server = serve(wanted=table())
    quoted = re.sub(r"\$'(.*?)'", lambda text: "'" + text[1].replace("\\n", "\n") + "'", command)  # the shell's $'…'
    _, _, address, *options = shlex.split(quoted)
    given = dict(zip(options[::2], options[1::2], strict=True))
    headers = dict([given["-H"].split(": ", 1)]) if "-H" in given else {}
    body = given.get("-d", given.get("--data-binary"))
    url = f"{server.url}{address.removeprefix('localhost:7078')}"
    reply = httpx.request("POST" if body else "GET", url, content=body, headers=headers)
    assert reply.status_code == 200, reply.text
