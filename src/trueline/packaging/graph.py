"""Small pieces of ONNX graphs: nodes with numeric attributes, one output per model, and no dead weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 8  # of the ONNX release that brought these opsets; old runtimes refuse newer ones
OUTPUT = "prediction"


def element_type(dtype: type[Any]) -> int:
    if dtype is object:
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def attribute(name: str, value: Any) -> Any:
    """An attribute from a number, a string or an array; without onnx's per-element type guessing, which is slow."""
    if isinstance(value, np.ndarray):
        if name.endswith("_as_tensor"):
            return helper.make_attribute(name, numpy_helper.from_array(value, name))
        floating = np.issubdtype(value.dtype, np.floating)
        made = onnx.AttributeProto(name=name, type=onnx.AttributeProto.FLOATS if floating else onnx.AttributeProto.INTS)
        (made.floats if floating else made.ints).extend(value.tolist())
        return made
    return helper.make_attribute(name, value)


class GraphBuilder:
    """Collects nodes; `emit` answers the name of the new node's output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def emit(self, op: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        output = f"{op.lower()}_{len(self.nodes)}"
        node = onnx.NodeProto(op_type=op, domain=domain, input=list(inputs), output=[output], name=output)
        node.attribute.extend(attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)
        return output

    def constant(self, value: np.ndarray[Any, Any]) -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def model(self, inputs: Sequence[tuple[str, type[Any], list[int | None]]], output: str, dtype: type[Any]) -> Any:
        """The finished model; inputs are (name, element type, shape)."""
        self.nodes.append(onnx.NodeProto(op_type="Identity", input=[output], output=[OUTPUT], name=OUTPUT))
        graph = helper.make_graph(
            self.nodes,
            "trueline",
            [helper.make_tensor_value_info(name, element_type(kind), shape) for name, kind, shape in inputs],
            [helper.make_tensor_value_info(OUTPUT, element_type(dtype), [None, 1])],
            self.initializers,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def flat_inputs(model: Any) -> None:
    """Let every input be a vector instead of a matrix of one column: what a data frame's column is to any caller."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "column_axis"))
    columns = {one.name: f"{one.name}/column" for one in graph.input}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = columns.get(name, name)
    rest = list(graph.node)
    del graph.node[:]
    for name, column in columns.items():
        graph.node.append(helper.make_node("Unsqueeze", [name, "column_axis"], [column], name=column))
    graph.node.extend(rest)
    flat = [helper.make_tensor_value_info(one.name, one.type.tensor_type.elem_type, [None]) for one in graph.input]
    del graph.input[:]
    graph.input.extend(flat)


def only_positive_class(model: Any) -> None:
    """Make column 1 of the `probabilities` output the model's one output."""
    graph = model.graph
    source = next(
        one for one in graph.output if one.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE)
    )
    kind = source.type.tensor_type.elem_type
    index = numpy_helper.from_array(np.array([1], dtype=np.int64), "positive_class")
    graph.initializer.append(index)
    graph.node.append(helper.make_node("Gather", [source.name, "positive_class"], [OUTPUT], name=OUTPUT, axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, kind, [None, 1]))
    prune(model)


def only_value(model: Any) -> None:
    """Name the one output of a regressor as every packaged model's output is named."""
    graph = model.graph
    source = graph.output[0]
    kind = source.type.tensor_type.elem_type
    graph.node.append(helper.make_node("Identity", [source.name], [OUTPUT], name=OUTPUT))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, kind, None))


def prune(model: Any) -> None:
    """Drop nodes whose results nobody reads (a classifier's label branch), which a session would still compute."""
    graph = model.graph
    needed = {one.name for one in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
