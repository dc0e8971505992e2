"""The model repository: what there is, having it loaded or let go of, who may, and the record of who did."""

from __future__ import annotations

import json

import pytest
from serving_world import Fake, Running, eventually, route, table

from trueline import audits, catalogue
from trueline.domain.routes import Arm
from trueline.security.people import People
from trueline.serving.server import Config
from trueline.settings import StateFolder

ROW = {
    "inputs": [
        {"name": "x", "shape": [1], "datatype": "FP64", "data": [2]},
        {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]},
    ]
}
LOAD, UNLOAD, INDEX = "/v2/repository/models/m/load", "/v2/repository/models/m/unload", "/v2/repository/index"
SHADOWED = (route(1), route(2, Arm.shadow, 0))
TOKEN = "tl_0123456789abcdef"


def register(server, *numbers, here=True):
    """What control does: a catalogue of the registered versions, their models on this machine."""
    state = server.config.state
    entries = []
    for number in sorted(numbers, reverse=True):
        folder = state.run(f"r{number}") / "model"
        if here:
            folder.mkdir(parents=True, exist_ok=True)
        entries.append(catalogue.Entry(number, str(folder.relative_to(state.root)), f"d{number}", "approved"))
    catalogue.write(state.catalogue, entries)


def named(version):
    return {"parameters": {"version": str(version)}}


def infer(server, version):
    return server.post(f"/v2/models/m/versions/{version}/infer", ROW)


def told(server):
    return [(note.deed, note.version, note.actor) for _, note in audits.waiting(server.config.state.audits)]


@pytest.fixture
def server(serve):
    running = serve({number: Fake(number) for number in range(1, 9)}, table(routes=SHADOWED))
    register(running, 1, 2, 3, 4)
    return running


def test_the_index_has_what_can_be_named(server):
    assert server.post(INDEX, b"").json == [
        {"name": "m", "version": "4", "state": "UNAVAILABLE", "reason": "approved, not loaded"},
        {"name": "m", "version": "3", "state": "UNAVAILABLE", "reason": "approved, not loaded"},
        {"name": "m", "version": "2", "state": "READY", "reason": ""},
        {"name": "m", "version": "1", "state": "READY", "reason": ""},
    ]
    assert [one["version"] for one in server.post(INDEX, {"ready": True}).json] == ["2", "1"]
    assert server.post(INDEX, {"ready": "yes"}).status == 400


def test_a_loaded_version_answers_who_names_it_and_is_never_routed(server):
    assert infer(server, 3).status == 404
    reply = server.post(LOAD, named(3))
    assert (reply.status, reply.json) == (200, {"name": "m", "load": True, "versions": ["3"]})
    assert infer(server, 3).json["outputs"][0]["data"] == [6.0]
    assert server.get("/v2/models/m").json["versions"] == ["1", "2", "3"]
    assert {server.post("/predict", {"x": 1, "n": n}).json["version"] for n in range(20)} == {1}
    assert server.admin("status")["table"]["routes"][0]["version"] == 1
    assert told(server) == [("load", 3, "local")]
    assert server.post(UNLOAD, named(3)).json == {"name": "m", "unload": True, "versions": ["3"]}
    assert infer(server, 3).status == 404
    assert told(server) == [("load", 3, "local"), ("unload", 3, "local")]


def test_without_a_version_the_newest_is_loaded_and_all_that_are_not_routed_are_unloaded(server):
    assert server.post(LOAD, b"").json["versions"] == ["4"]
    server.post(LOAD, named(3))
    assert server.post(UNLOAD, {}).json["versions"] == ["4", "3"]
    reply = server.post(UNLOAD, {})
    assert (reply.status, reply.error) == (
        409,
        "every loaded version of 'm' is in the route table, so they stay loaded",
    )


def test_what_is_routed_cannot_be_unloaded(server):
    for version in (1, 2):
        reply = server.post(UNLOAD, named(version))
        assert reply.status == 409
        assert reply.error.startswith(f"version {version} of 'm' is in the route table, so it stays loaded")
        assert infer(server, version).status == 200
    assert told(server) == []


