"""Bad input gets one clear sentence, the right exit code or status, and leaves nothing half-written behind."""

from __future__ import annotations

import json
import os
import socket

import pytest
from journey import MODEL, START, Desk, no_database, server_alone

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

PROJECT = """\
version: 1
project: desk
data:
  source: data.csv
  target: y
  time: at
train: model.py:fit
"""

HEAD = "from sklearn.linear_model import LinearRegression\n"


@pytest.fixture(scope="module")
def desk(new_desk) -> Desk:
    """A project that would work, and has not been run."""
    desk = new_desk("bad", seeded=True)
    desk.data("won", "answer")
    desk.project()
    return desk


@pytest.fixture(scope="module")
def served(new_desk):
    """A project with one version, served."""
    desk = new_desk("asked", seeded=True)
    desk.data("won", "answer")
    desk.project()
    assert desk.trueline("run").code == 0
    return desk


@pytest.fixture(scope="module")
def up(served):
    return served.up()


@no_database
@pytest.mark.parametrize("command", ["run", "status", "up", "events", "why 1", "versions"])
def test_without_a_project_file_a_command_says_how_to_make_one(new_desk, command):
    desk = new_desk("nothing")
    said = desk.trueline(*command.split())
    assert (said.code, said.out) == (2, "")
    assert "trueline init" in said.complaint
    assert list(desk.folder.iterdir()) == []


@no_database
@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", None, "empty"),
        ("version: 1\nproject: [", 2, ""),
        ("just words", 1, "mapping"),
        (PROJECT.replace("version: 1", "version: 2"), 1, "version"),
        (PROJECT.replace("  target: y\n", ""), 4, "target"),
        (PROJECT.replace("target", "taget"), 5, "taget"),
        (PROJECT + "monitor: {loss: a lot}\n", 8, "loss"),
        (PROJECT + "retrain: {rehearse: every monday}\n", 8, "rehearse"),
        (PROJECT.replace("model.py:fit", "model"), 7, "file.py:function"),
        (PROJECT + "\x00", None, ""),
    ],
)
def test_a_malformed_project_file_is_told_with_its_line(new_desk, text, line, told):
    desk = new_desk("malformed")
    desk.write("trueline.yaml", text)
    for command in ("run", "status"):
        said = desk.trueline(command)
        assert (said.code, said.out) == (2, "")
        assert "trueline.yaml" in said.complaint
        assert told in said.complaint
        assert line is None or f"line {line}" in said.complaint or f"yaml:{line}" in said.complaint, said.complaint
    assert [path.name for path in desk.folder.iterdir()] == ["trueline.yaml"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("gone.csv", "gone.csv"),
        ("empty.csv", "empty.csv"),
        ("heads.csv", "heads.csv"),
        ("torn.parquet", "torn.parquet"),
        ("ragged.csv", "ragged.csv"),
        ("notes.txt", "notes.txt"),
        ("folder", "folder"),
        ("rows.py:missing", "missing"),
        ("rows.py:raises", "no network"),
        ("rows.py:nothing", "rows.py:nothing"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence_and_nothing_is_kept(desk, source, told):
    desk.write("empty.csv", "")
    desk.write("heads.csv", "id,at,x,z,color,y\n")
    desk.write("torn.parquet", "PAR1 and no more")
    desk.write("ragged.csv", "id,at,x,z,color,y\n1,2026-01-01,1,2,red,3,4,5,6\n")
    desk.write("notes.txt", "Dear all,")
    (desk.folder / "folder").mkdir(exist_ok=True)
    desk.write("rows.py", "def raises():\n    raise OSError('no network')\n\ndef nothing():\n    return None\n")
    desk.project(source=source)
    said = desk.trueline("run")
    assert said.code == 1, said.err
    assert told in said.complaint
    assert "Error: Error" not in said.complaint
    assert not (desk.folder / "contract.yaml").exists()
    assert desk.trueline("status", "--json").json["dataset"] is None


@pytest.mark.parametrize("role", ["target", "time", "entity"])
def test_a_column_that_is_not_there_is_named_beside_those_that_are(desk, role):
    desk.project(**{role: "fare"})
    said = desk.trueline("run")
    assert said.code == 1
    assert "fare" in said.complaint
    assert "color" in said.complaint
    assert not (desk.folder / "contract.yaml").exists()


def test_a_target_that_can_be_neither_a_number_nor_yes_or_no_is_one_sentence(new_desk):
    desk = new_desk("colours", seeded=True)
    desk.data("won", "answer")
    desk.project(target="color")
    said = desk.trueline("run")
    assert said.code == 1
    assert "'color'" in said.complaint
    assert "3 values" in said.complaint


@pytest.fixture(scope="module")
def trying(new_desk):
    """A server on a project without a version, whose author tries one thing after the other."""
    desk = new_desk("trying", seeded=True)
    desk.data("won", "answer")
    desk.project()
    desk.up()
    return desk


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (MODEL.replace("return", "raise ValueError('no luck') or"), "ValueError: no luck"),
        (MODEL.replace("return", "frame['fare'] or"), "fare"),
        (MODEL.replace("return ", ""), "returned nothing"),
        ("def fit(frame):\n    return 42\n", "int, which has no predict"),
        (HEAD + "def fit(frame):\n    return LinearRegression()\n", "not fitted"),
        (HEAD + "def fit(frame):\n    return LinearRegression\n", "the class LinearRegression"),
        ("class M:\n    def predict(self, X):\n        return 1\ndef fit(frame):\n    return M()\n", ""),
        ("import os\ndef fit(frame):\n    os._exit(3)\n", ""),
        ("import os\ndef fit(frame):\n    os.abort()\n", ""),
        ("import sys\ndef fit(frame):\n    sys.exit(0)\n", "SystemExit"),
        ("def train(frame):\n    return 42\n", "no function 'fit'"),
        ("fit = 42\n", "no function 'fit'"),
        ("def fit(frame:\n", "model.py:1"),
        ("import no_such_library\ndef fit(frame): ...\n", "no_such_library"),
        ("def fit():\n    return 42\n", "cannot be called as fit(frame"),
    ],
)
def test_a_fit_that_disappoints_is_one_sentence_and_no_version(trying, model, told):
    trying.project(model)
    said = trying.trueline("run")
    assert said.code == 1, said.err
    assert told in said.complaint
    status = trying.trueline("status", "--json").json
    assert (status["champion"], status["idle"], status["queued_runs"], status["running_runs"]) == (None, True, 0, 0)
    assert trying.trueline("versions", "--json").json["items"] == []


