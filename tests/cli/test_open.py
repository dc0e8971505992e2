"""The link into the pages, and that it leads in."""

import http.client
import re

import pytest

from trueline.security import tokens


def follow(link):
    host, path = re.fullmatch(r"http://([^/]+)(/.*)", link).groups()
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    connection.close()
    return answer


@pytest.mark.usefixtures("project", "served")
def test_the_link_leads_in_and_carries_no_token(trueline, state):
    said = trueline("open")
    link = said.out.strip()
    assert said.code == 0
    assert tokens.read(state.token) not in link
    answer = follow(link)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert follow(trueline("open", "--json").json["url"]).status == 303


@pytest.mark.usefixtures("project", "state")
def test_without_a_server_it_says_how_to_start_one(trueline):
    said = trueline("open")
    assert said.code == 6
    assert "trueline up" in said.err
