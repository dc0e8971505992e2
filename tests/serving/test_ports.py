"""Ports: shared by those who were asked to, and refused to everybody else with one sentence."""

import socket

import pytest

from trueline.errors import Unavailable
from trueline.serving import ports


def port_of(kept):
    return kept.getsockname()[1]


def test_a_reserved_port_is_shared_by_the_processes_that_ask_for_it():
    with ports.reserve("127.0.0.1", 0) as kept, ports.bind("127.0.0.1", port_of(kept), shared=True) as one:
        ports.listen(one)
        with ports.bind("127.0.0.1", port_of(kept), shared=True) as other:
            ports.listen(other)
            reached = set()
            while len(reached) < 2:  # the kernel deals connections out by a hash
                with socket.create_connection(one.getsockname()) as caller:
                    reached |= {name for name in (one, other) if _accepts(name, caller)}


def _accepts(listener, caller):
    try:
        accepted, address = listener.accept()
    except BlockingIOError:
        return False
    accepted.close()
    return address == caller.getsockname()


@pytest.mark.parametrize("take", [ports.reserve, ports.bind])
@pytest.mark.parametrize("foreign_shares", [False, True])
def test_a_port_that_somebody_listens_on_is_refused_even_if_he_would_share(take, foreign_shares):
    with socket.socket() as foreign:
        if foreign_shares:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = port_of(foreign)
        with pytest.raises(Unavailable, match=rf"^port {port} on 127\.0\.0\.1 is in use; stop .+ or choose another"):
            take("127.0.0.1", port)


def test_a_program_of_another_kind_does_not_get_in_while_the_processes_listen():
    with ports.reserve("127.0.0.1", 0) as kept, ports.bind("127.0.0.1", port_of(kept), shared=True) as ours:
        ports.listen(ours)
        with pytest.raises(Unavailable, match="is in use"):
            ports.reserve("127.0.0.1", port_of(kept))


def test_a_server_that_ended_a_moment_ago_is_not_in_the_way():
    with socket.create_server(("127.0.0.1", 0)) as before:
        port = port_of(before)
        caller = socket.create_connection(("127.0.0.1", port))
        accepted, _ = before.accept()
        accepted.close()  # the side that closes first is left in TIME_WAIT
        caller.close()
    ports.reserve("127.0.0.1", port).close()


def test_an_address_of_another_machine_is_one_sentence():
    with pytest.raises(Unavailable, match=r"port 0 on 192\.0\.2\.1 cannot be used"):
        ports.reserve("192.0.2.1", 0)
    with pytest.raises(Unavailable, match=r"cannot listen on no\.such\.host\.invalid: .+ choose another --host"):
        ports.bind("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("192.0.2.1", False), ("example.org", False)],
)
def test_what_only_this_machine_can_reach(host, only_here):
    assert ports.loopback(host) is only_here
