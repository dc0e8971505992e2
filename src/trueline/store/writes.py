"""Writes that do not ask first: one statement each, so that nobody can come in between the question and the row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table

from trueline.store.engine import Tx


def add(tx: Tx, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row unless a unique key of it is there already; whether it was added."""
    statement = tx.insert(table).values(**values).on_conflict_do_nothing().returning(*table.primary_key)
    return tx.execute(statement).first() is not None


def put(tx: Tx, table: Table, values: dict[str, Any]) -> None:
    """Insert a row, or give the row of its primary key these values."""
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in values.items() if name not in keys}
    tx.execute(tx.insert(table).values(**values).on_conflict_do_update(index_elements=keys, set_=rest))


def increase(tx: Tx, table: Table, key: dict[str, Any], column: str) -> int:
    """Count one up, from nothing; the count now."""
    statement = tx.insert(table).values(**key, **{column: 1})
    statement = statement.on_conflict_do_update(index_elements=list(key), set_={column: table.c[column] + 1})
    return int(tx.execute(statement.returning(table.c[column])).scalar_one())
