"""The ways in which an estimator may become an ONNX model, fastest first; whether one is *right* is parity's question."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import skl2onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from trueline.domain.contracts import Column, Kind
from trueline.packaging import boosters, boosting, graph
from trueline.packaging.feeds import COLUMNS, MATRIX, MATRIX_INPUT, tensor_type


@dataclass(frozen=True)
class Recipe:
    """One way to convert; `write` answers the model's bytes or raises whatever the converter raises."""

    layout: str
    precision: str
    write: Callable[[], bytes]

    @property
    def name(self) -> str:
        return f"ONNX, {self.precision}, {'one matrix' if self.layout == MATRIX else 'a tensor per column'}"


def recipes(estimator: Any, inputs: Sequence[Column]) -> Iterator[Recipe]:
    wide = any(column.kind is Kind.float64 for column in inputs)
    try:
        trees = boosting.ensemble(estimator)
    except boosters.Unsayable as problem:
        yield Recipe(MATRIX, "float32", _refused(problem))  # so that it is told why
        return
    if trees is not None:
        layout = boosting.layout_for(inputs)
        for precision in ("float32",) if trees.single else ("float64",) if wide else ("float32", "float64"):
            yield Recipe(layout, precision, _boosting(estimator, inputs, layout, precision))
        return
    if boosters.library(estimator) is not None:
        return  # several outputs, or trees that nodes cannot say
    layouts = (COLUMNS,) if _needs_columns(estimator, inputs) else (MATRIX,)
    for precision in ("float32", "float64"):
        for layout in layouts:
            yield Recipe(layout, precision, _general(estimator, inputs, layout, precision))


def _needs_columns(estimator: Any, inputs: Sequence[Column]) -> bool:
    steps = [step for _, step in getattr(estimator, "steps", [])] or [estimator]
    return any(column.kind is Kind.string for column in inputs) or any(hasattr(step, "transformers_") for step in steps)


def _boosting(estimator: Any, inputs: Sequence[Column], layout: str, precision: str) -> Callable[[], bytes]:
    return lambda: bytes(boosting.write(estimator, inputs, layout, precision).SerializeToString())


def _refused(problem: Exception) -> Callable[[], bytes]:
    def write() -> bytes:
        raise problem

    return write


def _general(estimator: Any, inputs: Sequence[Column], layout: str, precision: str) -> Callable[[], bytes]:
    def write() -> bytes:
        _register(estimator)
        options = {id(estimator): {"zipmap": False}} if is_classifier(estimator) else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions and types; parity judges the result
            model = skl2onnx.convert_sklearn(
                estimator,
                name="trueline",
                initial_types=_types(inputs, layout, precision),
                target_opset=dict(graph.OPSETS),
                options=options,
            )
        if is_classifier(estimator):
            graph.only_positive_class(model)
        else:
            graph.only_value(model)
        if layout == COLUMNS:
            graph.flat_inputs(model)
        model.ir_version = graph.IR_VERSION
        return bytes(model.SerializeToString())

    return write


def _types(inputs: Sequence[Column], layout: str, precision: str) -> list[tuple[str, Any]]:
    floating = DoubleTensorType if precision == "float64" else FloatTensorType
    if layout == MATRIX:
        return [(MATRIX_INPUT, floating([None, len(inputs)]))]
    made: list[tuple[str, Any]] = []
    for column in inputs:
        kind = tensor_type(column, precision)
        tensor = StringTensorType if kind is object else Int64TensorType if kind.__name__ == "int64" else floating
        made.append((column.name, tensor([None, 1])))
    return made


def _register(estimator: Any) -> None:
    """Put our converter of HistGradientBoosting in the place of skl2onnx's own, and beside it that of the boosters."""
    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    kinds: list[Any] = [HistGradientBoostingRegressor, HistGradientBoostingClassifier]
    kinds += [type(step) for _, step in getattr(estimator, "steps", ()) if boosters.library(step) is not None]
    for kind in kinds:
        _register_kind(kind)


@cache
def _register_kind(kind: Any) -> None:
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [True, False]}
    classifier = issubclass(kind, ClassifierMixin)
    skl2onnx.update_registered_converter(
        kind,
        f"Trueline{kind.__name__}",
        calculate_linear_classifier_output_shapes if classifier else calculate_linear_regressor_output_shapes,
        boosting.convert,
        overwrite=True,
        options=options if classifier else None,
    )
