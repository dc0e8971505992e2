"""Errors of PostgreSQL in our words, by the server's code."""

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from trueline.errors import Conflict, Unavailable
from trueline.store.postgresql import shown, words

URL = make_url("postgresql://ada:s3cret@db.acme:5432/churn?sslpassword=hidden")


class Said(Exception):
    def __init__(self, sqlstate, text):
        super().__init__(text)
        self.sqlstate = sqlstate


def told(sqlstate, text="it says s3cret\nand more"):
    return words(DBAPIError("select 1", {}, Said(sqlstate, text)), URL)


@pytest.mark.parametrize("code", ["40001", "40P01", "23505"])
def test_a_race_that_was_lost_is_a_conflict(code):
    assert isinstance(told(code), Conflict)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("25006", "name the primary server"),
        ("25P03", "stood still"),
        ("28P01", "check user and password"),
        ("3D000", "createdb"),
        ("42501", "GRANT ALL ON SCHEMA public TO ada"),
        ("42P01", "not as trueline made it"),
        ("53100", "make room on its disk"),
        ("53300", "raise its max_connections"),
        ("55P03", "was busy with other writes for too long; try again"),
        ("57014", "did not answer in time"),
        ("57P01", "cannot be used now"),
        ("57P03", "cannot be used now"),
        ("XX000", "cannot be used now"),
    ],
)
def test_what_passes_or_can_be_mended_says_how(code, words):
    found = told(code)
    assert isinstance(found, Unavailable)
    assert str(found).startswith("the database postgresql://ada@db.acme:5432/churn ")
    assert words in str(found)
    assert "s3cret" not in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize("code", ["42601", "22001", "23502"])
def test_a_wrong_statement_of_ours_is_a_defect(code):
    assert told(code) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("connection timeout expired", "cannot be reached"),
        ("failed to resolve host 'db.acme': Name or service not known", "cannot be reached"),
        ("connection failed: FATAL:  the database system is starting up", "cannot be used now"),
        ('connection failed: FATAL:  role "ada" does not exist', "refused to let ada in"),
    ],
)
def test_before_there_is_a_session_the_drivers_text_decides(text, words):
    assert words in str(told(None, text))


def test_an_address_is_shown_without_what_is_secret():
    assert shown(URL) == "postgresql://ada@db.acme:5432/churn"
    assert shown(make_url("postgresql:///churn?host=/run/postgresql")) == "postgresql:///run/postgresql/churn"
    assert shown(make_url("postgresql://")) == "postgresql://localhost/"
