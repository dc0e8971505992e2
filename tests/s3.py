"""An S3 service for tests: moto in a process of its own, once for all of them, and a proxy before it that misbehaves.

They are processes because delta-rs holds Python's lock while it waits: servers in our own threads could not answer.
"""

from __future__ import annotations

import atexit
import functools
import http.client
import importlib.util
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from real import need
from trueline.settings import StateFolder
from trueline.storage.address import Patience
from trueline.storage.places import open_storage

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
REGION = (
    '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>"
)
SIGNED = "AWS4-HMAC-SHA256 Credential=testing/20260101/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=x"
MOTO = """\
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

_counter = itertools.count(1)


class Child:
    """A server of ours: it says its port first, and ends with its stdin."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self.port = int(self._out.readline())

    def ask(self, line: str) -> str:
        self._in.write(f"{line}\n")
        self._in.flush()
        return self._out.readline()

    def close(self) -> None:
        self._in.close()
        self._process.wait(timeout=30)
        self._out.close()


@functools.cache
def port() -> int:
    """The port of this session's moto server, started when first asked for."""
    need(importlib.util.find_spec("moto") is not None, "moto[server]")
    moto = Child("-c", MOTO)
    atexit.register(moto.close)
    return moto.port


def endpoint() -> str:
    return f"http://127.0.0.1:{port()}"


def new_bucket() -> str:
    """The name of a new, empty bucket."""
    name = f"bucket-{next(_counter)}"
    line = http.client.HTTPConnection("127.0.0.1", port(), timeout=30)
    line.request("PUT", f"/{name}", REGION, {"Host": "s3.eu-central-1.amazonaws.com", "Authorization": SIGNED})
    answer = line.getresponse()
    assert answer.status == 200, answer.read()
    line.close()
    return name


@contextmanager
def environment(where: str) -> Iterator[None]:
    """The standard variables, as a person would set them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": where}.items():
            patch.setenv(name, value)
        yield


@dataclass(frozen=True)
class Fate:
    """What becomes of requests ("METHOD path") in which `pattern` is found, so many times in all or for each of them."""

    status: int
    code: str = ""
    pattern: str = ""
    times: int = 1_000_000
    each: bool = False


LOST, HANGS = 0, -1


class Proxy:
    def __init__(self, child: Child) -> None:
        self._child = child
        self.endpoint = f"http://127.0.0.1:{child.port}"

    def does(self, *fates: Fate) -> list[str]:
        """From now on this; what was asked since the last time."""
        seen: list[str] = json.loads(self._child.ask(json.dumps([asdict(fate) for fate in fates])))
        return seen


@contextmanager
def proxy() -> Iterator[Proxy]:
    """A proxy before the session's moto server that passes everything on until told otherwise."""
    child = Child(str(Path(__file__).with_name("s3_proxy.py")), str(port()))
    try:
        yield Proxy(child)
    finally:
        child.close()


QUICK = Patience(connect_seconds=1.0, request_seconds=1.0, attempts=2)
"""For services that do not answer."""


@pytest.fixture
def amazon():
    """The standard variables, set as for a person whose S3 is ours."""
    with environment(endpoint()):
        yield


@pytest.fixture(params=["folder", "bucket"])
def storage(request, tmp_path):
    """A project's storage of either kind, empty."""
    state = StateFolder(tmp_path / "project").create()
    if request.param == "folder":
        return open_storage(str(tmp_path / "shared"), state)
    request.getfixturevalue("amazon")
    return open_storage(f"s3://{new_bucket()}/some/prefix", state)


@pytest.fixture
def behind(tmp_path):
    """A bucket behind a proxy that misbehaves as it is told: (proxy, storage)."""
    bucket = new_bucket()
    with proxy() as before, environment(before.endpoint):
        yield before, open_storage(f"s3://{bucket}/p", StateFolder(tmp_path / "behind").create(), patience=QUICK)
