"""The process of a Python model: load the pickled object, then answer batches from the pipe until the other end closes.

Run by its path, in the environment of the model, which need not have trueline: it takes Python, NumPy, Polars and msgspec.
So it imports nothing of trueline's and says again, in as few lines as can be, what it shares with the rest: the digest of
a folder (`storage/trees.py`) and the messages of the pipe (`serving/pipe.py`); tests hold them together.

A copy lies in every such model's folder, for MLflow loads the model by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np
import polars as pl

LENGTH = struct.Struct("=I")
PR_SET_PDEATHSIG = 1
DTYPES = {
    "integer": pl.Int64, "float32": pl.Float32, "float64": pl.Float64, "string": pl.String, "boolean": pl.Boolean,
}  # fmt: skip
MODEL = "model.pkl"
CODE = "code"

TENSOR, PROBABILITY, PREDICT, CALL = "tensor", "predict_proba", "predict", "call"
"""How an object is asked: a PyTorch module with a matrix, anything else with a frame."""

Predict = Callable[[Mapping[str, Sequence[Any]]], "np.ndarray[Any, np.dtype[np.float64]]"]


def load(folder: Path) -> Predict:
    """Unpickle the object of a model folder; runs the code it brings along."""
    page = json.loads((folder / "trueline.json").read_text())
    roots = [str((folder / CODE / root).resolve()) for root in page["meta"]["python"]["roots"]]
    sys.path[:0] = roots
    with (folder / MODEL).open("rb") as file:
        model = pickle.load(file)  # noqa: S301  policy allows it, and the digest says that it is what was registered
    return predictor(model, [(one["name"], one["kind"]) for one in page["signature"]["inputs"]], page["layout"])


def predictor(model: Any, inputs: Sequence[tuple[str, str]], layout: str) -> Predict:
    """The object's answers as a function of columns: one number per row."""
    if layout == TENSOR:
        return _of_tensors(model, [name for name, _ in inputs])
    asked = model if layout == CALL else getattr(model, layout)

    def predict(columns: Mapping[str, Sequence[Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        # not strict: JSON may say 3.0 where the contract has an integer, and it has passed the contract
        series = {name: pl.Series(name, columns[name], dtype=DTYPES[kind], strict=False) for name, kind in inputs}
        frame = pl.DataFrame(series)
        said = asked(frame)
        return numbers(said[:, 1] if layout == PROBABILITY else said, len(frame))

    return predict


def _of_tensors(model: Any, names: Sequence[str]) -> Predict:
    import torch  # noqa: PLC0415  for its own models

    model.eval()

    def predict(columns: Mapping[str, Sequence[Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        matrix = np.array([columns[name] for name in names], dtype=np.float32).T
        with torch.no_grad():
            said = model(torch.from_numpy(np.ascontiguousarray(matrix)))
        return numbers(said.detach().cpu().numpy(), matrix.shape[0])

    return predict


def numbers(said: Any, rows: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the object answered, as (rows,) of float64; ValueError when it is something else."""
    values = np.asarray(said.to_numpy() if hasattr(said, "to_numpy") else said)
    if values.shape not in {(rows,), (rows, 1)}:
        raise ValueError(f"it answered {values.shape or type(said).__name__} for {rows} rows, expected ({rows},)")
    return values.reshape(rows).astype(np.float64)


def _verify(folder: Path, digest: str) -> None:
    if digest and (found := content_digest(folder)) != digest:
        raise ValueError(f"the model in {folder} has digest {found}, expected {digest}; restore the folder")


def content_digest(folder: Path) -> str:
    """What `storage/trees.py` calls the digest of a folder."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, content = path.relative_to(folder).as_posix().encode(), path.read_bytes()
        whole.update(b"%d:%s %d:" % (len(name), name, len(content)))
        whole.update(content)
    return "sha256:" + whole.hexdigest()


def send(pipe: socket.socket, message: Mapping[str, Any]) -> None:
    payload = msgspec.msgpack.encode(message)
    pipe.sendall(LENGTH.pack(len(payload)) + payload)


def receive(pipe: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the other end is gone."""
    head = _exactly(pipe, LENGTH.size)
    payload = None if head is None else _exactly(pipe, LENGTH.unpack(head)[0])
    return None if payload is None else msgspec.msgpack.decode(payload)


def _exactly(pipe: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        data = pipe.recv(min(count - len(parts), 1 << 20))
        if not data:
            return None
        parts += data
    return bytes(parts)


def serve(pipe: socket.socket, predict: Predict) -> None:
    """Answer batches until the other end closes."""
    send(pipe, {"type": "ready"})
    while (work := receive(pipe)) is not None:
        number, started = work["number"], perf_counter_ns()
        try:
            values = predict(work["columns"])
        except Exception as problem:  # noqa: BLE001  whatever a model raises is its failure
            spent = (perf_counter_ns() - started) // 1000
            send(
                pipe,
                {"type": "refused", "number": number, "exec_us": spent, "outcome": "failed", "error": _said(problem)},
            )
        else:
            spent = (perf_counter_ns() - started) // 1000
            send(pipe, {"type": "values", "number": number, "exec_us": spent, "data": values.tobytes()})


def _said(problem: BaseException) -> str:
    return " ".join(f"{type(problem).__name__}: {problem}".split())[:300]


def main(arguments: Sequence[str]) -> int:
    descriptor, folder, digest, lives = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    if lives == "with-parent" and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.register_at_fork(after_in_child=lambda: os.close(int(descriptor)))  # else a pool of the model's keeps it open
    with socket.socket(fileno=int(descriptor)) as pipe:
        try:
            _verify(Path(folder), digest)
            predict = load(Path(folder))
        except BaseException as problem:  # noqa: BLE001  loading runs what a model brings along
            send(pipe, {"type": "broken", "error": _said(problem)})
            return 1
        with contextlib.suppress(ConnectionError):  # the other end is gone
            serve(pipe, predict)
    return 0


class _ForMLflow:
    """A model as `mlflow.pyfunc` asks for it: a pandas frame in, one number per row out."""

    def __init__(self, folder: Path) -> None:
        self._names = [one["name"] for one in json.loads((folder / "trueline.json").read_text())["signature"]["inputs"]]
        self._predict = load(folder)

    def predict(self, frame: Any, params: Any = None) -> Any:  # noqa: ARG002  MLflow's signature
        return self._predict({name: frame[name].tolist() for name in self._names})


def _load_pyfunc(path: str) -> _ForMLflow:
    return _ForMLflow(Path(path).parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
