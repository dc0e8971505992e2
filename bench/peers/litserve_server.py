"""LitServe with its batching and its ZeroMQ queue, as its guide asks for hundreds of requests a second.

`python litserve_server.py MODEL PORT`. Annotations stay values here: LitServe reads the request's type from them.
"""

import sys
from typing import Any

import joblib
import litserve
import numpy as np


class Model(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002  the interface
        self.model = joblib.load(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        return list(request["row"])

    def batch(self, inputs: list[list[float]]) -> Any:
        return np.array(inputs)

    def predict(self, x: Any) -> Any:
        return self.model.predict_proba(x)[:, 1]

    def unbatch(self, output: Any) -> list[float]:
        return list(output.tolist())

    def encode_response(self, output: float) -> dict[str, float]:
        return {"probability": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Model(max_batch_size=32, batch_timeout=0.002), accelerator="cpu", workers_per_device=1, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
        http="httptools",
        loop="uvloop",
    )
