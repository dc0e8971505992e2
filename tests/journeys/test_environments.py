"""From dev to prod as docs/environments.md has it: promote, approve, diff, and a token in somebody's name."""

from __future__ import annotations

import getpass

import pytest

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

TARGETS = """\
targets:
  dev: {{{dev}}}
  prod: {{{prod}gates: {{approve: {{by: [{me}], count: 1}}}}}}
"""


@pytest.fixture(scope="module")
def desk(new_desk):
    made = new_desk("targets", seeded=True)
    made.data("won", "answer")
    made.project()
    own = {target: f"database: '{made.new_database()}', " if made.new_database else "" for target in ("dev", "prod")}
    file = made.folder / "trueline.yaml"
    file.write_text(file.read_text() + TARGETS.format(me=getpass.getuser(), **own))
    return made


def test_a_version_goes_from_dev_to_prod_when_somebody_has_agreed(desk):
    said = desk.trueline("run", "--target", "dev", "--json")
    assert (said.code, said.json["gate"]["verdict"]) == (0, "pass"), said.err
    differing = desk.trueline("diff", "dev", "prod", "--exit-code")
    assert (differing.code, "nothing has run in prod yet" in differing.out) == (5, True)
    said = desk.trueline("promote", "--target", "dev", "--to", "prod", "--reason", "a good week", "--json")
    assert said.code == 0, said.err
    assert said.json["promotion"]["already"] is False
    assert (said.json["gate"]["verdict"], said.json["release"]) == ("pass", None)
    assert "waits for 1 of these to approve" in desk.trueline("status", "--target", "prod").out
    said = desk.trueline("approve", "1", "--target", "prod", "--reason", "checked", "--json")
    assert (said.code, said.json["state"], said.json["waiting"]) == (0, "approved", None)
    assert desk.trueline("status", "--target", "prod", "--json").json["champion"] == 1
    told = desk.trueline("diff", "dev", "prod", "--json").json
    assert told["same_champion"] is True
    where = {"database"} if desk.database else set()
    assert {one["key"] for one in told["settings"]} - where == {"gates.approve.by", "gates.approve.count"}
    assert desk.trueline("diff", "dev", "dev", "--exit-code").code == 0


def test_what_cannot_be_promoted_is_one_sentence(desk):
    said = desk.trueline("promote", "--target", "prod", "--to", "dev", "--reason", "back")
    assert said.code != 0
    assert "prod is the last target: base → dev → prod" in said.complaint
    said = desk.trueline("promote", "x", "--target", "dev", "--to", "prod", "--reason", "r")
    assert said.code == 2
    assert "Traceback" not in said.err


def test_a_token_in_somebodys_name_is_shown_once_listed_and_taken_back(desk):
    made = desk.trueline("token", "ada", "--may", "read", "--json")
    assert made.code == 0
    assert made.json["token"].startswith("tl_")
    listed = desk.trueline("token", "--json")
    assert listed.json == [{"name": "ada", "permissions": ["read"]}]
    assert desk.trueline("token", "ada", "--revoke").code == 0
    assert desk.trueline("token", "--json").json == []
    assert desk.trueline("token", "ada", "--revoke").complaint.startswith("nobody called ada has a token here")
