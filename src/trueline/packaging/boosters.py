"""XGBoost and LightGBM models: recognised, read as trees, and kept in their library's own data format.

Both libraries are optional and imported only when a model of theirs is at hand; a model is recognised by where its
class comes from. Their formats are data: nothing in them is executed, but their readers are C++ that trusts what it
reads, so a served one runs in a process of its own (`tree_executors`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueline.domain.contracts import Column, Kind
from trueline.packaging.trees import Ensemble, Nodes

XGBOOST = "xgboost"
LIGHTGBM = "lightgbm"
LINKS: Mapping[str, str | None] = {
    "reg:squarederror": None, "reg:absoluteerror": None, "reg:pseudohubererror": None, "reg:quantileerror": None,
    "reg:squaredlogerror": None, "reg:logistic": "Sigmoid", "binary:logistic": "Sigmoid", "binary:logitraw": None,
    "count:poisson": "Exp", "reg:gamma": "Exp", "reg:tweedie": "Exp",
    "regression": None, "regression_l1": None, "huber": None, "fair": None, "quantile": None, "mape": None,
    "binary": "Sigmoid", "cross_entropy": "Sigmoid", "poisson": "Exp", "gamma": "Exp", "tweedie": "Exp",
}  # fmt: skip
_INNER: Mapping[str, Callable[[float], Any]] = {
    "Sigmoid": lambda value: np.log(value / (1 - value)),
    "Exp": np.log,
}  # XGBoost keeps its base as an output


def library(estimator: Any) -> str | None:
    """XGBoost or LightGBM by the name of its package, if the estimator is one of theirs (or of a class made from theirs)."""
    if isinstance(estimator, Bare):
        return estimator.kind
    roots = {base.__module__.partition(".")[0] for base in type(estimator).__mro__}
    return next((one for one in (XGBOOST, LIGHTGBM) if one in roots), None)


def booster(estimator: Any) -> Any:
    """The library's own model inside a scikit-learn wrapper, cut to the iterations that the wrapper predicts with."""
    if isinstance(estimator, Bare):
        return estimator.booster
    if library(estimator) == LIGHTGBM:
        return estimator.booster_
    found = estimator.get_booster()
    try:
        return found[: estimator.best_iteration + 1]  # it was stopped early
    except AttributeError:
        return found


class Unsayable(Exception):
    """What the library wrote of a model is not as known here, or no table of nodes; the model itself may be all right."""


class Bare:
    """A Booster that `xgboost.train` or `lightgbm.train` returned, seen as an estimator."""

    def __init__(self, found: Any) -> None:
        self.booster = found
        self.kind: str | None = library(found)
        names = found.feature_names if self.kind == XGBOOST else found.feature_name()
        if names:  # else it was fitted on an array, as the caller finds
            self.feature_names_in_ = list(names)

    def predict(self, frame: Any) -> NDArray[Any]:
        if self.kind == LIGHTGBM:
            return np.asarray(self.booster.predict(frame))
        rows = import_module(XGBOOST).DMatrix(frame, enable_categorical=True, nthread=1)
        return np.asarray(self.booster.predict(rows))


class BareClassifier(Bare):
    """A Booster whose objective gives probabilities."""

    def __init__(self, found: Any, classes: int) -> None:
        super().__init__(found)
        self.classes_ = np.arange(classes)

    def predict_proba(self, frame: Any) -> NDArray[Any]:
        values = self.predict(frame)
        return np.column_stack([1 - values, values]) if values.ndim == 1 else values


def as_estimator(fitted: Any) -> Any:
    """The fitted estimator itself; a bare Booster in estimator's clothes."""
    kind = library(fitted)
    if kind is None or type(fitted).__name__ != "Booster":
        return fitted
    objective, classes = _objective(fitted, kind)
    if LINKS.get(objective) == "Sigmoid" or classes > 1:
        return BareClassifier(fitted, max(2, classes))
    return Bare(fitted)


def _objective(found: Any, kind: str) -> tuple[str, int]:
    """What it was fitted to, and how many classes it has; ("", 0) where its library does not say so as known here."""
    try:
        if kind == LIGHTGBM:
            head = found.model_to_string(num_iteration=1).partition("\n\n")[0]
            said = dict(line.partition("=")[::2] for line in head.splitlines())
            return said.get("objective", "").partition(" ")[0], int(said["num_class"])
        learner = json.loads(found.save_config())["learner"]
        return str(learner["objective"]["name"]), int(learner["learner_model_param"]["num_class"])
    except (LookupError, TypeError, ValueError):
        return "", 0