def test_loading_what_is_loaded_is_fine_and_a_table_may_route_it_later(server):
    assert [server.post(LOAD, named(version)).status for version in (1, 3, 3)] == [200, 200, 200]
    server.put(table(epoch=2, routes=(route(3),)))
    assert server.post("/predict", {"x": 1, "n": 1}).json["version"] == 3


def test_a_version_that_was_asked_for_outlives_tables_that_do_not_name_it(server):
    server.post(LOAD, named(4))
    for epoch, version in enumerate((5, 6, 7, 8), start=2):
        server.put(table(epoch=epoch, routes=(route(version),)))
    assert infer(server, 4).status == 200
    assert infer(server, 1).status == 404, "what left the table longest ago is let go of"


def test_what_was_asked_for_is_loaded_again_by_a_process_that_starts_later(serve):
    models = {number: Fake(number) for number in range(1, 5)}
    server = serve(models, table(routes=SHADOWED))
    register(server, 3, 4)
    for version in (3, 4):
        server.post(LOAD, named(version))
    server.post(UNLOAD, named(4))
    server.stop()
    server = serve({1: models[1], 2: models[2], 3: models[3]})
    assert [infer(server, version).status for version in (3, 4)] == [200, 404]
    server.stop()
    server = serve({1: models[1], 2: models[2]})
    assert [infer(server, version).status for version in (1, 3)] == [200, 404], (
        "one that is gone keeps nobody from starting"
    )


def test_only_so_many_are_held(serve):
    server = serve({number: Fake(number) for number in range(1, 9)}, table(routes=SHADOWED), asked_versions=1)
    register(server, 3, 4)
    assert server.post(LOAD, named(3)).status == 200
    reply = server.post(LOAD, named(4))
    assert (reply.status, reply.error) == (409, "1 versions are loaded by request already (3); unload one")


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (LOAD, named(77), 404, "no version 77 of 'm' is registered here"),
        (LOAD, named("three"), 400, "'version' must be a whole number, got 'three'"),
        (LOAD, {"parameters": 3}, 400, 'expected an object, {"parameters": {"version": "3"}}, or nothing'),
        (LOAD, [3], 400, 'expected an object, {"parameters": {"version": "3"}}, or nothing'),
        (LOAD, b"{", 400, "the body is not valid JSON: Input data was truncated"),
        (LOAD, {"parameters": {"config": "{}"}}, 501, "of a config only one version is taken here"),
        (LOAD, {"parameters": {"file:1/model.onnx": "AA=="}}, 501, "models are not taken over this interface"),
        (LOAD.replace("/m/", "/other/"), {}, 404, "no model 'other' is served here; this server has 'm'"),
        (UNLOAD.replace("/m/", "/other/"), {}, 404, "no model 'other' is served here; this server has 'm'"),
        (UNLOAD, named(3), 404, "version 3 of 'm' is not loaded here; loaded: 1, 2"),
    ],
)
def test_a_mistake_is_a_sentence(server, path, body, status, said):
    reply = server.post(path, body)
    assert reply.status == status
    assert reply.error.startswith(said)
    assert told(server) == []


def test_a_version_may_be_named_as_tritons_clients_do(server):
    config = json.dumps({"version_policy": {"specific": {"versions": [3]}}})
    assert server.post(LOAD, {"parameters": {"config": config}}).json["versions"] == ["3"]


def test_a_model_that_is_elsewhere_or_is_not_what_was_registered_is_said(server):
    register(server, 9, here=False)
    reply = server.post(LOAD, named(9))
    assert reply.status == 404
    assert reply.error == "version 9 of 'm' is registered, but its model is not on this machine; a release brings it"
    assert server.post(INDEX, b"").json[0]["reason"] == "approved, its model is not on this machine"
    register(server, 9)
    reply = server.post(LOAD, named(9))
    assert reply.status == 422
    assert "is not the one that was registered" in reply.error
    assert told(server) == []


