"""What may have happened to a file: bytes changed, cut off, put in; and to a page of JSON: anything in any place."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

ODD: list[Any] = [
    None, True, "", "a", "\x00", -1, 0, 1, 2, 7, 2**31, 2**63, 10**30, 0.5, -0.0, 1e300, float("nan"), float("inf"),
    [], [0], [[]], {}, {"a": 1}, ["a"] * 3,
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Other bytes than these: some flipped, the end missing, a piece there twice, or nothing of it."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(made) - 1)))
        match draw(st.sampled_from(["flip", "flip", "cut", "twice", "nothing"])):
            case "flip" if made:
                made[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del made[place:]
            case "twice":
                made[place:place] = made[place : place + draw(st.integers(1, 64))]
            case _:
                made = made or bytearray(b"?")
    return bytes(made) if made != content else bytes(made) + b"\0"


@st.composite
def another_page(draw: st.DrawFn, page: Any) -> Any:
    """The page with something else in one to three of its places, or without it."""
    made = page
    for _ in range(draw(st.integers(1, 3))):
        made = _elsewhere(draw, made)
    return made


def _elsewhere(draw: st.DrawFn, page: Any) -> Any:
    if not page or not isinstance(page, dict | list) or draw(st.integers(0, 7)) == 0:
        return draw(st.sampled_from(ODD) | st.integers(-3, 300) | st.floats())
    keys = list(page) if isinstance(page, dict) else range(len(page))
    key = draw(st.sampled_from(keys))
    copy: Any = page.copy()
    match draw(st.integers(0, 9)):
        case 0:
            del copy[key]
        case 1 if isinstance(copy, list):
            copy.insert(key, copy[key])
        case 2:
            copy[key] = page[draw(st.sampled_from(keys))]
        case _:
            copy[key] = _elsewhere(draw, page[key])
    return copy
