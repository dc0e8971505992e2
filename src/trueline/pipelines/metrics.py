"""Offline metrics of a packaged model, and of the constant that knows nothing, on rows with their target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from trueline.packaging.signature import CLASSIFICATION

Floats = NDArray[np.float64]
SMALLEST_PROBABILITY = 1e-15


def evaluate(task: str, target: Floats, predicted: Floats) -> dict[str, float]:
    """The metrics of a task; those that a sample cannot give (an AUC of one class) are left out."""
    if not len(target):
        return {}
    return _classification(target, predicted) if task == CLASSIFICATION else _regression(target, predicted)


def _regression(target: Floats, predicted: Floats) -> dict[str, float]:
    error = predicted - target
    return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}


def _classification(target: Floats, predicted: Floats) -> dict[str, float]:
    clipped = np.clip(predicted, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    found = {
        "log_loss": float(-np.mean(target * np.log(clipped) + (1 - target) * np.log1p(-clipped))),
        "brier": float(np.square(predicted - target).mean()),
        "accuracy": float(((predicted >= 0.5) == (target >= 0.5)).mean()),
    }
    positives = int((target >= 0.5).sum())
    negatives = len(target) - positives
    if positives and negatives:
        ranks = rankdata(predicted)[target >= 0.5].sum()
        found["roc_auc"] = float((ranks - positives * (positives + 1) / 2) / (positives * negatives))
    return found


def baseline(task: str, target: Floats) -> dict[str, Any]:
    """The best constant prediction for absolute error, squared error or probability, and its metrics."""
    if not len(target):
        return {}
    if task == CLASSIFICATION:
        rate = float(target.mean())
        return {"rate": rate, "metrics": evaluate(task, target, np.full(len(target), rate))}
    middle, mean = float(np.median(target)), float(target.mean())
    return {
        "median": middle,
        "mean": mean,
        "metrics": {
            "mae": _regression(target, np.full(len(target), middle))["mae"],
            "rmse": _regression(target, np.full(len(target), mean))["rmse"],
        },
    }
