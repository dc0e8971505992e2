"""What is asked of a server and how its answer reads: one row of 30 floats in, the probability of the positive class out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models

Row = list[float]
PLAIN, OPEN_INFERENCE = "/predict", "Open Inference"


@dataclass(frozen=True)
class Endpoint:
    kind: str  # the natural one, or Open Inference
    path: str
    body: Callable[[Row], Any]
    probability: Callable[[Any], float]

    def write(self, rows: Iterable[Row], path: Path) -> Path:
        """One JSON body per line."""
        path.write_text("".join(json.dumps(self.body(row)) + "\n" for row in rows))
        return path

    def read(self, answer: bytes) -> float:
        return float(self.probability(json.loads(answer)))


def named(row: Row) -> dict[str, float]:
    return dict(zip(models.NAMES, row, strict=True))


def tensor(row: Row, **more: Any) -> dict[str, Any]:
    """An infer request of one FP32 matrix with one row: the smallest and cheapest for every server that speaks it."""
    return {"inputs": [{"name": "rows", "shape": [1, len(row)], "datatype": "FP32", "data": row}], **more}


def _recorded(answer: Any) -> float:
    assert answer["prediction_ids"][0], "the journal was not written"
    return float(answer["predictions"][0])


TRUELINE = Endpoint(PLAIN, "/predict", named, _recorded)
TRUELINE_OPEN = Endpoint(
    OPEN_INFERENCE, "/v2/models/bench/infer", tensor, lambda answer: answer["outputs"][0]["data"][0]
)
MLSERVER = Endpoint(
    OPEN_INFERENCE,
    "/v2/models/bench/infer",
    lambda row: tensor(row, outputs=[{"name": "predict_proba"}]),
    lambda answer: answer["outputs"][0]["data"][1],
)
NAMED = Endpoint(PLAIN, "/predict", named, lambda answer: answer["probability"])
LISTED = Endpoint(PLAIN, "/predict", lambda row: {"row": row}, lambda answer: answer["probability"])
BENTOML = Endpoint(PLAIN, "/predict", lambda row: {"rows": [row]}, lambda answer: answer[0])
STARLETTE = Endpoint(PLAIN, "/predict", named, lambda answer: answer["predictions"][0])
MLFLOW = Endpoint(PLAIN, "/invocations", lambda row: {"inputs": [row]}, lambda answer: answer["predictions"][0][1])
MLFLOW_COLUMNS = Endpoint(
    PLAIN,
    "/invocations",
    lambda row: {"dataframe_split": {"columns": models.NAMES, "data": [row]}},
    lambda answer: answer["predictions"][0][1],
)
ECHO = Endpoint(PLAIN, "/predict", named, lambda answer: answer[models.NAMES[0]])
