"""ISO 8601 text as UTC datetimes of microseconds, by the same rule as the contract's row check.

Polars' own parser is fast and narrower than `datetime.fromisoformat`, which is what the row rule asks. So the fast way
is tried on the whole column, and what it cannot take is asked of Python, one distinct text at a time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import polars as pl

TIMESTAMP = pl.Datetime("us", "UTC")
BEGINS_LIKE_A_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
NAIVE = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")


def parse_timestamps(column: pl.Series) -> pl.Series | None:
    """The column as timestamps when every text in it is one; else None. Without an offset, a time is UTC.

    >>> parse_timestamps(pl.Series(["2026-01-01", None])).to_list()
    [datetime.datetime(2026, 1, 1, 0, 0, tzinfo=zoneinfo.ZoneInfo(key='UTC')), None]
    >>> parse_timestamps(pl.Series(["2026-01-01", "soon"])) is None
    True
    """
    texts = column.drop_nulls()
    if texts.is_empty() or not BEGINS_LIKE_A_DATE.match(texts[0]):
        return None
    for form in NAIVE:
        parsed = column.str.to_datetime(form, time_unit="us", strict=False, exact=True)
        if parsed.null_count() == column.null_count():
            return parsed.dt.replace_time_zone("UTC")
    meanings: dict[str, datetime] = {}
    for text in texts.unique():
        if not BEGINS_LIKE_A_DATE.match(text):
            return None
        try:
            meanings[text] = as_utc(datetime.fromisoformat(text))
        except ValueError:
            return None
    return column.replace_strict(meanings, default=None, return_dtype=TIMESTAMP)


def as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
