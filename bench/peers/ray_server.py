"""Ray Serve: one replica with dynamic request batching behind one HTTP proxy. `python ray_server.py MODEL PORT`."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
class Model:
    def __init__(self, path: str) -> None:
        self.model = joblib.load(path)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def batched(self, rows: list[list[float]]) -> list[float]:
        return list(self.model.predict_proba(np.array(rows))[:, 1].tolist())

    async def __call__(self, request: Request) -> dict[str, Any]:
        asked = await request.json()
        return {"probability": await self.batched(asked["row"])}


def main() -> None:
    ended = threading.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: ended.set())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Model.bind(sys.argv[1]), route_prefix="/predict")
    ended.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()
