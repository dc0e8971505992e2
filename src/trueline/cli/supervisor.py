"""Keeps child processes running, and takes them along when it goes.

One thread, one loop: it sleeps on the children's output, on signals (through the wake-up pipe) and on the next timer.
Children are started from this thread only, because on Linux the signal that ends them with their parent
(PR_SET_PDEATHSIG) is tied to the thread that made them. That signal is SIGKILL: a supervisor that was itself killed
cannot drain anybody, and every process is built to be killed at any instant; what matters is that the ports are free
for the next `up`.

A child with a `check` is asked about a few times a second, for a process that hangs does not end by itself: what the
check has to say is told, and the child is killed, which then is a death like any other.

A child that ends is started again after a pause that doubles from 0.1 s to 5 s and is forgotten after 5 s of health.
A child that ends *before everything was ready once* with an exit code that means wrong use (2), not reachable (6) or
refused (7) will not get better by trying again: it ends the whole, with its last words.

SIGUSR1 has the children that `answers` can tell of replaced one by one (Puma's word for it is a phased restart): first a
`spare` one is started beside them, and no child is ended before all others answer; at last the spare one ends again.
SIGHUP is the end of the terminal, and so of everything.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from trueline.errors import InvalidInput, NotAllowed, TruelineError, Unavailable

HOPELESS: Mapping[int, type[TruelineError]] = {2: InvalidInput, 6: Unavailable, 7: NotAllowed}
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
HEALTHY_SECONDS = 5.0
GRACE_SECONDS = 10.0
PROBE_SECONDS = 0.05
CHECK_SECONDS = 0.2
ANNOUNCEMENT = '{"url"'
READY_SECONDS = 90.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class ChildSpec:
    """What to run. `wave`: at the end, children of a lower wave are stopped before those of a higher one.

    `announces`: it is ready when it has said so, in a line that begins with `{"url"`. `late`: it is not started before
    everything else is ready. `check` tells in a sentence why a child is to be killed, None while all is well; it is
    given when the child was started, on the clock of `time.monotonic`. `answers` tells whether it does its work; a child
    that has it can be replaced while others do it.
    """

    name: str
    command: tuple[str, ...]
    wave: int = 0
    announces: bool = False
    late: bool = False
    check: Callable[[float], str | None] | None = None
    answers: Callable[[], bool] | None = None


@dataclass
class Backoff:
    """How long to wait before a child is started again.

    >>> pauses = Backoff()
    >>> [pauses.after(lived=1.0) for _ in range(7)]
    [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    >>> pauses.after(lived=6.0)
    0.1
    """

    failures: int = 0

    def after(self, lived: float) -> float:
        """The pause after a life of so many seconds."""
        if lived >= HEALTHY_SECONDS:
            self.failures = 0
        self.failures += 1
        doublings = min(self.failures - 1, 10)  # far beyond the longest pause, and far from overflow
        return min(FIRST_PAUSE * 2.0**doublings, LONGEST_PAUSE)


@dataclass
class _Child:
    spec: ChildSpec
    backoff: Backoff = field(default_factory=Backoff)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float | None = None  # when to start it (again)
    partial: bytes = b""
    last_words: str = ""
    announced: bool = False
    condemned: bool = False
    passing: bool = False  # when it ends it is not started again

    @property
    def alive(self) -> bool:
        return self.process is not None

    @property
    def ready(self) -> bool:
        return self.spec.late or (self.alive and (self.announced or not self.spec.announces))

    @property
    def answers(self) -> bool:
        return self.ready and self.spec.answers is not None and self.spec.answers()


class Listener(Protocol):
    """Who hears what the supervisor sees."""

    def line(self, child: str, text: str) -> None: ...

    def note(self, sentence: str) -> None: ...

    def ready(self) -> None: ...


class Supervisor:
    """Runs until SIGTERM, SIGINT or SIGHUP; `probe` tells whether everything is ready. `spare`: see SIGUSR1 above."""

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        listener: Listener,
        *,
        probe: Callable[[], bool] = lambda: True,
        spare: ChildSpec | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._children = [_Child(spec) for spec in specs]
        self._listener = listener
        self._probe = probe
        self._spare = spare
        self._replacement_wanted = False
        self._replacement: Iterator[None] | None = None
        self._environment = dict(os.environ if environment is None else environment)
        self._selector = selectors.DefaultSelector()
        self._stops = 0
        self._was_ready = False
        self._parent = os.getpid()

    def run(self) -> None:
        """Supervise until told to stop; returns when every child has ended.

        Raises:
            TruelineError: the children cannot be started, with the words of the one that cannot.
        """
        wake, restore = self._listen_to_signals()
        try:
            start = time.monotonic()
            for child in self._children:
                if not child.spec.late:
                    self._start(child)
            while not self._stops:
                self._turn(self._pause())
                if not self._was_ready:
                    self._look_ready(start)
                else:
                    self._go_on_replacing()
        finally:
            self._stop_all()
            restore()
            wake.close()
            self._selector.close()

    # ---- the loop --------------------------------------------------------------------------------------------------

    def _turn(self, pause: float) -> None:
        """One round: read what children say, bury the dead, start those that are due."""
        for key, _ in self._selector.select(pause):
            if isinstance(key.data, _Child):
                self._read(key.data)
            else:
                key.data()
        now = time.monotonic()
        for child in tuple(self._children):
            self._look_after(child)
            if child.process is not None and child.process.poll() is not None:
                self._bury(child, now)
            if child.due is not None and child.due <= now and not self._stops:
                self._start(child)

    def _pause(self) -> float:
        now = time.monotonic()
        timers = [child.due - now for child in self._children if child.due is not None]
        checked = any(child.spec.check is not None for child in self._children)
        timers.append(PROBE_SECONDS if not self._was_ready or self._replacement else CHECK_SECONDS if checked else 1.0)
        return max(0.0, min(timers))

    def _look_ready(self, start: float) -> None:
        if all(child.ready for child in self._children) and self._probe():
            self._was_ready = True
            self._listener.ready()
            for child in self._children:
                if child.spec.late:
                    self._start(child)
        elif time.monotonic() - start > READY_SECONDS:
            silent = ", ".join(f"{c.spec.name}: {c.last_words}" for c in self._children if c.last_words)
            raise Unavailable(f"not everything was ready within {READY_SECONDS:.0f} s ({silent or 'nothing was said'})")

    # ---- one child -------------------------------------------------------------------------------------------------

    def _start(self, child: _Child) -> None:
        child.due, child.partial, child.announced, child.condemned = None, b"", False, False
        child.process = subprocess.Popen(
            child.spec.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            process_group=0,  # Ctrl-C at a terminal reaches the supervisor alone, which stops them in order
            preexec_fn=self._tie_to_parent if _LIBC is not None else None,  # noqa: PLW1509 this process has one thread
        )
        child.started = time.monotonic()
        output = child.process.stdout
        if output is not None:
            os.set_blocking(output.fileno(), False)
            self._selector.register(output, selectors.EVENT_READ, child)

    def _tie_to_parent(self) -> None:
        """In the child, before it becomes its program: die with the supervisor, also if that is dead already."""
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self._parent:
            os._exit(1)

    def _read(self, child: _Child) -> None:
        output = child.process.stdout if child.process is not None else None
        if output is None:
            return
        while True:
            try:
                part = os.read(output.fileno(), 65536)
            except BlockingIOError:
                return
            if not part:  # closed: the child is gone or silent from now on
                self._selector.unregister(output)
                output.close()
                self._say(child, child.partial)
                child.partial = b""
                return
            *lines, child.partial = (child.partial + part).split(b"\n")
            for line in lines:
                self._say(child, line)

    def _say(self, child: _Child, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            child.last_words = text
            child.announced = child.announced or text.startswith(ANNOUNCEMENT)
            self._listener.line(child.spec.name, text)

    def _look_after(self, child: _Child) -> None:
        """Kill a child that hangs."""
        if child.process is None or child.spec.check is None or child.condemned:
            return
        why = child.spec.check(child.started)
        if why is not None:
            self._listener.note(f"{child.spec.name}: {why}; killed")
            child.condemned = True
            child.process.kill()

    def _bury(self, child: _Child, now: float) -> None:
        process = child.process
        if process is None:
            return
        if process.stdout is not None and not process.stdout.closed:
            self._read(child)  # its last words
        if process.stdout is not None and not process.stdout.closed:  # a grandchild keeps the pipe open
            self._selector.unregister(process.stdout)
            process.stdout.close()
            self._say(child, child.partial)
        child.process = None
        code = process.returncode
        if self._stops or child.passing:
            return
        if code in HOPELESS and not self._was_ready:
            raise HOPELESS[code](_last_words(child))
        child.due = now + child.backoff.after(now - child.started)
        self._listener.note(f"{child.spec.name} {ending(code)}; starting it again in {child.due - now:.1f} s")

    # ---- one by one ------------------------------------------------------------------------------------------------

    def _go_on_replacing(self) -> None:
        """Begin to replace children when that is wanted (once more, if it was while they were), or take the next step."""
        if self._replacement is None and self._replacement_wanted:
            self._replacement_wanted = False
            self._replacement = self._replace_one_by_one()
        if self._replacement is not None and next(self._replacement, self) is self:
            self._replacement = None

    def _replace_one_by_one(self) -> Iterator[None]:
        """Each step is taken when what it needs has come to hold, and whoever calls goes on with his loop meanwhile."""
        if self._spare is None:
            self._listener.note("nothing can be replaced here")
            return
        spare = _Child(self._spare, passing=True)
        self._children.append(spare)
        self._start(spare)
        if (yield from self._answers_in_time(spare)):
            spare.passing = False  # needed from now on: started again if it dies
            for child in [one for one in self._children if one.spec.answers is not None and one is not spare]:
                yield from self._end(child)
                while not child.answers:
                    yield
            self._listener.note("all were replaced, one by one")
        else:
            why = spare.last_words or "it said nothing"
            self._listener.note(
                f"nothing is replaced: {spare.spec.name} was started beside and does not answer ({why})"
            )
        spare.passing = True
        yield from self._end(spare)
        self._children.remove(spare)

    @staticmethod
    def _answers_in_time(spare: _Child) -> Generator[None, None, bool]:
        while spare.alive and time.monotonic() - spare.started < READY_SECONDS:
            if spare.answers:
                return True
            yield
        return False

    def _end(self, child: _Child) -> Iterator[None]:
        """Have its process finish, or kill it when it does not."""
        before = child.process
        self._signal([child], signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while child.process is before is not None:
            if time.monotonic() > deadline:
                self._listener.note(f"{child.spec.name} did not finish in time; killed")
                self._signal([child], signal.SIGKILL)
                deadline = float("inf")
            yield

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _stop_all(self) -> None:
        """Ask wave after wave to finish; who does not in time, or is asked twice by the user, is killed."""
        self._stops = max(self._stops, 1)
        for wave in sorted({child.spec.wave for child in self._children}):
            those = [child for child in self._children if child.spec.wave == wave]
            self._signal(those, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while any(child.alive for child in those) and time.monotonic() < deadline and self._stops < 2:
                self._turn(PROBE_SECONDS)
            late = [child for child in those if child.alive]
            for child in late:
                self._listener.note(f"{child.spec.name} did not finish in time; killed")
            self._signal(late, signal.SIGKILL)
            while any(child.alive for child in late):
                self._turn(PROBE_SECONDS)

    @staticmethod
    def _signal(children: Sequence[_Child], signum: signal.Signals) -> None:
        for child in children:
            if child.process is not None:
                child.process.send_signal(signum)

    def _listen_to_signals(self) -> tuple[socket.socket, Callable[[], None]]:
        """Have the signals to stop, and SIGCHLD, wake the loop; returns what to close and how to put things back."""
        ours, kernels = socket.socketpair()
        ours.setblocking(False)
        kernels.setblocking(False)
        before_fd = signal.set_wakeup_fd(kernels.fileno(), warn_on_full_buffer=False)
        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._asked_to_stop),
            signal.SIGINT: signal.signal(signal.SIGINT, self._asked_to_stop),
            signal.SIGHUP: signal.signal(signal.SIGHUP, self._asked_to_stop),
            signal.SIGUSR1: signal.signal(signal.SIGUSR1, self._asked_to_replace),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        }

        def drain() -> None:
            ours.recv(4096)

        def restore() -> None:
            signal.set_wakeup_fd(before_fd)
            for signum, handler in before.items():
                signal.signal(signum, handler)
            kernels.close()

        self._selector.register(ours, selectors.EVENT_READ, drain)
        return ours, restore

    def _asked_to_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 the signature of a handler
        self._stops += 1

    def _asked_to_replace(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 likewise
        self._replacement_wanted = True


def ending(code: int) -> str:
    """How a process ended, in words.

    >>> ending(-9), ending(-40), ending(3)
    ('was killed by SIGKILL', 'was killed by signal 40', 'ended with exit code 3')
    """
    if code < 0:
        names = {known.value: known.name for known in signal.Signals}  # not all of those of real time have one
        return f"was killed by {names.get(-code, f'signal {-code}')}"
    return f"ended with exit code {code}"


def _last_words(child: _Child) -> str:
    words = child.last_words.removeprefix("trueline: ").removeprefix("error: ")
    return f"{child.spec.name} cannot start: {words or 'it does not say why'}"
