"""Where the page of a thing is."""

from __future__ import annotations

from urllib.parse import quote

FOLDERS = {"run": "runs", "gate": "gates", "release": "releases", "incident": "incidents"}


def to(ref: str) -> str | None:
    """The page of what has this id: `run-3`, `v7`, `7`, `project/v7`; None where there is none.

    >>> to("run-3"), to("flights/v7"), to("7"), to("gate-1"), to("d4"), to("gate-<")
    ('/runs/run-3', '/versions/7', '/versions/7', '/gates/gate-1', None, None)
    """
    number = ref.rsplit("/", maxsplit=1)[-1].removeprefix("v")
    if number.isascii() and number.isdigit():
        return f"/versions/{int(number)}"
    noun, _, rest = ref.partition("-")
    if noun in FOLDERS and rest.isascii() and rest.isalnum():
        return f"/{FOLDERS[noun]}/{ref}"
    return None


def of(noun: str, ref: str) -> str | None:
    """The page of a link of a chain of reasons, which knows what it is about."""
    return prediction(ref) if noun == "prediction" else to(ref)


def prediction(ref: str) -> str:
    return f"/predictions/{quote(ref, safe='')}"


def find(ref: str) -> str:
    """The page of whatever somebody typed: ids of predictions have no form of their own."""
    ref = ref.strip()
    return to(ref) or prediction(ref)