def test_what_cannot_be_noted_is_not_done(server):
    server.config.state.audits.write_text("in the way")
    reply = server.post(LOAD, named(3))
    assert reply.status == 503
    assert reply.error.endswith("and nothing is done here without a record of it")
    assert infer(server, 3).status == 404
    server.config.state.audits.unlink()
    server.post(LOAD, named(3))
    for path, _ in audits.waiting(server.config.state.audits):
        path.unlink()
    server.config.state.audits.rmdir()
    server.config.state.audits.write_text("in the way")
    assert server.post(UNLOAD, named(3)).status == 503
    assert infer(server, 3).status == 200


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_where_there_is_a_token_it_is_needed_and_a_persons_name_is_kept(server):
    state = server.config.state
    state.token.write_text(TOKEN)
    people = People(state.people)
    ann, bob = people.issue("ann", frozenset({"read", "release"})), people.issue("bob", frozenset({"read"}))
    assert server.post(LOAD, named(3)).status == 401
    assert server.post(LOAD, named(3), bearer("tl_ffffffffffffffff")).status == 401
    reply = server.post(LOAD, named(3), bearer(bob))
    assert (reply.status, reply.error) == (403, "bob may not do this: it needs the permission 'release'")
    assert server.post(LOAD, named(3), bearer(ann)).status == 200
    assert server.post(UNLOAD, named(3), bearer(TOKEN)).status == 200
    assert told(server) == [("load", 3, "ann"), ("unload", 3, "local")]
    assert server.post(INDEX, b"").status == 200, "looking needs none on loopback"


def test_beyond_loopback_a_persons_token_opens_the_repository_and_nothing_else(serve, tmp_path):
    state = StateFolder(tmp_path / "state").create()
    state.token.write_text(TOKEN)
    ann = People(state.people).issue("ann")
    server = serve({number: Fake(number) for number in (1, 3)}, table(), host="0.0.0.0")  # noqa: S104  so that a token is needed
    register(server, 3)
    assert server.post(LOAD, named(3), bearer(ann)).status == 200
    assert server.post("/v2/models/m/infer", ROW, bearer(ann)).status == 401
    assert server.post("/v2/models/m/infer", ROW, bearer(TOKEN)).status == 200
    state.token.unlink()
    state.people.unlink()
    assert server.post(UNLOAD, named(3)).status == 401, "tokens that went away open nothing to other machines"


def test_the_sibling_processes_of_the_machine_do_the_same(server, serve_beside):
    other = serve_beside(server)
    assert server.post(LOAD, named(3)).status == 200
    assert infer(other, 3).status == 200
    assert len(told(server)) == 1, "one deed, one note"
    assert other.post(UNLOAD, named(3)).status == 200
    assert infer(server, 3).status == 404


def test_a_sibling_that_cannot_load_it_undoes_the_load(server, serve_beside):
    other = serve_beside(server, {1: Fake(1), 2: Fake(2)})
    reply = server.post(LOAD, named(3))
    assert reply.status == 503
    assert reply.error.startswith("serve-r1 could not load version 3: the model in ")
    assert [infer(one, 3).status for one in (server, other)] == [404, 404]
    assert told(server) == [("load", 3, "local"), ("unload", 3, "local")]


@pytest.fixture
def serve_beside():
    """A second process's server on the same state folder."""
    started = []

    def start(first, models=None):
        config = first.config
        running = Running(
            Config(state=config.state, replica="r1", port=0, limits=config.limits), models or first.models
        )
        started.append(running)
        running.start()
        eventually(lambda: running.admin("status")["epoch"] == 1)
        return running

    yield start
    for running in started:
        running.stop()


def test_a_native_model_is_loaded_into_a_child_of_its_own_and_let_go_of(serve):
    server = serve({1: Fake(1), 3: "child"}, table(), batch_seconds=5.0)
    register(server, 3)
    assert server.post(LOAD, named(3)).status == 200
    assert infer(server, 3).json["outputs"][0]["data"] == [200.0]
    assert server.post(UNLOAD, named(3)).status == 200
    assert infer(server, 3).status == 404