@pytest.mark.parametrize(
    "command",
    [
        "why 7",
        "why v7",
        "why run-77",
        "why release-7",
        "why gate-7",
        "why r0-1-1-0",
        "why ../../etc/passwd",
        "release 7 --reason x",
        "release 7 --waive --reason x",
        "promote release-7 --reason x",
        "promote --reason x",
        "rollback --reason x",
        "rollback --version 7 --reason x",
    ],
)
def test_what_is_not_there_is_one_sentence(desk, served, command):
    for at in (desk, served):
        at.project()
        before = at.trueline("status", "--json").json["last_event"]
        said = at.trueline(*command.split())
        assert (said.code, said.out) == (1, "")
        assert len(said.complaint) > 20
        assert at.trueline("status", "--json").json["last_event"] == before


@pytest.mark.parametrize(
    "command",
    ["release seven --reason x", "release 1", "run -p depth", "run --timeout -1", "frobnicate", "events --limit 0"],
)
def test_wrong_use_is_exit_code_2(desk, command):
    desk.project()
    said = desk.trueline(*command.split())
    assert (said.code, said.out) == (2, "")
    assert "Error: " in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("where", ["without a server", "with one"])
def test_after_all_that_a_good_run_works(request, where):
    desk = request.getfixturevalue("trying" if where == "with one" else "desk")
    desk.project()
    said = desk.trueline("run", "--json")
    assert said.code == 0, said.err
    assert (said.json["run"]["version"], said.json["release"]["state"]) == (1, "promoted")


