"""What lets a browser in: it ends, it cannot be forged, and it is worth nothing for anything else."""

import pytest

from trueline.errors import NotAuthenticated
from trueline.security import tokens
from trueline.security.sessions import SESSION, TICKET, Sessions

TOKEN = "a-token-of-enough-characters"


class Wall:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def sessions(wall):
    return Sessions(TOKEN, wall)


def test_a_ticket_lets_in_for_a_while(sessions, wall):
    ticket = sessions.ticket()
    assert sessions.admits(ticket)
    wall.now += TICKET.total_seconds() - 1
    assert sessions.admits(ticket)
    wall.now += 1
    assert not sessions.admits(ticket)


def test_a_session_outlives_the_server_that_made_it_and_ends(sessions, wall):
    session = sessions.session()
    assert Sessions(TOKEN, wall).holds(session)
    wall.now += SESSION.total_seconds()
    assert not sessions.holds(session)


def test_a_new_token_ends_every_session(sessions, wall):
    assert not Sessions("another-token-of-characters", wall).holds(sessions.session())


def test_a_ticket_is_no_session_and_the_other_way_round(sessions):
    assert not sessions.holds(sessions.ticket())
    assert not sessions.admits(sessions.session())


@pytest.mark.parametrize(
    "forged", ["", ".", "1.", "99999999999.", "99999999999." + "0" * 64, "x.y", "²." + "0" * 64, "9" * 40 + ".a", "é"]
)
def test_what_was_not_made_here_is_refused(forged, sessions):
    assert not sessions.holds(forged)
    assert not sessions.admits(forged)


def test_an_end_cannot_be_moved(sessions):
    ends, _, code = sessions.session().partition(".")
    assert not sessions.holds(f"{int(ends) + 1}.{code}")


def test_two_servers_on_one_machine_have_cookies_of_their_own(sessions):
    assert sessions.cookie != Sessions("another-token-of-characters").cookie


def test_a_session_may_read_and_nothing_else():
    guard = tokens.guard(TOKEN)
    principal = guard.identify(None, Sessions(TOKEN).session())
    assert principal.may("read")
    assert not any(principal.may(one) for one in ("train", "release", "respond", "replay"))


def test_a_session_does_not_help_a_wrong_token():
    guard = tokens.guard(TOKEN)
    with pytest.raises(NotAuthenticated):
        guard.identify("Bearer wrong-token-of-enough", Sessions(TOKEN).session())
