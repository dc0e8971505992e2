"""The other model servers, each as its own documentation would have it run for one core: how it is started, and why so.

All have one worker, httptools and uvloop under their uvicorn, no access log, the model in one thread. Where a server can
batch it does, up to 32 rows, the number of connections, and waits up to 2 ms for them (BentoML finds its own time); for
MLServer 20 ms were tried and came to no more.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import endpoints
import models
from endpoints import Endpoint
from models import Subject

HERE = Path(__file__).parent
MODEL = "bench"


class NotPrepared(Exception):
    """A peer's model could not be brought into its form."""


@dataclass(frozen=True)
class Site:
    """Where a peer is to be started: its interpreter, a folder of its own, and where it is to listen."""

    python: Path
    folder: Path
    port: int
    others: Sequence[int]  # free ports beside it
    subject: Subject


@dataclass(frozen=True)
class Command:
    arguments: list[str]  # after the interpreter
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    name: str
    environment: str  # its list of requirements
    endpoint: Endpoint
    command: Callable[[Site], Command]
    settings: str
    docs: tuple[str, ...]
    """Where the settings are recommended or explained."""


def _fastapi(site: Site) -> Command:
    return Command([str(HERE / "fastapi_server.py"), str(site.subject.arrays), str(site.port)])


def _litserve(site: Site) -> Command:
    return Command([str(HERE / "litserve_server.py"), str(site.subject.arrays), str(site.port)])


def _ray(*, haproxy: bool) -> Callable[[Site], Command]:
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    if haproxy:  # one thread, as there is one core
        variables |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_HAPROXY_NBTHREAD": "1"}

    def command(site: Site) -> Command:
        return Command([str(HERE / "ray_server.py"), str(site.subject.arrays), str(site.port)], variables)

    return command


def _bentoml(site: Site) -> Command:
    shutil.copy(HERE / "bentoml_service.py", site.folder)
    options = ["--working-dir", str(site.folder), "--host", "127.0.0.1", "--port", str(site.port)]
    variables = {
        "MODEL": str(site.subject.arrays),
        "BENTOML_HOME": str(site.folder / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    return Command(["-m", "bentoml", "serve", "bentoml_service:Model", *options], variables)


def _mlserver(**batching: float) -> Callable[[Site], Command]:
    def command(site: Site) -> Command:
        server = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": site.port,
            "grpc_port": site.others[0],
            "metrics_port": site.others[1],
            "parallel_workers": 0,
            "gzip_enabled": False,
            "metrics_dir": str(site.folder),
        }
        model = {
            "name": MODEL,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(site.subject.arrays)},
            **batching,
        }
        (site.folder / "settings.json").write_text(json.dumps(server))
        (site.folder / "model-settings.json").write_text(json.dumps(model))
        return Command(["-m", "mlserver.cli.main", "start", str(site.folder)])

    return command


def _mlflow(*, columns: bool) -> Callable[[Site], Command]:
    def command(site: Site) -> Command:
        names = models.NAMES if columns else []
        folder = site.subject.folder / ("mlflow-columns" if columns else "mlflow")
        if not folder.exists():
            model = site.subject.frames if columns else site.subject.arrays
            save = [str(site.python), str(HERE / "mlflow_save.py"), str(model), str(folder), *names]
            saved = subprocess.run(save, capture_output=True, check=False, text=True)
            if saved.returncode:
                raise NotPrepared(f"MLflow cannot save the model: {saved.stderr.strip().splitlines()[-1]}")
        # What `mlflow models serve --env-manager local --workers 1` runs, without its access log.
        served = ["-m", "uvicorn", "mlflow.pyfunc.scoring_server.app:app", "--no-access-log", "--log-level", "warning"]
        libraries = ["--http", "httptools", "--loop", "uvloop"]
        variables = {"__pyfunc_model_path__": folder.as_uri()}
        return Command([*served, *libraries, "--host", "127.0.0.1", "--port", str(site.port)], variables)

    return command


PEERS = (
    Peer(
        "MLServer, batching",
        "mlserver",
        endpoints.MLSERVER,
        _mlserver(max_batch_size=32, max_batch_time=0.002),
        "parallel_workers 0, max_batch_size 32, max_batch_time 0.002, debug off",
        (
            "https://docs.seldon.ai/mlserver/user-guide/adaptive-batching",
            "https://docs.seldon.ai/mlserver/user-guide/parallel-inference",
        ),
    ),
    Peer(
        "MLServer",
        "mlserver",
        endpoints.MLSERVER,
        _mlserver(),
        "parallel_workers 0, debug off",
        ("https://docs.seldon.ai/mlserver/user-guide/parallel-inference",),
    ),
    Peer(
        "BentoML",
        "bentoml",
        endpoints.BENTOML,
        _bentoml,
        "batchable, max_batch_size 32, one worker, access log off",
        ("https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html",),
    ),
    Peer(
        "LitServe",
        "litserve",
        endpoints.LISTED,
        _litserve,
        "max_batch_size 32, batch_timeout 0.002, fast_queue, one worker, one API server",
        (
            "https://lightning.ai/docs/litserve/features/batching",
            "https://lightning.ai/docs/litserve/api-reference/litserver",
        ),
    ),
    Peer(
        "MLflow",
        "mlflow",
        endpoints.MLFLOW,
        _mlflow(columns=False),
        "scoring server on uvicorn, no signature, `inputs` as an array",
        ("https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/",),
    ),
    Peer(
        "MLflow, column signature",
        "mlflow",
        endpoints.MLFLOW_COLUMNS,
        _mlflow(columns=True),
        "the same with a signature of 30 doubles, `dataframe_split`",
        ("https://mlflow.org/docs/latest/ml/model/signatures/",),
    ),
    Peer(
        "FastAPI, by hand",
        "fastapi",
        endpoints.NAMED,
        _fastapi,
        "a pydantic row, asked in the event loop, uvicorn",
        ("https://fastapi.tiangolo.com/deployment/manually/",),
    ),
    Peer(
        "Ray Serve, HAProxy",
        "ray",
        endpoints.LISTED,
        _ray(haproxy=True),
        "one replica, serve.batch of 32 with 2 ms, RAY_SERVE_THROUGHPUT_OPTIMIZED, RAY_SERVE_ENABLE_HA_PROXY",
        (
            "https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html",
            "https://docs.ray.io/en/latest/serve/advanced-guides/performance.html",
        ),
    ),
    Peer(
        "Ray Serve",
        "ray",
        endpoints.LISTED,
        _ray(haproxy=False),
        "the same behind its own proxy in Python, which it has unless told otherwise",
        ("https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html",),
    ),
)
