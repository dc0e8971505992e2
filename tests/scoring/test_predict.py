"""`trueline predict`: files of every kind in and out, and what is said of those that cannot be scored."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from scoring_world import scored

from trueline.cli.main import main


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def predict(capfd, tmp_path, monkeypatch, models):
    """Run the command in an empty folder, with the boosting model where no other is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRUELINE_STATE", raising=False)

    def run(*arguments, model="boosting"):
        named = () if model is None else ("--model", models(model))
        capfd.readouterr()
        code = main([str(argument) for argument in ("predict", *named, *arguments)])
        said = Said(code, *capfd.readouterr())
        assert "Traceback" not in said.err
        return said

    return run


@pytest.fixture
def expected(models, frame, tmp_path):
    """The predictions of the frame's rows."""
    frame.write_parquet(tmp_path / "expected.parquet")
    return scored(models("boosting"), tmp_path / "expected.parquet", tmp_path / "expected-out.parquet")["prediction"]


def test_the_summary_is_json_for_programs_and_a_line_for_people(predict, frame):
    frame.write_parquet("in.parquet")
    said = predict("--input", "in.parquet", "--output", "out.parquet", "--json")
    assert said.code == 0
    assert said.json | {"seconds": 0, "rows_per_second": 0} == {
        "input": "in.parquet", "output": "out.parquet", "version": None, "executor": "onnx", "rows": 50, "refused": 0,
        "first_problem": None, "doubtful": {}, "seconds": 0, "rows_per_second": 0,
    }  # fmt: skip
    said = predict("--input", "in.parquet", "--output", "again.csv")
    assert said.out.startswith("50 rows scored by ")


def test_all_columns_come_along_or_those_that_are_named(predict, frame, expected):
    frame.write_parquet("in.parquet")
    predict("--input", "in.parquet", "--output", "all.parquet")
    predict("--input", "in.parquet", "--output", "some.parquet", "--columns", "flight, carrier")
    predict("--input", "in.parquet", "--output", "none.parquet", "--columns", "")
    found = [pl.read_parquet(f"{name}.parquet") for name in ("all", "some", "none")]
    assert [one.columns[:-2] for one in found] == [frame.columns, ["flight", "carrier"], []]
    assert all(one["prediction"].equals(expected) for one in found)
    assert found[0].drop("prediction", "version").equals(frame)


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.tsv", "out.jsonl", "out.ndjson", "out"])
def test_every_form_of_output(predict, frame, expected, name):
    frame.write_parquet("in.parquet")
    said = predict("--input", "in.parquet", "--output", name)
    assert said.code == 0, said.err
    read = {"out.parquet": pl.read_parquet, "out.csv": pl.read_csv, "out": pl.read_delta}
    read |= {"out.jsonl": pl.read_ndjson, "out.ndjson": pl.read_ndjson}
    found = read.get(name, lambda path: pl.read_csv(path, separator="\t"))(name)
    assert found["prediction"].to_list() == expected.to_list()
    assert found["flight"].to_list() == frame["flight"].to_list()


def test_every_form_of_input(predict, frame, expected, tmp_path):
    halves = frame[:20], frame[20:]
    (tmp_path / "folder").mkdir()
    for number, half in enumerate(halves):
        half.write_parquet(f"folder/{number}.parquet")
        half.write_delta("table", mode="append")
        half.write_csv(f"{number}.tsv", separator="\t")
    frame.write_parquet("in.pq")
    for number, source in enumerate(("in.pq", "folder", "folder/*.parquet", "?.tsv", tmp_path / "folder")):
        said = predict("--input", source, "--output", f"{number}.parquet")
        assert said.code == 0, said.err
        assert pl.read_parquet(f"{number}.parquet")["prediction"].equals(expected), source
    said = predict("--input", "table", "--output", "from-table.parquet")
    assert said.code == 0, said.err
    found = pl.read_parquet("from-table.parquet").sort(pl.col("flight").str.slice(1).cast(int))
    assert found["prediction"].equals(expected)


def test_a_delta_table_with_partitions_and_a_column_that_came_later(predict, frame, expected):
    frame[:20].drop("flight").write_delta("table", delta_write_options={"partition_by": ["hour"]})
    frame[20:].write_delta("table", mode="append", delta_write_options={"schema_mode": "merge"})
    said = predict("--input", "table", "--output", "out.parquet", "--columns", "flight,hour,exact")
    assert said.code == 0, said.err
    found = pl.read_parquet("out.parquet")
    order = frame.with_columns(expected).sort("exact")
    assert found.sort("exact")["prediction"].equals(order["prediction"])
    assert found["flight"].null_count() == 20