def test_a_target_changed_after_the_first_run_is_told_and_undone_by_changing_it_back(served):
    served.project(target="z")
    said = served.trueline("run")
    assert said.code == 1
    assert all(word in said.complaint for word in ("trueline.yaml", "contract.yaml", "z", "y")), said.complaint
    served.project()
    assert served.trueline("run", "--json").json["run"]["cached_from"] == "run-1"


def test_a_contract_that_somebody_broke_is_told_with_its_place(served):
    path = served.folder / "contract.yaml"
    good = path.read_text()
    for bad in ("columns: [", good.replace("columns", "colums"), ""):
        path.write_text(bad)
        said = served.trueline("run")
        assert said.code == 1
        assert "contract.yaml" in said.complaint
    path.unlink()
    path.mkdir()
    said = served.trueline("run")
    assert said.code == 1
    assert said.complaint.endswith(f" failed: the contract {path} is a folder; take it away")
    path.rmdir()
    path.write_text(good)
    assert served.trueline("run", "--json").json["run"]["cached_from"] == "run-1"


def test_rows_that_break_the_contract_make_no_version(served):
    path = served.folder / "data.csv"
    good = path.read_text()
    path.write_text(good + f"600,{START:%Y-%m-%dT%H:%M:%S},a lot,0,red,1\n")
    said = served.trueline("run")
    assert said.code == 1
    assert "column 'x': expected float32, got string in 1 row, first in row 601" in said.complaint
    path.write_text(good.replace("color", "colour"))
    said = served.trueline("run")
    assert said.code == 1
    assert "color" in said.complaint
    path.write_text(good)
    assert served.trueline("status", "--json").json["dataset"] == 1


def test_a_gate_that_fails_is_exit_code_3(served):
    served.write("model.py", MODEL.replace('frame["y"]', '-frame["y"]'))
    said = served.trueline("run")
    assert said.code == 3, said.err
    assert "fail" in said.complaint
    served.project()
    assert served.trueline("status", "--json").json["champion"] == 1


def test_a_state_folder_that_cannot_be_one_is_exit_code_6(desk):
    desk.project()
    desk.write("file", "")
    for command in ("run", "status", "up"):
        said = desk.trueline(command, "--state", desk.folder / "file" / "below")
        assert (said.code, said.out) == (6, "")
        assert f"the state folder {desk.folder}/file/below cannot be" in said.complaint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_state_folder_is_exit_code_6(desk):
    desk.project()
    for folder in (desk.state.root, desk.folder / "fresh"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o500)
        said = desk.trueline("run", "--state", folder)
        folder.chmod(0o700)
        assert said.code == 6
        assert "make it writable" in said.complaint


def test_a_database_that_is_none_of_ours_is_one_sentence(new_desk):
    desk = new_desk("rubbish")
    desk.data("won", "answer")
    desk.project()
    if desk.database is None:
        desk.state.root.mkdir()
        desk.state.database.write_text("this was a shopping list " * 100)
    else:
        import psycopg

        with psycopg.connect(desk.database) as session:
            session.execute("create table shopping_list (milk text)")
    said = desk.trueline("status")
    assert said.code == 6
    assert ("control.db" if desk.database is None else "shopping_list") in said.complaint


def test_what_a_killed_server_left_behind_is_in_nobodys_way(served):
    for name in ("serve-r0", "shipper-r0"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(served.state.socket(name)))
    said = served.trueline("why", "r0-1-1-0")
    assert said.code == 1
    assert "no prediction r0-1-1-0" in said.complaint
    assert served.trueline("run").code == 0
    for name in ("serve-r0", "shipper-r0"):
        served.state.socket(name).unlink()


def test_a_port_in_use_is_exit_code_6(served):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = served.trueline("up", "--control-port", "0", "--serve-port", port)
    assert (said.code, said.out) == (6, "")
    assert str(port) in said.complaint


GOOD = {"x": 1.0, "z": 0.5}


