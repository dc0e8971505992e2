from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trueline.errors import PackagingFailed, TrainingFailed, Unavailable
from trueline.packaging.executors import load
from trueline.pipelines.execute import Trainer
from trueline.pipelines.spec import TrainSpec, read_result, read_spec, write_spec
from trueline.tracking import journal
from trueline.tracking.entries import Metric, Param

PREFIX = (
    "from sklearn.linear_model import LinearRegression, LogisticRegression\nimport os, sys, numpy as np, polars as pl\n"
)
GOOD = "return LinearRegression().fit(frame.select(['wait', 'hour']), frame['minutes'])"


def body(*lines: str) -> str:
    return PREFIX + "def fit(frame, **params):\n" + "".join(f"    {line}\n" for line in lines)


def test_a_training_leaves_a_verified_model_its_metrics_and_its_reference(trainer: Trainer, spec: TrainSpec) -> None:
    result = trainer.train(spec)
    executor = load(result.folder, result.digest)
    early, late = executor.predict({"wait": [10.0, 10.0], "hour": [1, 22], "carrier": ["A", "A"]})
    assert early < late
    assert set(result.metrics) == {"mae", "rmse", "train_mae", "train_rmse"}
    assert result.metrics["train_mae"] < result.metrics["mae"] < result.summary["baseline"]["metrics"]["mae"]
    assert result.rows == 400
    assert result.summary["presence"] == {"wait": 1.0, "hour": 1.0, "carrier": 1.0}
    assert "fitting 400 rows" in (spec.folder / "log.txt").read_text()
    assert journal.read(spec.folder)[0] == [Param("rounds", "10")]


def test_a_training_keeps_to_its_threads(trainer: Trainer, with_code: Any) -> None:
    spec = with_code(body("from threadpoolctl import threadpool_info", "pools = threadpool_info()",
                          "print(pl.thread_pool_size(), {one['num_threads'] for one in pools})", GOOD))  # fmt: skip
    trainer.train(spec)
    assert (spec.folder / "log.txt").read_text() == "1 {1}\n"
    trainer.train(replace(spec, threads=2))
    assert (spec.folder / "log.txt").read_text() == "2 {2}\n"


def test_the_same_training_gives_the_same_bytes(trainer: Trainer, spec: TrainSpec) -> None:
    again = replace(spec, folder=spec.folder.with_name("run-2"))
    assert trainer.train(spec).digest == trainer.train(again).digest


def test_estimators_without_a_seed_of_their_own_follow_the_run_s(trainer: Trainer, with_code: Any) -> None:
    forest = "from sklearn.ensemble import RandomForestRegressor as F\n" + body(
        "return F(3).fit(frame.select(['wait', 'hour']), frame['minutes'])"
    )
    spec = with_code(forest)
    assert trainer.train(spec).digest == trainer.train(spec).digest != trainer.train(replace(spec, seed=1)).digest


def test_edited_code_is_what_runs_next(trainer: Trainer, with_code: Any) -> None:
    trainer.train(with_code(body("print('first')", GOOD)))
    spec = with_code(body("print('secnd')", GOOD))  # as long, in the same second: no cache may tell them apart wrongly
    trainer.train(spec)
    assert (spec.folder / "log.txt").read_text() == "secnd\n"


def test_without_held_out_rows_parity_is_proved_on_the_training_rows(trainer: Trainer, spec: TrainSpec) -> None:
    result = trainer.train(replace(spec, held_out=None))
    assert set(result.metrics) == {"train_mae", "train_rmse"}
    assert result.parity.rows > 400


def test_a_classifier_is_measured_by_its_positive_class(trainer: Trainer, spec: TrainSpec, with_code: Any) -> None:
    frame = pl.read_ipc(spec.rows).with_columns(minutes=(pl.col("minutes") > 40).cast(pl.Float64))
    frame.write_ipc(spec.rows)
    code = body("return LogisticRegression().fit(frame.select(['wait', 'hour']), frame['minutes'])")
    result = trainer.train(with_code(code, task="classification", held_out=None))
    assert result.metrics["train_roc_auc"] > 0.9
    assert set(result.metrics) == {f"train_{name}" for name in ("roc_auc", "log_loss", "brier", "accuracy")}


def test_a_function_gives_the_probability_of_the_later_of_two_values(
    trainer: Trainer, spec: TrainSpec, with_code: Any
) -> None:
    frame = pl.read_ipc(spec.rows).with_columns(minutes=pl.when(pl.col("minutes") > 40).then(1.0).otherwise(-1.0))
    frame.write_ipc(spec.rows)
    code = body("return lambda rows: (rows['wait'].to_numpy() > 15) * 0.8 + 0.1")
    result = trainer.train(with_code(code, task="classification", held_out=None))
    assert result.kind == "python"
    assert result.metrics["train_roc_auc"] > 0.6