def write(estimator: Any, path: Path) -> None:
    """Keep the model in its library's format: XGBoost's UBJSON or LightGBM's text."""
    booster(estimator).save_model(str(path))


def pandas_words(found: Any, inputs: Sequence[Column]) -> dict[int, Sequence[Any]]:
    """By column, what a LightGBM booster fitted on a pandas frame calls its categories, in the order of their codes.

    The model keeps them in the order of the frame's categorical columns and does not say which those were: here they
    are the string columns. Where that is wrong, parity says so.
    """
    return _in_order(found.pandas_categorical or (), inputs)


def words(trees: Ensemble, inputs: Sequence[Column]) -> dict[int, Sequence[Any]]:
    """The words of each string column in the order of their codes: as the model knows them, else as the contract."""
    found = _in_order(trees.categories_in_order, inputs) or trees.categories
    strings = [place for place, column in enumerate(inputs) if column.kind is Kind.string]
    return {place: found.get(place) or inputs[place].categories or () for place in strings}


def _in_order(lists: Sequence[Sequence[Any]], inputs: Sequence[Column]) -> dict[int, Sequence[Any]]:
    strings = [place for place, column in enumerate(inputs) if column.kind is Kind.string]
    return dict(zip(strings, lists, strict=True)) if len(strings) == len(lists) else {}


def ensemble(estimator: Any) -> Ensemble | None:
    """The model as a table of nodes, if it has one output and all that it does can be said so; else None.

    Raises:
        Unsayable: what the library writes of it is not what its known versions write.
    """
    kind = library(estimator)
    try:
        if kind == XGBOOST:
            return _xgboost(json.loads(booster(estimator).save_raw("json"))["learner"])
        if kind == LIGHTGBM:
            return _lightgbm(booster(estimator).dump_model())
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as problem:
        raise Unsayable(
            f"what {kind} writes of this model is not understood "
            f"({type(problem).__name__}: {' '.join(str(problem).split())[:100]})"
        ) from problem
    return None


def _xgboost(learner: Mapping[str, Any]) -> Ensemble | None:
    gradient, objective = learner["gradient_booster"], learner["objective"]["name"]
    dart = gradient["name"] == "dart"
    model = (gradient["gbtree"] if dart else gradient).get("model", {})
    param = learner["learner_model_param"]
    several = int(param["num_class"]) > 1 or int(param.get("num_target", 1)) > 1
    if objective not in LINKS or several or "trees" not in model or not model["trees"]:
        return None
    drops = gradient["weight_drop"] if dart else [1.0] * len(model["trees"])
    nodes = Nodes()
    for number, (tree, drop) in enumerate(zip(model["trees"], drops, strict=True)):
        _add(nodes, number, _xgboost_rows(tree, drop), int(param["num_feature"]))
    link = LINKS[objective]
    base = float(np.float32(str(param["base_score"]).strip("[]")))
    return Ensemble(
        nodes, float(_INNER[link](base)) if link else base, link, single=True, categories=_xgboost_categories(model)
    )


def _xgboost_categories(model: Mapping[str, Any]) -> dict[int, Sequence[Any]]:
    """The words behind the codes, which newer versions keep as a string with offsets."""
    found: dict[int, Sequence[Any]] = {}
    for feature, one in enumerate(model.get("cats", {}).get("enc", ())):
        offsets, values = one.get("offsets", ()), one["values"]
        if len(offsets) > 1:
            text = bytes(value % 256 for value in values)
            found[feature] = [text[a:b].decode() for a, b in pairwise(offsets)]
    return found


Row = tuple[int, str, float, int, int, bool]
"""Feature, mode, threshold (or the leaf's value), where true goes, where false goes, whether missing goes to true."""


def _xgboost_rows(tree: Mapping[str, Any], drop: float) -> list[Row]:
    """A row for each node; matching any of a split's categories leads to the right child."""
    sets = {
        node: tree["categories"][start : start + size]
        for node, start, size in zip(
            tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
        )
    }
    rows: list[Row] = []
    extra: list[Row] = []
    for node, (left, right) in enumerate(zip(tree["left_children"], tree["right_children"], strict=True)):
        feature, missing_left = tree["split_indices"][node], tree["default_left"]
        value = float(np.float32(tree["split_conditions"][node]))  # written with the digits that a float32 needs
        if left < 0:
            rows.append((0, "LEAF", value * drop, 0, 0, False))
        elif node in sets:
            end = len(tree["left_children"]) + len(extra)
            first, *rest = _chain(feature, sets[node], right, left, end, missing_true=not missing_left[node])
            rows.append(first)
            extra += rest
        else:
            rows.append((feature, "BRANCH_LT", value, left, right, bool(missing_left[node])))
    return rows + extra


