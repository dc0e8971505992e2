"""A PyTorch module as ONNX: a matrix of float32 features in, one number per row out.

The module says in `columns` which features it takes, in order; else it gets all. It answers (rows,) or (rows, 1): a value,
or a probability, so a classifier ends with its sigmoid. Parity judges what the exporter made; where it cannot export, or
is wrong, the module itself runs in a Python process.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import warnings
from typing import Any

from trueline.errors import PackagingFailed
from trueline.packaging import graph
from trueline.packaging.feeds import MATRIX_INPUT

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
EXAMPLE_ROWS = 3  # not 1, which the exporter would take for a constant


def is_module(model: Any) -> bool:
    """Whether it is one; asks only whether PyTorch has been imported, for who made a module has done that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def export(module: Any, width: int) -> bytes:
    """The module as an ONNX model for any number of rows; PackagingFailed says what the exporter stumbled over."""
    import torch  # noqa: PLC0415  an extra, and there when this is called

    module.eval()
    example = torch.zeros((EXAMPLE_ROWS, width), dtype=torch.float32)
    logger = logging.getLogger("torch.onnx")
    level, made = logger.level, io.BytesIO()
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the exporter's own future; parity judges the result
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                input_names=[MATRIX_INPUT],
                output_names=[graph.OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
                opset_version=graph.OPSETS[""],
                verbose=False,
            )
            program.save(made)
    except Exception as problem:  # the exporter wraps whatever goes wrong inside it, several times
        raise PackagingFailed(f"it cannot be exported ({_innermost(problem)})") from problem
    finally:
        logger.setLevel(level)
    return made.getvalue()


def _innermost(problem: BaseException) -> str:
    """The first line of what went wrong first, without colours."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = _COLOUR.sub("", str(problem)).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0][:160]}" if lines else type(problem).__name__
