"""Brings models from the storage to this machine before its servers are told of them.

In a thread of its own, for a storage that is slow or away must hold up no round and no rollback: who asks first waits a
moment, and is told that the model is on its way. Versions that only score in shadow are left out until they are here.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from trueline.control.context import Context
from trueline.domain.routes import Route, RouteTable
from trueline.errors import TruelineError, Unavailable
from trueline.storage import trees
from trueline.storage.objects import Objects

PATIENCE_SECONDS = 2.0


class Courier:
    def __init__(self, context: Context, *, patience: float = PATIENCE_SECONDS) -> None:
        self._root = context.folder.root
        self._objects = context.storage.objects
        self._patience = patience
        self._under_way: threading.Thread | None = None
        self._problem = ""

    def bring(self, table: RouteTable) -> RouteTable:
        """Have the models of the table in this machine's state folder; shadows that are still to come are left out.

        Raises:
            Unavailable: a model that is to answer is not there yet; asking again is how to learn that it is.
        """
        missing = self._missing(table)
        if self._objects is None or not missing:
            return table
        if self._under_way is None or not self._under_way.is_alive():
            self._problem = ""
            self._under_way = threading.Thread(target=self._fetch, args=(self._objects, missing), daemon=True)
            self._under_way.start()
            self._under_way.join(self._patience)
        missing = self._missing(table)
        if missing and missing[0].weight > 0:
            where = f"the model of version {missing[0].version} is on its way from {self._objects.shown}"
            raise Unavailable(self._problem or where)
        return replace(table, routes=tuple(route for route in table.routes if route not in missing))

    def _missing(self, table: RouteTable) -> list[Route]:
        """Those that take requests first."""
        missing = [route for route in table.routes if not (self._root / route.path).exists()]
        return sorted(missing, key=lambda route: -route.weight)

    def _fetch(self, objects: Objects, missing: list[Route]) -> None:
        try:
            for route in missing:
                trees.fetch_tree(objects, route.digest, self._root / route.path)
        except TruelineError as problem:  # the edge of a thread: told to whoever asks next
            self._problem = str(problem)
