"""BentoML with adaptive batching; served by `bentoml serve bentoml_service:Model`, the model's path in MODEL."""

from __future__ import annotations

import os
from typing import Annotated

import bentoml
import joblib
import numpy as np
from numpy.typing import NDArray

Rows = Annotated[NDArray[np.float64], bentoml.validators.DType("float64")]


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Model:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.model.predict_proba(rows)[:, 1]
        return found
