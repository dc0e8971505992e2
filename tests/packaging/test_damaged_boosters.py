"""What a library writes of a model is read as it is, or not at all: then the library itself serves the model."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
import onnxruntime
import polars as pl
import pytest
import xgboost as xgb
from damage import another_page
from hypothesis import given, settings
from hypothesis import strategies as st

from trueline.domain.contracts import Column, Kind
from trueline.packaging import boosters, boosting
from trueline.packaging.feeds import MATRIX

WIDTH = 4
INPUTS = tuple(Column(f"x{number}", Kind.float32, nullable=True) for number in range(WIDTH))
Page = dict[str, Any]


def training() -> tuple[Any, Any]:
    draw = np.random.default_rng(3)
    rows = draw.normal(size=(400, WIDTH))
    rows[:, 3] = draw.integers(0, 6, 400)
    rows[draw.random((400, WIDTH)) < 0.1] = np.nan
    known = np.nan_to_num(rows)
    return rows, known[:, 0] + (known[:, 1] > 0) * 3 + (known[:, 3] % 3) * 2


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    """What XGBoost and LightGBM write of small models: plain ones, dropped trees, categories."""
    rows, target = training()
    small: Any = {"n_estimators": 2, "n_jobs": 1}
    types = ["q", "q", "q", "c"]
    words = xgb.DMatrix(rows, target, feature_types=types, enable_categorical=True)
    found = [
        xgb.XGBRegressor(**small, max_depth=3, **options).fit(rows, target).get_booster()
        for options in ({}, {"booster": "dart", "rate_drop": 0.5})
    ]
    found.append(xgb.train({"max_depth": 3, "max_cat_to_onehot": 1, "nthread": 1}, words, 2))
    written = {f"xgboost {place}": json.loads(one.save_raw("json")) for place, one in enumerate(found)}
    for place, options in enumerate(({}, {"categorical_feature": [3]})):
        data = lgb.Dataset(rows, target, params={"verbose": -1, "min_data_per_group": 5, "cat_smooth": 1}, **options)
        made = lgb.train({"num_leaves": 6, "verbose": -1, "num_threads": 1, "min_data_per_group": 5}, data, 2)
        written[f"lightgbm {place}"] = made.dump_model()
    return written


class Xgboost:
    """A fitted model, as far as the reader looks."""

    __module__ = "xgboost"

    def __init__(self, page: Any) -> None:
        self.page = page

    def get_booster(self) -> Any:
        return self

    def save_raw(self, _: str) -> bytes:
        return json.dumps(self.page).encode()


class Lightgbm:
    __module__ = "lightgbm"

    def __init__(self, page: Any) -> None:
        self.booster_ = self
        self.page = page

    def dump_model(self) -> Any:
        return self.page


def model(name: str, page: Any) -> Any:
    return (Xgboost if name.startswith("xgboost") else Lightgbm)(page)


def rows_to_ask() -> Any:
    rows, _ = training()
    return rows[:20].astype(np.float32)


def walked_xgboost(page: Page, row: Sequence[float]) -> float:
    """What the page says of a row, step by step, as its library documents it."""
    gradient = page["learner"]["gradient_booster"]
    dart = gradient["name"] == "dart"
    trees = (gradient["gbtree"] if dart else gradient)["model"]["trees"]
    total = float(str(page["learner"]["learner_model_param"]["base_score"]).strip("[]"))
    for number, tree in enumerate(trees):
        sets = {}
        for place, node in enumerate(tree["categories_nodes"]):
            start = tree["categories_segments"][place]
            sets[node] = tree["categories"][start : start + tree["categories_sizes"][place]]
        node = 0
        while tree["left_children"][node] >= 0:
            value = row[tree["split_indices"][node]]
            if np.isnan(value):
                left = bool(tree["default_left"][node])
            elif node in sets:
                left = value not in sets[node]
            else:
                left = bool(value < np.float32(tree["split_conditions"][node]))
            node = tree["left_children" if left else "right_children"][node]
        total += float(np.float32(tree["split_conditions"][node])) * (gradient["weight_drop"][number] if dart else 1)
    return total


def walked_lightgbm(page: Page, row: Sequence[float]) -> float:
    total = 0.0
    for tree in page["tree_info"]:
        node = tree["tree_structure"]
        while "split_index" in node:
            value, missing = float(row[node["split_feature"]]), node["missing_type"]
            if node["decision_type"] == "==":
                left = value in [float(one) for one in str(node["threshold"]).split("||")]
            elif np.isnan(value) and missing == "NaN":
                left = bool(node["default_left"])
            else:
                left = np.nan_to_num(value) <= float(node["threshold"])
            node = node["left_child" if left else "right_child"]
        total += float(node["leaf_value"])
    return total / (len(page["tree_info"]) if page["average_output"] else 1)


WALKED: Mapping[str, Callable[[Page, Sequence[float]], float]] = {
    "xgboost": walked_xgboost,
    "lightgbm": walked_lightgbm,
}


def answers(name: str, page: Any) -> Any:
    """Of ONNX Runtime, of the nodes that were read; None where the page is not for nodes."""
    estimator = model(name, page)
    said = ""
    try:
        nodes = boosters.ensemble(estimator)
    except boosters.Unsayable as problem:
        nodes, said = None, str(problem)
    if nodes is None:
        assert not said or re.fullmatch(r"what \w+ writes of this model is not understood \(.+\)", said)
        return None
    precision = "float32" if name.startswith("xgboost") else "float64"
    graph = boosting.write(estimator, INPUTS, MATRIX, precision).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"X": rows_to_ask().astype(precision)})[0].reshape(-1)


def same(name: str, page: Page, found: Any) -> None:
    expected = [WALKED[name.partition(" ")[0]](page, row) for row in rows_to_ask()]
    assert found == pytest.approx(np.array(expected, dtype=np.float32), rel=1e-4, abs=1e-4, nan_ok=True)


def test_a_page_as_it_was_written_is_read(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        found = answers(name, page)
        assert found is not None, name
        same(name, page, found)


@settings(max_examples=100)
@given(st.sampled_from(["xgboost 0", "xgboost 1", "xgboost 2", "lightgbm 0", "lightgbm 1"]), st.data())
def test_a_page_with_anything_changed_is_read_as_it_is_or_not_at_all(
    pages: dict[str, Page], name: str, data: st.DataObject
) -> None:
    page = json.loads(json.dumps(pages[name]))
    trees: list[Any] = page["tree_info"] if name.startswith("lightgbm") else _trees(page)
    if data.draw(st.booleans(), "in a tree"):
        place = data.draw(st.integers(0, len(trees) - 1))
        trees[place] = data.draw(another_page(trees[place]))
    else:
        page = data.draw(another_page(page))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers beyond float32
        found = answers(name, page)
        if found is not None:
            same(name, page, found)


def _trees(page: Page) -> Any:
    gradient = page["learner"]["gradient_booster"]
    return gradient.get("gbtree", gradient)["model"]["trees"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("left_children", 0), ("right_children", 10**6), ("left_children", 1.5), ("split_indices", WIDTH)],
)
def test_nodes_that_lead_nowhere_are_not_handed_on(pages: dict[str, Page], key: str, value: Any) -> None:
    page = json.loads(json.dumps(pages["xgboost 0"]))
    _trees(page)[0][key][0] = value
    with pytest.raises(boosters.Unsayable, match=r"no tree|reads feature|Cannot cast"):
        boosters.ensemble(model("xgboost", page))


def chain(leaves: int) -> str:
    """LightGBM's text of one tree that is as deep as it has leaves: the leaf is how many whole numbers x has passed."""
    splits = leaves - 1
    fields = {
        "num_leaves": [leaves],
        "num_cat": [0],
        "split_feature": [0] * splits,
        "split_gain": [1] * splits,
        "threshold": [place + 0.5 for place in range(splits)],
        "decision_type": [2] * splits,
        "left_child": [-place - 1 for place in range(splits)],
        "right_child": [*range(1, splits), -leaves],
        "leaf_value": [float(place) for place in range(leaves)],
        "leaf_weight": [1] * leaves,
        "leaf_count": [1] * leaves,
        "internal_value": [0] * splits,
        "internal_weight": [0] * splits,
        "internal_count": [2] * splits,
        "is_linear": [0],
        "shrinkage": [1],
    }
    tree = "Tree=0\n" + "".join(f"{key}={' '.join(map(str, values))}\n" for key, values in fields.items()) + "\n\n"
    head = {"version": "v4", "num_class": 1, "num_tree_per_iteration": 1, "label_index": 0, "max_feature_idx": 0}
    head |= {"objective": "regression", "feature_names": "distance", "feature_infos": f"[0:{leaves}]"}
    lines = "".join(f"{key}={value}\n" for key, value in head.items())
    return f"tree\n{lines}tree_sizes={len(tree)}\n\n{tree}end of trees\n\nparameters:\nend of parameters\n"


def test_a_tree_too_deep_to_be_read_is_served_by_its_own_library(rows: Any, pack: Any) -> None:
    packaged = pack(lgb.Booster(model_str=chain(1500)), rows=rows.frame.select(pl.col("distance").clip(0, 1400)))
    assert packaged.kind == "lightgbm", packaged.parity
    assert packaged.parity.worst == 0
    assert "what lightgbm writes of this model is not understood (RecursionError" in packaged.parity.tried[0]
