"""Boosted trees as ONNX nodes: their categories, their trees, their link; alone or inside a pipeline.

Written here, and not left to a converter: scikit-learn's HistGradientBoosting, XGBoost and LightGBM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from onnx import numpy_helper
from sklearn.base import is_classifier

from trueline.domain.contracts import Column, Kind
from trueline.packaging import boosters, feeds
from trueline.packaging.feeds import MATRIX, MATRIX_INPUT, float_type, tensor_type
from trueline.packaging.graph import GraphBuilder, element_type
from trueline.packaging.trees import MISSING_CATEGORY, Ensemble, attributes, hist_gradient_boosting

ML = "ai.onnx.ml"


class Emitter(Protocol):
    """Where nodes go: a graph of our own, or skl2onnx's container."""

    def emit(self, op: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str: ...

    def constant(self, value: np.ndarray[Any, Any]) -> str: ...


def ensemble(estimator: Any) -> Ensemble | None:
    """The estimator as a table of nodes, if it is one that is written here."""
    return hist_gradient_boosting(estimator) or boosters.ensemble(estimator)


def write(estimator: Any, inputs: Sequence[Column], layout: str, precision: str) -> Any:
    """A whole ONNX model of a bare estimator."""
    trees = ensemble(estimator)
    assert trees is not None  # noqa: S101  the caller asked
    graph = GraphBuilder()
    dtype = float_type(precision)
    if layout == MATRIX:
        value = emit(graph, estimator, trees, MATRIX_INPUT, precision)
        return graph.model([(MATRIX_INPUT, dtype, [None, len(inputs)])], value, np.float32)
    types = [tensor_type(column, precision) for column in inputs]
    axis = graph.constant(np.array([1]))
    tensors = [graph.emit("Unsqueeze", [column.name, axis]) for column in inputs]
    named = boosters.words(trees, inputs)
    value = emit(graph, estimator, trees, list(zip(tensors, types, strict=True)), precision, named)
    shapes: list[tuple[str, type[Any], list[int | None]]] = [
        (column.name, kind, [None]) for column, kind in zip(inputs, types, strict=True)
    ]
    return graph.model(shapes, value, np.float32)


def layout_for(inputs: Sequence[Column]) -> str:
    return feeds.COLUMNS if any(column.kind is Kind.string for column in inputs) else MATRIX


def emit(
    graph: Emitter,
    estimator: Any,
    trees: Ensemble,
    source: str | Sequence[tuple[str, type[Any]]],
    precision: str,
    words: Mapping[int, Sequence[Any]] | None = None,
) -> str:
    """Nodes from the input (a matrix, or a tensor per column) to P(positive) or the value; answers its name."""
    if getattr(estimator, "_preprocessor", None) is not None:
        matrix = _encoded(graph, estimator, source, precision)
    elif isinstance(source, str):
        matrix = source
    else:
        matrix = graph.emit(
            "Concat",
            [
                _codes(graph, name, kind, np.array(words[place], dtype=object), precision, unseen=np.nan)
                if words is not None and place in words
                else _as_float(graph, name, kind, precision)
                for place, (name, kind) in enumerate(source)
            ],
            axis=1,
        )
    if trees.single and precision != "float32":
        matrix, precision = graph.emit("Cast", [matrix], to=element_type(np.float32)), "float32"
    raw = graph.emit("TreeEnsembleRegressor", [matrix], domain=ML, **attributes(trees, precision))
    if trees.scale != 1:
        raw = graph.emit("Mul", [raw, graph.constant(np.array([trees.scale], dtype=np.float32))])
    return raw if trees.link is None else graph.emit(trees.link, [raw])


def _encoded(graph: Emitter, estimator: Any, source: str | Sequence[tuple[str, type[Any]]], precision: str) -> str:
    """Categories first, as codes, then the numbers: the order in which the trees were grown."""
    preprocessor = estimator._preprocessor  # noqa: SLF001
    categorical = np.flatnonzero(estimator.is_categorical_).tolist()
    numeric = np.flatnonzero(~estimator.is_categorical_).tolist()
    encoder = preprocessor.named_transformers_["encoder"]
    parts = []
    for index, categories in zip(categorical, encoder.categories_, strict=True):
        if isinstance(source, str):
            column, kind = (
                graph.emit("Gather", [source, graph.constant(np.array([index]))], axis=1),
                float_type(precision),
            )
        else:
            column, kind = source[index]
        parts.append(_codes(graph, column, kind, categories, precision))
    if numeric:
        if isinstance(source, str):
            parts.append(graph.emit("Gather", [source, graph.constant(np.array(numeric))], axis=1))
        else:
            parts.extend(_as_float(graph, *source[index], precision) for index in numeric)
    return graph.emit("Concat", parts, axis=1)


def _codes(
    graph: Emitter,
    column: str,
    kind: type[Any],
    categories: np.ndarray[Any, Any],
    precision: str,
    unseen: float = MISSING_CATEGORY,
) -> str:
    # None is a category like any other to scikit-learn's encoder (NaN is not: it is encoded as missing)
    known = [(code, one) for code, one in enumerate(categories) if one == one]  # noqa: PLR0124  NaN
    codes = np.array([code for code, _ in known], dtype=np.float32)
    if kind is object:
        keys: dict[str, Any] = {"keys_strings": [feeds.NULL_TEXT if one is None else str(one) for _, one in known]}
    else:
        keys = {"keys_floats": np.array([one for _, one in known], dtype=np.float32)}
        if kind is not np.float32:
            column = graph.emit("Cast", [column], to=element_type(np.float32))
    encoded = graph.emit("LabelEncoder", [column], domain=ML, **keys, values_floats=codes, default_float=unseen)
    return _as_float(graph, encoded, np.float32, precision)


def _as_float(graph: Emitter, name: str, kind: type[Any], precision: str) -> str:
    if kind is float_type(precision):
        return name
    return graph.emit("Cast", [name], to=element_type(float_type(precision)))


class _Container:
    """skl2onnx's container, seen as an `Emitter`."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope, self.container = scope, container

    def emit(self, op: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        output: str = self.scope.get_unique_variable_name(op.lower())
        version = 3 if op == "TreeEnsembleRegressor" else 2 if domain == ML else 18 if op != "Cast" else 13
        plain = {
            name: value
            if not isinstance(value, np.ndarray)
            else numpy_helper.from_array(value, name)
            if name.endswith("_as_tensor")
            else value.tolist()
            for name, value in attributes.items()
        }
        self.container.add_node(
            op, list(inputs), output, op_domain=domain, op_version=version,
            name=self.scope.get_unique_operator_name(op), **plain,
        )  # fmt: skip
        return output

    def constant(self, value: np.ndarray[Any, Any]) -> str:
        name: str = self.scope.get_unique_variable_name("constant")
        self.container.add_initializer(name, element_type(value.dtype.type), value.shape, value.tolist())
        return name


def convert(scope: Any, operator: Any, container: Any) -> None:
    """The converter registered with skl2onnx, so that pipelines ending in these estimators are right too."""
    estimator = operator.raw_operator
    trees = ensemble(estimator)
    if trees is None:
        raise NotImplementedError(f"{type(estimator).__name__} with several outputs or a link unknown here")
    (source,) = operator.inputs
    precision = "float64" if "Double" in type(source.type).__name__ else "float32"
    graph = _Container(scope, container)
    name = source.full_name
    if "Int64" in type(source.type).__name__ or "Boolean" in type(source.type).__name__:
        name = graph.emit("Cast", [name], to=element_type(np.float32))
    value = emit(graph, estimator, trees, name, precision)
    if precision == "float64":  # as skl2onnx has declared the outputs
        value = graph.emit("Cast", [value], to=element_type(np.float64))
    if not is_classifier(estimator):
        container.add_node("Identity", [value], operator.outputs[0].full_name, name=scope.get_unique_operator_name("v"))
        return
    one = scope.get_unique_variable_name("one")
    container.add_initializer(one, element_type(float_type(precision)), [1], [1.0])
    negative = graph.emit("Sub", [one, value])
    both = graph.emit("Concat", [negative, value], axis=1)
    label = graph.emit("ArgMax", [both], axis=1, keepdims=0)
    container.add_node("Identity", [label], operator.outputs[0].full_name, name=scope.get_unique_operator_name("l"))
    container.add_node("Identity", [both], operator.outputs[1].full_name, name=scope.get_unique_operator_name("p"))