def test_rows_without_a_target_are_left_out_of_the_metrics(trainer: Trainer, spec: TrainSpec) -> None:
    held = pl.read_ipc(spec.held_out)  # type: ignore[arg-type]
    complete = trainer.train(spec).metrics["mae"]
    held.vstack(held.with_columns(minutes=pl.lit(None, dtype=pl.Float64))).write_ipc(spec.held_out)  # type: ignore[arg-type]
    assert trainer.train(spec).metrics["mae"] == pytest.approx(complete)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["rows = {}", "return rows['nope']"], r"^model\.py:5: model\.py:fit raised KeyError: 'nope'$"),
        (["pass"], "returned nothing; return the fitted estimator"),
        (["return 7"], "returned a int, which has no predict"),
        (["sys.exit(3)"], "raised SystemExit: 3"),
        (["os._exit(3)"], r"ended its process itself \(exit code 3\)"),
        (["os.kill(os.getpid(), 9)"], "most likely because the machine ran out of memory"),
        (["os.kill(os.getpid(), 11)"], "died of signal 11"),
        (["return LinearRegression()"], "no feature_names_in_"),
    ],
)
def test_a_fit_that_disappoints_is_told_in_a_sentence(
    trainer: Trainer, with_code: Any, lines: list[str], says: str
) -> None:
    with pytest.raises((TrainingFailed, PackagingFailed), match=says):
        trainer.train(with_code(body(*lines)))


def test_the_whole_traceback_is_in_the_run_s_log(trainer: Trainer, with_code: Any) -> None:
    spec = with_code(body("raise ValueError('over there')"))
    with pytest.raises(TrainingFailed):
        trainer.train(spec)
    assert "Traceback" in (spec.folder / "log.txt").read_text()
    assert not (spec.folder / "model").exists()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "import features\nraise RuntimeError('at import')\n",
            r"^model\.py:2: importing model\.py raised RuntimeError",
        ),
        ("def fit(frame):\n  return (\n", r"^model\.py:2: importing model\.py raised SyntaxError"),
        ("import not_there\n", r"^model\.py:1: importing model\.py raised ModuleNotFoundError"),
        ("def train(frame): ...\n", "has no function 'fit'"),
    ],
)
def test_a_module_that_cannot_be_used_is_told(trainer: Trainer, with_code: Any, code: str, says: str) -> None:
    with pytest.raises(TrainingFailed, match=says):
        trainer.train(with_code(code))


def test_parameters_that_the_function_does_not_take_are_told(trainer: Trainer, spec: TrainSpec) -> None:
    with pytest.raises(TrainingFailed, match=r"unexpected keyword argument 'depth'.*correct `params`"):
        trainer.train(replace(spec, params={"depth": 3}))


@pytest.mark.parametrize(
    ("entry", "says"), [("modle.py:fit", "no file modle.py"), ("model:fit", "write it as model.py:fit")]
)
def test_an_entry_that_is_not_there_is_told(trainer: Trainer, spec: TrainSpec, entry: str, says: str) -> None:
    with pytest.raises(TrainingFailed, match=says):
        trainer.train(replace(spec, entry=entry))


def test_no_rows_are_told(trainer: Trainer, spec: TrainSpec) -> None:
    pl.read_ipc(spec.rows).head(0).write_ipc(spec.rows)
    with pytest.raises(TrainingFailed, match="no rows to train on"):
        trainer.train(spec)


def test_what_training_code_logs_is_in_the_run_s_journal(trainer: Trainer, with_code: Any) -> None:
    spec = with_code(body("from trueline.tracking.journal import log", "log('loss', 0.5)", "log('loss', 0.25)", GOOD))
    trainer.train(spec)
    entries, _ = journal.read(spec.folder)
    assert [(one.name, one.value, one.step) for one in entries if isinstance(one, Metric)] == [
        ("loss", 0.5, 0),
        ("loss", 0.25, 1),
    ]


@pytest.mark.slow
def test_a_training_that_takes_too_long_is_stopped_and_the_next_one_works(with_code: Any) -> None:
    with Trainer() as trainer:
        trainer.warm()
        with pytest.raises(TrainingFailed, match="took longer than 2 s and was stopped"):
            trainer.train(with_code(body("while True: pass"), timeout=2))
        assert trainer.train(with_code(body(GOOD))).kind == "onnx"


def test_when_the_worker_dies_its_training_dies_too(with_code: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    code = body(f"alive = open({str(pipe)!r}, 'w')", "alive.write('training')", "alive.flush()", "while True: pass")
    trainer = Trainer()
    spec = with_code(code)

    def train() -> None:
        with pytest.raises(Unavailable, match="can be started again"):
            trainer.train(spec)

    thread = threading.Thread(target=train)
    thread.start()
    with pipe.open() as alive:
        assert alive.read(8) == "training"
        nursery = trainer.processes.nursery
        assert nursery is not None
        assert nursery.stdin is not None
        nursery.stdin.close()  # all that a killed worker's helper notices of it
        assert alive.read() == ""  # the training held this open
    thread.join()
    assert nursery.wait() == -signal.SIGKILL


def test_a_helper_that_was_killed_is_started_again(trainer: Trainer, with_code: Any) -> None:
    spec = with_code(body(GOOD))
    trainer.train(spec)
    assert trainer.processes.nursery is not None
    trainer.processes.nursery.kill()
    trainer.processes.nursery.wait()
    assert trainer.train(spec).kind == "onnx"


def test_a_spec_is_the_same_after_its_file(spec: TrainSpec) -> None:
    spec.folder.mkdir(parents=True)
    assert read_spec(write_spec(spec)) == spec
    assert read_result(spec.folder) is None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted on Linux")
def test_trainings_are_forked_only_from_a_process_of_one_thread(trainer: Trainer, spec: TrainSpec) -> None:
    trainer.train(spec)
    assert trainer.processes.nursery is not None
    assert len(list(Path(f"/proc/{trainer.processes.nursery.pid}/task").iterdir())) == 1