def test_json_lines_keep_what_they_have(predict, frame, expected):
    rows = frame.drop("minutes").rows(named=True)
    rows[3] |= {"tags": ["a", {"b": None}], "big": 2**70, "wind": None}
    expected_rows = [{**row, "prediction": value, "version": None} for row, value in zip(rows, expected, strict=True)]
    Path("in.jsonl").write_text("\ufeff" + "\r\n".join(json.dumps(row) for row in rows))
    with gzip.open("zipped.ndjson.gz", "wt") as file:
        file.write("".join(f"{json.dumps(row)}\n\n" for row in rows))
    for source in ("in.jsonl", "zipped.ndjson.gz"):
        said = predict("--input", source, "--output", "out.jsonl", "--overwrite")
        assert said.code == 0, said.err
        found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
        assert found[3]["tags"] == rows[3]["tags"]
        assert found[3]["big"] == 2**70
        for row, made in zip(expected_rows, found, strict=True):
            assert made == {"tags": None, "big": None} | row
            assert type(made["hour"]) is int


def test_lines_that_are_no_rows_are_refused_like_rows(predict, frame):
    rows = [json.dumps(row) for row in frame.drop("minutes", "wind").rows(named=True)[:6]]
    rows[1] = json.dumps(json.loads(rows[1]) | {"wind": "strong"})
    rows[2:] = ["{", '["a"]', '{"wait": NaN}', rows[5].replace("{", '{"wind": 1.5, ')]
    Path("in.jsonl").write_text("\n".join(rows))
    said = predict("--input", "in.jsonl", "--output", "out.jsonl")
    assert (said.code, Path("out.jsonl").exists()) == (2, False)
    assert said.err.splitlines()[-1].startswith(
        "trueline: in.jsonl: row 1: input 'wind' is missing; correct the row, or"
    )
    said = predict(
        "--input", "in.jsonl", "--output", "out.jsonl", "--bad-rows", "null", "--json", "--columns", "flight"
    )
    assert (said.json["rows"], said.json["refused"]) == (6, 5)
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    nan = "JSON has neither NaN nor Infinity, write null for a missing value"
    assert [one["refused"] for one in found] == [
        "input 'wind' is missing",
        "input 'wind': expected float32, got string",
        "it is not valid JSON (Input data was truncated); each line is a row",
        "expected an object of columns on the line",
        f"it is not valid JSON (invalid character (byte 9); {nan}); each line is a row",
        None,
    ]
    assert [one["flight"] for one in found] == ["f0", "f1", None, None, None, "f5"]
    said = predict("--input", "in.jsonl", "--output", "out.parquet", "--bad-rows", "drop", "--columns", "nothing")
    assert (said.code, "has no column 'nothing'; correct --columns" in said.err) == (2, True)


def test_an_array_over_many_lines_is_no_json_lines(predict, frame, monkeypatch):
    Path("in.jsonl").write_text(json.dumps(frame.rows(named=True)[:2], indent=1))
    said = predict("--input", "in.jsonl", "--output", "out.jsonl")
    assert said.code == 2
    assert "row 1: it is not valid JSON (Input data was truncated); each line is a row" in said.err
    monkeypatch.setattr("trueline.scoring.lines.LINE_BYTES", 100)
    monkeypatch.setattr("trueline.scoring.lines.PIECE_BYTES", 64)
    Path("in.jsonl").write_text(json.dumps(frame.rows(named=True)))
    said = predict("--input", "in.jsonl", "--output", "out.jsonl")
    assert (said.code, "has a line of more than 0 MB; JSON lines have one row on each line" in said.err) == (2, True)


def test_json_lines_without_a_row_are_a_table_without_rows(predict):
    Path("in.jsonl").write_text("\n \n")
    said = predict("--input", "in.jsonl", "--output", "out.parquet", "--json")
    assert (said.code, said.json["rows"]) == (0, 0)
    assert pl.read_parquet("out.parquet").columns[-2:] == ["prediction", "version"]


def test_a_zip_that_was_cut_off_is_one_sentence(predict, frame):
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in frame.rows(named=True)).encode())
    for number, content in enumerate((whole[:-20], b"no zip at all", whole[:40] + b"x" * 60)):
        Path(f"{number}.jsonl.gz").write_bytes(content)
        said = predict("--input", f"{number}.jsonl.gz", "--output", "out.jsonl")
        assert (said.code, said.err.count("\n")) == (2, 1), said.err
        assert said.err.startswith(f"trueline: {number}.jsonl.gz cannot be read (")


def broken_frame(frame):
    """Row 3 has no `wait`, row 7 an hour that the contract forbids."""
    return (
        frame.with_row_index("n")
        .with_columns(
            wait=pl.when(pl.col("n") == 2).then(None).otherwise("wait"),
            hour=pl.when(pl.col("n") == 6).then(99).otherwise("hour"),
        )
        .drop("n")
    )


