"""Tree ensembles as one table of nodes, whoever grew them, and HistGradientBoosting read into it.

The table becomes ONNX's tree ensemble, exactly. skl2onnx converts HistGradientBoosting too, but rounds split thresholds
to the nearest float32 (so a row on a threshold may change sides), loses where missing values go, and knows no
categories. Here:

- a float32 value x is <= the float64 threshold t exactly when it is <= the largest float32 that is <= t, so thresholds
  are *floored*; float64 columns keep float64 thresholds in tensors;
- missing values follow `nodes_missing_value_tracks_true`;
- a split on a set of categories becomes a chain of equality nodes that share one branch, which ONNX Runtime folds back
  into a set; the category of a missing or unseen value is MISSING_CATEGORY.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING_CATEGORY = -1.0


def floor_to_float32(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each threshold.

    >>> bool(floor_to_float32(np.array([0.1]))[0] <= 0.1 < np.float32(0.1))
    True
    """
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
        below = np.nextafter(nearest, np.float32(-np.inf))  # of the lowest finite value that is minus infinity
    return np.where(nearest > thresholds, below, nearest).astype(np.float32)


@dataclass
class Nodes:
    """The node table of the whole ensemble, as parallel lists with an entry for each tree."""

    tree: list[NDArray[Any]] = field(default_factory=list)
    feature: list[NDArray[Any]] = field(default_factory=list)
    mode: list[list[str]] = field(default_factory=list)
    threshold: list[NDArray[np.float64]] = field(default_factory=list)
    true: list[NDArray[Any]] = field(default_factory=list)
    false: list[NDArray[Any]] = field(default_factory=list)
    missing: list[NDArray[Any]] = field(default_factory=list)
    leaf_tree: list[NDArray[Any]] = field(default_factory=list)
    leaf: list[NDArray[Any]] = field(default_factory=list)
    weight: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass(frozen=True)
class Ensemble:
    """What a fitted tree model with one output computes: link(scale * (base + the leaves' sum))."""

    nodes: Nodes
    base: float
    link: str | None  # the ONNX operator of it
    scale: float = 1.0
    single: bool = False  # its own library casts rows to float32 before it compares them
    categories: Mapping[int, Sequence[Any]] = field(default_factory=dict)  # by feature, in the order of their codes
    categories_in_order: Sequence[Sequence[Any]] = ()  # likewise, of the string columns from left to right

    def thresholds(self) -> dict[int, NDArray[np.float64]]:
        """Every numeric split threshold, by feature index."""
        modes = np.array([mode for modes in self.nodes.mode for mode in modes])
        numeric = np.isin(modes, ("BRANCH_LEQ", "BRANCH_LT"))
        return _by_feature(np.concatenate(self.nodes.feature)[numeric], np.concatenate(self.nodes.threshold)[numeric])


LINKS = {"IdentityLink": None, "LogLink": "Exp", "LogitLink": "Sigmoid"}


def hist_gradient_boosting(estimator: Any) -> Ensemble | None:
    """The ensemble of a HistGradientBoosting estimator with one output and a known link, else None."""
    if type(estimator).__name__ not in ("HistGradientBoostingRegressor", "HistGradientBoostingClassifier"):
        return None
    link = type(estimator._loss.link).__name__  # noqa: SLF001  scikit-learn offers no public view
    if estimator.n_trees_per_iteration_ != 1 or link not in LINKS:
        return None
    nodes = Nodes()
    for number, (predictor,) in enumerate(estimator._predictors):  # noqa: SLF001
        _add_tree(nodes, number, predictor)
    base = float(np.asarray(estimator._baseline_prediction).reshape(-1)[0])  # noqa: SLF001
    return Ensemble(nodes, base, LINKS[link])