def _chain(
    feature: int, members: Iterable[float], match: int, other: int, end: int, *, missing_true: bool
) -> list[Row]:
    """A set of categories as equality nodes that share one branch; the second of them gets the number `end`."""
    known = [float(one) for one in members] or [-1.0]
    return [
        (feature, "BRANCH_EQ", one, match, end + place if place + 1 < len(known) else other, missing_true)
        for place, one in enumerate(known)
    ]


def _lightgbm(page: Mapping[str, Any]) -> Ensemble | None:
    objective, *options = str(page.get("objective", "")).split(" ")
    if objective not in LINKS or page["num_tree_per_iteration"] != 1 or "sqrt" in options or not page["tree_info"]:
        return None
    share = 1 / len(page["tree_info"]) if page["average_output"] else 1.0
    nodes = Nodes()
    for number, tree in enumerate(page["tree_info"]):
        rows = _lightgbm_rows(tree["tree_structure"], share)
        if rows is None:
            return None
        _add(nodes, number, rows, page["max_feature_idx"] + 1)
    scale = next((float(one.partition(":")[2]) for one in options if one.startswith("sigmoid:")), 1.0)
    return Ensemble(nodes, 0.0, LINKS[objective], scale, categories_in_order=page.get("pandas_categorical") or ())


def _lightgbm_rows(root: Mapping[str, Any], share: float) -> list[Row] | None:
    """A row for each node, the root first; None for what nodes cannot say (linear leaves, zero as missing)."""
    order = list(_walk(root))
    place = {id(node): number for number, node in enumerate(order)}
    rows: list[Row] = []
    extra: list[Row] = []
    for node in order:
        if "split_index" not in node:
            if "leaf_coeff" in node:
                return None
            rows.append((0, "LEAF", float(node["leaf_value"]) * share, 0, 0, False))
            continue
        left, right = place[id(node["left_child"])], place[id(node["right_child"])]
        feature, missing = node["split_feature"], node["missing_type"]
        if node["decision_type"] == "==":
            members = [float(one) for one in str(node["threshold"]).split("||")]
            end = len(order) + len(extra)
            first, *rest = _chain(feature, members, left, right, end, missing_true=False)
            rows.append(first)
            extra += rest
        elif missing == "Zero":
            return None
        elif node["decision_type"] != "<=" or missing not in ("None", "NaN"):
            raise ValueError(f"it splits by {node['decision_type']}, missing {missing}")
        else:  # a library that has seen no missing value takes one for 0
            true = bool(node["default_left"]) if missing == "NaN" else float(node["threshold"]) >= 0
            rows.append((feature, "BRANCH_LEQ", float(node["threshold"]), left, right, true))
    return rows + extra


def _walk(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if "split_index" in node:
            waiting += [node["right_child"], node["left_child"]]


def _add(nodes: Nodes, number: int, rows: Sequence[Row], width: int) -> None:
    """One more tree, of rows with `width` features."""
    feature, mode, value, true, false, missing = zip(*rows, strict=True)
    leaf = np.array([one == "LEAF" for one in mode])
    values = np.array(value, dtype=np.float64)
    features, yes, no = (np.array(one).astype(np.int64, casting="safe") for one in (feature, true, false))
    if features.min() < 0 or features.max() >= width:
        raise ValueError(f"tree {number} reads feature {features.max()} of {width}")
    _check_ends(number, yes, no, leaf)
    nodes.tree.append(np.full(len(rows), number))
    nodes.feature.append(features)
    nodes.mode.append(list(mode))
    nodes.threshold.append(np.where(leaf, 0.0, values))
    nodes.true.append(yes)
    nodes.false.append(no)
    nodes.missing.append(np.array(missing, dtype=np.int64))
    nodes.leaf_tree.append(np.full(int(leaf.sum()), number))
    nodes.leaf.append(np.flatnonzero(leaf))
    nodes.weight.append(values[leaf])


def _check_ends(number: int, yes: NDArray[np.int64], no: NDArray[np.int64], leaf: NDArray[np.bool_]) -> None:
    """Raises ValueError unless every way from the root ends in a leaf: what executes nodes believes that."""
    here, steps = np.zeros(1, dtype=np.int64), 0
    while len(here := here[~leaf[here]]):
        here = np.unique(np.concatenate([yes[here], no[here]]))
        steps += 1
        if here[0] < 0 or here[-1] >= len(leaf) or steps >= len(leaf):
            raise ValueError(f"the nodes of tree {number} are no tree")
