"""FastAPI as one writes it by hand: a typed row in, a probability out. `python fastapi_server.py MODEL PORT`.

The model is asked in the event loop, one request at a time: on one core the cheapest way, without a thread's hand-over,
which a plain `def` would cost. Run as FastAPI's manual deployment says: uvicorn, one process per core, httptools and
uvloop, no access log.
"""

from __future__ import annotations

import sys

import joblib
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model

model = joblib.load(sys.argv[1])
NAMES = [f"f{number:02d}" for number in range(model.n_features_in_)]
Row = create_model("Row", **dict.fromkeys(NAMES, (float, ...)))
app = FastAPI()


class Answer(BaseModel):
    probability: float


@app.post("/predict")
async def predict(row: Row) -> Answer:  # type: ignore[valid-type]
    values = np.array([[getattr(row, name) for name in NAMES]])
    return Answer(probability=float(model.predict_proba(values)[0, 1]))


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        http="httptools",
        loop="uvloop",
        log_level="warning",
        access_log=False,
    )