def test_a_bad_row_stops_it_with_one_sentence_and_no_output(predict, frame, tmp_path):
    broken_frame(frame).write_parquet("in.parquet")
    said = predict("--input", "in.parquet", "--output", "out.parquet")
    assert said.code == 2
    assert said.err.splitlines()[-1] == (
        "trueline: in.parquet: row 3: input 'wait': expected float32, got null; correct the row, or choose --bad-rows "
        "null or drop"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet"]


def test_bad_rows_may_stay_without_a_prediction_or_be_left_out(predict, frame, expected):
    broken_frame(frame).write_parquet("in.parquet")
    said = predict("--input", "in.parquet", "--output", "null.parquet", "--bad-rows", "null", "--json")
    assert (said.json["rows"], said.json["refused"]) == (50, 2)
    assert said.json["first_problem"] == "in.parquet: row 3: input 'wait': expected float32, got null"
    found = pl.read_parquet("null.parquet")
    assert found["refused"].drop_nulls().to_list() == [
        "input 'wait': expected float32, got null",
        "input 'hour': expected at most 23, got 99",
    ]
    assert found["prediction"].is_null().arg_true().to_list() == [2, 6]
    said = predict("--input", "in.parquet", "--output", "drop.parquet", "--bad-rows", "drop")
    assert "refused and left out: 2 rows; the first: in.parquet: row 3" in said.err
    kept = [number for number in range(50) if number not in (2, 6)]
    assert pl.read_parquet("drop.parquet")["prediction"].equals(expected[kept])
    assert found["prediction"].drop_nulls().equals(expected[kept])


def test_what_a_csv_file_says_is_judged_as_text(predict, frame):
    frame[:4].write_csv("in.csv")
    cells = [line.split(",") for line in Path("in.csv").read_text().splitlines()]
    cells[1][0], cells[2][3] = "soon", "3.5"
    Path("in.csv").write_text("".join(",".join(line) + "\n" for line in cells))
    said = predict("--input", "in.csv", "--output", "out.csv", "--bad-rows", "null")
    assert said.code == 0, said.err
    assert pl.read_csv("out.csv")["refused"].to_list() == [
        "input 'wait': expected float32, got string", "input 'hour': expected integer, got a fraction", None, None,
    ]  # fmt: skip


def test_values_never_seen_are_counted_and_scored(predict, frame):
    frame.with_columns(wait=pl.lit(500.0)).write_parquet("in.parquet")
    said = predict("--input", "in.parquet", "--output", "out.parquet")
    assert said.code == 0
    assert "column 'wait': values that were not seen in training in 50 rows" in said.err


def test_a_file_without_rows_gives_one_without_rows(predict, frame):
    frame[:0].write_parquet("in.parquet")
    frame[:0].write_csv("in.csv")
    for name in ("in.parquet", "in.csv"):
        said = predict("--input", name, "--output", f"{name}.parquet", "--json")
        assert (said.code, said.json["rows"]) == (0, 0), said.err
        assert pl.read_parquet(f"{name}.parquet").columns == [*frame.columns, "prediction", "version"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--input", "nothing.parquet", "--output", "out.parquet"), 2, "there is no file nothing.parquet; correct --input"),
        (("--input", "*.pq", "--output", "out.parquet"), 2, r"no file matches \*\.pq"),
        (("--input", "empty", "--output", "out.parquet"), 2, "the folder empty has no file of"),
        (("--input", "zero.csv", "--output", "out.parquet"), 2, "zero.csv is an empty file"),
        (("--input", "torn.parquet", "--output", "out.parquet"), 2, r"torn\.parquet cannot be read \("),
        (("--input", "text.parquet", "--output", "out.parquet"), 2, r"text\.parquet cannot be read \("),
        (("--input", "uneven.csv", "--output", "out.parquet"), 2, r"uneven\.csv cannot be read \(CSV parse error: .*Expected 2"),
        (("--input", "latin.csv", "--output", "out.parquet"), 2, r"latin\.csv cannot be read .*UTF-?8"),
        (("--input", "twice.csv", "--output", "out.parquet"), 2, "twice.csv has the column 'a' twice"),
        (("--input", "good.xlsx", "--output", "out.parquet"), 2, r"good\.xlsx is none of \.parquet"),
        (("--input", "short.parquet", "--output", "out.parquet"), 2, "short.parquet has no column 'wait', which the model needs"),
        (("--input", "words.parquet", "--output", "out.parquet"), 2, "row 1: input 'hour': expected integer, got string"),
        (("--input", "good.parquet", "--output", "good.parquet"), 2, "--input and --output are the same"),
        (("--input", "good.parquet", "--output", "./x/../good.parquet"), 2, "are the same"),
        (("--input", "data", "--output", "data/out.parquet"), 2, "lies in the folder that is read"),
        (("--input", "good.parquet", "--output", "nowhere/out.parquet"), 2, "there is no folder nowhere"),
        (("--input", "good.parquet", "--output", "out.xlsx"), 2, r"out\.xlsx is none of .*a Delta table"),
        (("--input", "good.parquet", "--output", "there.csv"), 1, "is there already; .*--overwrite"),
        (("--input", "good.parquet", "--output", "data"), 2, "a folder with other things in it"),
        (("--input", "good.parquet", "--output", "out.parquet", "--columns", "flihgt"), 2, "has no column 'flihgt'; correct --columns"),
        (("--input", "scored.parquet", "--output", "out.parquet"), 2, "has a column 'prediction' already"),
        (("--input", "good.parquet", "--output", "out.parquet", "--version", "3"), 2, "give one of them"),
        (("--input", "good.parquet", "--output", "out.parquet", "--bad-rows", "maybe"), 2, "'maybe' is not one of"),
        (("--input", "differ", "--output", "out.parquet"), 2, "do not all have the column 'flight'"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_told_in_a_sentence(predict, frame, tmp_path, arguments, code, says):
    for folder in ("empty", "data", "differ", "x"):
        (tmp_path / folder).mkdir()
    frame.write_parquet("good.parquet")
    frame.write_parquet("data/in.parquet")
    frame.write_parquet("differ/a.parquet")
    frame.drop("flight").write_parquet("differ/b.parquet")
    frame.drop("wait").write_parquet("short.parquet")
    frame.with_columns(pl.col("hour").cast(pl.String)).write_parquet("words.parquet")
    frame.with_columns(prediction=1.0).write_parquet("scored.parquet")
    content = (tmp_path / "good.parquet").read_bytes()
    files = {
        "zero.csv": b"", "torn.parquet": content[: len(content) // 2], "text.parquet": b"a,b\n1,2\n", "there.csv": b"mine",
        "uneven.csv": b"a,b\n1,2\n3\n", "latin.csv": "a,b\né,2\n".encode("latin-1"), "twice.csv": b"a,a\n1,2\n",
        "good.xlsx": content,
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    said = predict(*arguments)
    assert said.code == code, said.err
    last = " ".join(said.err.split())
    assert re.search(says, last), last
    assert (tmp_path / "there.csv").read_bytes() == b"mine"
    assert not (tmp_path / "out.parquet").exists()
    assert not list(tmp_path.rglob(".*.draft*"))


def test_an_output_is_replaced_only_when_allowed(predict, frame, expected):
    frame.write_parquet("in.parquet")
    for name in ("out.parquet", "out"):
        assert predict("--input", "in.parquet", "--output", name).code == 0
        assert predict("--input", "in.parquet", "--output", name).code == 1
        assert predict("--input", "in.parquet", "--output", name, "--overwrite").code == 0
    assert pl.read_delta("out")["prediction"].equals(expected)


def test_columns_that_the_contract_forbids_are_refused(predict, frame, models, tmp_path):
    shutil.copytree(models("boosting"), tmp_path / "strict")
    page = json.loads((tmp_path / "strict" / "trueline.json").read_text())
    page["meta"]["contract"]["unknown_columns"] = "forbid"
    (tmp_path / "strict" / "trueline.json").write_text(json.dumps(page))
    frame.write_parquet("in.parquet")
    frame.with_columns(extra=1).write_parquet("extra.parquet")
    assert predict("--input", "in.parquet", "--output", "out.parquet", "--model", "strict", model=None).code == 0
    said = predict("--input", "extra.parquet", "--output", "b.parquet", "--model", "strict", model=None)
    assert (said.code, "'extra', which is not in the contract" in said.err) == (2, True)


def test_an_empty_name_is_one_sentence(predict, frame):
    frame.write_parquet("in.parquet")
    said = predict("--input", "", "--output", "out.csv")
    assert (said.code, said.err) == (2, "trueline: --input is empty; name a file, a glob, a folder or a Delta table\n")
    for output in ("", ".", "/"):
        said = predict("--input", "in.parquet", "--output", output)
        assert (said.code, said.err.startswith(f"trueline: --output {output!r} names no file; name one that ")) == (
            2,
            True,
        )


def test_without_a_released_version_that_is_said(predict, frame, tmp_path):
    frame.write_parquet("in.parquet")
    (tmp_path / "trueline.yaml").write_text(
        "version: 1\nproject: p\ndata: {source: in.parquet, target: minutes}\ntrain: model.py:fit\n"
    )
    said = predict("--input", "in.parquet", "--output", "out.parquet", model=None)
    assert (said.code, "no version of p is released yet" in said.err) == (1, True)
    said = predict("--input", "in.parquet", "--output", "out.parquet", "--version", "7", model=None)
    assert said.code == 1
    assert "7" in said.err
