"""Scoring in a process of its own: its memory, its sudden death, and files in a bucket."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest
from scoring_world import make_rows, score, scored

import s3
from real import need
from trueline.storage.address import Service, parse
from trueline.storage.bucket import Bucket
from trueline.storage.places import PATIENCE

pytestmark = pytest.mark.real

MEASURED = """
import resource, sys
from trueline.cli.main import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(code)
"""


def write_big(path, rows, form):
    """Many rows in few large row groups, as other tools write them."""
    block = make_rows(20_000)
    frame = pl.concat([block] * (rows // block.height))
    match form:
        case "csv":
            frame.write_csv(path)
        case "jsonl":
            frame.write_ndjson(path)
        case _:
            frame.write_parquet(path, row_group_size=rows)


@pytest.mark.parametrize(
    ("form", "output"),
    [("parquet", "out.parquet"), ("csv", "out.csv"), ("jsonl", "out.jsonl"), ("parquet", "table")],
)
def test_ten_times_the_rows_take_no_more_memory(models, tmp_path, form, output):
    peaks = []
    most = 1_000_000 if form == "jsonl" else 2_000_000  # JSON takes its time
    for rows in (most // 10, most):
        source = tmp_path / f"{rows}.{form}"
        write_big(source, rows, form)
        command = (
            "predict",
            "--model",
            models("boosting"),
            "--input",
            source,
            "--output",
            tmp_path / f"{rows}-{output}",
        )
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, command), "--json"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        told, peak = done.stdout.splitlines()
        assert json.loads(told)["rows"] == rows
        peaks.append(int(peak))
    assert peaks[1] < 1.35 * peaks[0] + 40, peaks


@pytest.mark.parametrize("output", ["out.parquet", "out.csv", "table"])
def test_a_killed_scoring_leaves_no_output_and_the_next_one_cleans_up(models, tmp_path, output):
    source, place = tmp_path / "in.parquet", tmp_path / output
    write_big(source, 1_000_000, "parquet")
    command = ("predict", "--model", models("boosting"), "--input", source, "--output", place)
    process = subprocess.Popen([sys.executable, "-m", "trueline", *map(str, command)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(
        path.is_file() and path.stat().st_size > 1000 for path in tmp_path.rglob(".*.draft*/**/*")
    ) and not any(path.is_file() and path.stat().st_size > 1000 for path in tmp_path.glob(".*.draft*")):
        assert process.poll() is None, "it was done before it could be killed"
        assert time.monotonic() < deadline
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not place.exists()
    assert list(tmp_path.glob(".*.draft*"))
    make_rows(100).write_parquet(source)
    score(models("boosting"), source, place)
    assert place.exists()
    assert not list(tmp_path.glob(".*.draft*"))


@pytest.fixture
def bucket():
    need(importlib.util.find_spec("moto"), "an S3 service (pip install 'moto[server]')")
    with s3.environment(s3.endpoint()):
        yield s3.new_bucket()


def test_files_and_tables_in_a_bucket_are_scored_in_place(models, bucket, frame, tmp_path):
    frame.write_parquet(tmp_path / "in.parquet")
    expected = scored(models("boosting"), tmp_path / "in.parquet", tmp_path / "here.parquet")
    there = Bucket(parse(f"s3://{bucket}", Service.of()), PATIENCE)
    there.put("rows/a.parquet", tmp_path / "in.parquet")
    for source in ("rows/a.parquet", "rows/*.parquet", "rows"):
        score(models("boosting"), f"s3://{bucket}/{source}", f"s3://{bucket}/scored.parquet")
        (tmp_path / "back.parquet").write_bytes(b"".join(there.read("scored.parquet")))
        assert pl.read_parquet(tmp_path / "back.parquet").equals(expected)
    score(models("boosting"), f"s3://{bucket}/rows/a.parquet", f"s3://{bucket}/table")
    found = scored(models("boosting"), f"s3://{bucket}/table", tmp_path / "again.parquet", keep=["flight"])
    assert found["prediction"].equals(expected["prediction"])
