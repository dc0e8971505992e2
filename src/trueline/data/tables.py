"""The Delta tables of one project, each opened once: a handle kept is a log not read again."""

from __future__ import annotations

from functools import cached_property

from trueline.data.datasets import Datasets
from trueline.data.labels import Labels
from trueline.data.predictions import Predictions
from trueline.storage.places import Storage


class Tables:
    """For one thread: its handles follow what other processes append."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @cached_property
    def dataset(self) -> Datasets:
        return Datasets(self._storage.table("dataset"))

    @cached_property
    def predictions(self) -> Predictions:
        return Predictions(self._storage.table("predictions"))

    @cached_property
    def labels(self) -> Labels:
        return Labels(self._storage.table("labels"))
