"""What a reply of the model server means for its message: answered, refused, to be asked again, or reason to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from trueline.errors import NotAuthenticated, TruelineError, Unavailable
from trueline.streaming.asking import Reply

Verdict = Literal["answered", "refused", "again"]

AGAIN = frozenset({408, 425, 429, 502, 503, 504})
"""The server's state, not the message's fault: asked again until it is over, however long that is."""

REFUSED = frozenset({400, 413, 415, 422, 500})
"""The message's fault; 500 is a model that fails on this row, which it would do again."""


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    sentence: str = ""
    wait: float | None = None  # that the server asks for, seconds


class _Problem(msgspec.Struct):
    error: str


class _Itself(msgspec.Struct):
    name: str


_itself = msgspec.json.Decoder(_Itself).decode
_problem = msgspec.json.Decoder(_Problem).decode


def judge(reply: Reply | None, url: str) -> Outcome:
    """The verdict on one reply; raises TruelineError when no message can be answered like this."""
    if reply is None:
        return Outcome("again", f"the model server at {url} cannot be reached")
    if reply.status == 200:
        return Outcome("answered")
    sentence = _sentence(reply)
    if reply.status in AGAIN:
        return Outcome("again", f"the model server answers {reply.status}: {sentence}", reply.retry_after)
    if reply.status in REFUSED:
        return Outcome("refused", sentence)
    raise _stop(reply.status, sentence, url)


def recognise(reply: Reply, url: str) -> None:
    """Raise TruelineError unless this is how a model server tells of itself; one that is overloaded is one."""
    if reply.status in AGAIN:
        return
    if reply.status != 200:
        raise _stop(reply.status, _sentence(reply), url)
    try:
        name = _itself(reply.body).name
    except (msgspec.DecodeError, ValueError):
        name = None
    if name != "trueline":
        raise Unavailable(f"{url} is another server, no model server of trueline; correct --server")


def _stop(status: int, sentence: str, url: str) -> TruelineError:
    if status in (401, 403):
        return NotAuthenticated(f"the model server at {url} refuses: {sentence}; set TRUELINE_TOKEN")
    return Unavailable(f"{url} answers {status} ({sentence}), so it is no model server of trueline; see --server")


def _sentence(reply: Reply) -> str:
    try:
        return _problem(reply.body).error
    except (msgspec.DecodeError, ValueError):
        if reply.body.lstrip().startswith(b"<"):
            return "with a page for people"
        return " ".join(reply.body[:200].decode("utf-8", "replace").split()) or "without a word"