@server_alone
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"instances": [{"x": "a lot", "z": 0.5}]}, "x"),
        ({"instances": [{"x": True, "z": 0.5}]}, "x"),
        ({"instances": [{"x": [1.0], "z": 0.5}]}, "x"),
        ({"instances": [{"x": None, "z": 0.5}]}, "x"),
        ({"instances": [{"z": 0.5}]}, "x"),
        ({"instances": [{"x": 1.0}, GOOD]}, "z"),
        ({"instances": []}, "instances"),
        ({"instances": "x"}, "instances"),
        ({"instances": [1, 2]}, ""),
        ({"rows": []}, ""),
        ([], ""),
        (b'{"instances": [{"x": NaN, "z": 0.5}]}', ""),
        (b'{"instances": [{"x": Infinity, "z": 0.5}]}', ""),
        (b'{"instances": [{"x": 1e999, "z": 0.5}]}', "out of range"),
        (b"not JSON", ""),
        (b'{"instances": [', ""),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_a_bad_request_is_400_with_a_sentence(up, body, told):
    reply = up.ask("POST", "/predict", body)
    assert reply.status == 400, reply.body
    assert told in reply.error
    assert len(reply.error) > 10
    assert up.ask("POST", "/predict", GOOD).status == 200


@server_alone
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shape": [2]}, "x"),
        ({"shape": [-1]}, "x"),
        ({"shape": [1, 7]}, "x"),
        ({"shape": "wide"}, "shape"),
        ({"datatype": "BYTES", "data": ["a"]}, "x"),
        ({"datatype": "FP65"}, "FP65"),
        ({"data": ["a"]}, "x"),
        ({"data": [None]}, "x"),
        ({"data": []}, "x"),
        ({"name": "fare"}, "x"),
    ],
)
def test_a_bad_tensor_is_400_with_a_sentence(up, changes, told):
    plain = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}
    body = {"inputs": [{**plain, **changes}, {**plain, "name": "z"}]}
    reply = up.ask("POST", "/v2/models/desk/infer", body)
    assert reply.status == 400, reply.body
    assert told in reply.error


@server_alone
@pytest.mark.parametrize("tensor", ['{"name": "x", "shape": [1], "datatype": "FP64", "data": [NaN]}'])
def test_a_tensor_without_a_number_is_400(up, tensor):
    reply = up.ask("POST", "/v2/models/desk/infer", f'{{"inputs": [{tensor}]}}'.encode())
    assert reply.status == 400, reply.body


@server_alone
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/desk/versions/7/infer", 404),
        ("POST", "/v2/models/desk/versions/last/infer", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/desk/versions/7", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/labels", 405),
    ],
)
def test_what_the_model_server_does_not_have_is_4xx_with_a_sentence(up, method, path, status):
    body = {"inputs": [{"name": n, "shape": [1], "datatype": "FP64", "data": [1.0]} for n in "xz"]}
    reply = up.ask(method, path, body if method == "POST" else None)
    assert reply.status == status, reply.body
    assert len(reply.error) > 10


@server_alone
def test_ten_megabytes_are_413(up):
    rows = json.dumps({"instances": [GOOD] * 480_000}).encode()
    assert len(rows) > 10 * 2**20
    reply = up.ask("POST", "/predict", rows)
    assert reply.status == 413
    assert "10" in reply.error
    assert up.ask("POST", "/predict", GOOD).status == 200


@server_alone
@pytest.mark.parametrize(
    "body",
    [
        {"labels": [{"prediction_id": "a-0"}]},
        {"labels": [{"value": 1.0}]},
        {"labels": [{"prediction_id": "a-0", "value": "a lot"}]},
        {"labels": [{"prediction_id": 7, "value": 1.0}]},
        {"labels": []},
        {"labels": "x"},
        {},
        b'{"labels": [{"prediction_id": "a-0", "value": NaN}]}',
        b"x",
    ],
)
def test_bad_labels_are_400_and_none_of_them_is_taken(up, body):
    reply = up.ask("POST", "/labels", body)
    assert reply.status == 400, reply.body
    assert len(reply.error) > 10
