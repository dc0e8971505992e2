"""The Delta tables of one state folder, each opened once: a handle kept is a log not read again."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from trueline.data.datasets import Datasets
from trueline.data.labels import Labels
from trueline.data.predictions import Predictions


class Tables:
    """For one thread: its handles follow what other processes append."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def dataset(self) -> Datasets:
        return Datasets(self._folder / "dataset")

    @cached_property
    def predictions(self) -> Predictions:
        return Predictions(self._folder / "predictions")

    @cached_property
    def labels(self) -> Labels:
        return Labels(self._folder / "labels")