def attributes(ensemble: Ensemble, precision: str) -> dict[str, Any]:
    """The attributes of a TreeEnsembleRegressor that gives the ensemble's sum, before scale and link."""
    nodes = ensemble.nodes
    thresholds = np.concatenate(nodes.threshold)
    weights = np.concatenate(nodes.weight)
    base = np.array([ensemble.base], dtype=np.float64)
    ids = np.concatenate([np.arange(len(tree)) for tree in nodes.tree])
    found: dict[str, Any] = {
        "n_targets": 1,
        "post_transform": "NONE",
        "nodes_treeids": np.concatenate(nodes.tree),
        "nodes_nodeids": ids,
        "nodes_featureids": np.concatenate(nodes.feature),
        "nodes_modes": [mode for modes in nodes.mode for mode in modes],
        "nodes_truenodeids": np.concatenate(nodes.true),
        "nodes_falsenodeids": np.concatenate(nodes.false),
        "nodes_missing_value_tracks_true": np.concatenate(nodes.missing),
        "target_treeids": np.concatenate(nodes.leaf_tree),
        "target_nodeids": np.concatenate(nodes.leaf),
        "target_ids": np.zeros(len(weights), dtype=np.int64),
    }
    if precision == "float64":
        return found | {
            "nodes_values_as_tensor": thresholds,
            "target_weights_as_tensor": weights,
            "base_values_as_tensor": base,
        }
    return found | {
        "nodes_values": floor_to_float32(thresholds),
        "target_weights": weights.astype(np.float32),
        "base_values": base.astype(np.float32),
    }


def _add_tree(nodes: Nodes, number: int, predictor: Any) -> None:
    table = predictor.nodes
    leaf = table["is_leaf"].astype(bool)
    feature, threshold = table["feature_idx"].copy(), table["num_threshold"].astype(np.float64)
    true, false = table["left"].astype(np.int64), table["right"].astype(np.int64)
    missing = table["missing_go_to_left"].astype(np.int64)
    mode = np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
    for values in (feature, threshold, true, false, missing):
        values[leaf] = 0
    extra: list[tuple[int, float, int, int]] = []  # feature, category, true, false
    for node in np.flatnonzero(table["is_categorical"].astype(bool) & ~leaf):
        chain, target, other = _chain(table[node], predictor.raw_left_cat_bitsets)
        mode[node], missing[node], threshold[node], true[node] = "BRANCH_EQ", 0, chain[0], target
        end = len(table) + len(extra)
        false[node] = end if len(chain) > 1 else other
        for place, category in enumerate(chain[1:], start=2):
            following = end + place - 1 if place < len(chain) else other
            extra.append((int(feature[node]), category, target, following))
    nodes.leaf_tree.append(np.full(int(leaf.sum()), number))
    nodes.leaf.append(np.flatnonzero(leaf))
    nodes.weight.append(table["value"][leaf].astype(np.float64))
    added = np.array(extra, dtype=np.float64).reshape(-1, 4)
    nodes.tree.append(np.full(len(table) + len(extra), number))
    nodes.feature.append(np.concatenate([feature, added[:, 0].astype(np.int64)]))
    nodes.threshold.append(np.concatenate([threshold, added[:, 1]]))
    nodes.true.append(np.concatenate([true, added[:, 2].astype(np.int64)]))
    nodes.false.append(np.concatenate([false, added[:, 3].astype(np.int64)]))
    nodes.missing.append(np.concatenate([missing, np.zeros(len(extra), dtype=np.int64)]))
    nodes.mode.append(mode + ["BRANCH_EQ"] * len(extra))


def _chain(node: Any, bitsets: NDArray[np.uint32]) -> tuple[list[float], int, int]:
    """The categories to compare with, the child of a match, and the child when none matches."""
    bits = np.unpackbits(bitsets[node["bitset_idx"]].view(np.uint8), bitorder="little")
    left = [float(category) for category in np.flatnonzero(bits)]
    if node["missing_go_to_left"]:
        left.append(MISSING_CATEGORY)
    return left, int(node["left"]), int(node["right"])


def sklearn_thresholds(estimator: Any) -> dict[int, NDArray[np.float64]]:
    """Every split threshold of a decision tree or of an ensemble of them, by feature; empty for anything else."""
    tables: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for tree in _sklearn_trees(estimator):
        split = tree.children_left >= 0
        tables.append((tree.feature[split], tree.threshold[split]))
    if not tables:
        return {}
    return _by_feature(
        np.concatenate([feature for feature, _ in tables]), np.concatenate([value for _, value in tables])
    )


def _by_feature(features: NDArray[Any], values: NDArray[Any]) -> dict[int, NDArray[np.float64]]:
    return {int(feature): np.unique(values[features == feature]) for feature in np.unique(features)}


def _sklearn_trees(estimator: Any) -> list[Any]:
    if hasattr(estimator, "tree_"):
        return [estimator.tree_]
    members = getattr(estimator, "estimators_", None)
    if members is None:
        return []
    return [member.tree_ for member in np.ravel(np.asarray(members, dtype=object)) if hasattr(member, "tree_")]
