"""Dataset versions over HTTP."""

from __future__ import annotations

from datetime import datetime

import msgspec

from trueline.web.api.calls import Call, bounded, views
from trueline.web.api.services import Services


class DatasetView(msgspec.Struct, kw_only=True):
    number: int
    digest: str
    rows: int
    origin: str
    delta_version: int
    created_at: datetime


class DatasetList(msgspec.Struct):
    items: list[DatasetView]
    next: int | None = None


def listing(services: Services, call: Call) -> DatasetList:
    limit = bounded(call.query.limit)
    items = views(services.datasets(limit=limit, after=call.query.after), DatasetView)
    return DatasetList(items, items[-1].number if len(items) == limit else None)
