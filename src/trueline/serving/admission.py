"""How many requests may wait for one version: few enough that those who are let in are answered soon.

A batch of n rows takes about a + b·n. `Pace` learns both from the batches themselves, so a bound on waiting *time*
becomes a bound on waiting *rows*, `room`, and letting a request in costs one comparison and one subtraction. Bounds and
modes are looked at once per batch (`took`).

Two bounds. What comes in one burst, or from a hundred patient clients in turn, shall be answered even if that takes a
while: the door is **open** for `BURST` requests, as long as they can be answered within half the deadline. When more
arrives than can be answered for a few windows in a row, waiting helps nobody: the door is **narrow**, and only so many
rows wait as one to two batches answer. It stays narrow until what arrives, refused requests included, fits again; a
window (10 ms for a fast model) decides that.

Batches are bounded too (`rows`). Beyond a few times the fixed cost a larger batch hardly buys throughput and makes
everybody in it wait for its last row; and no batch is so much larger than those before it that a version which is merely
loaded could miss its deadline.
"""

from __future__ import annotations

import math

BURST = 256  # requests that may wait before it is called an overload
FEW = 32  # that may always wait while the door is open: a machine that stalls for a moment is no overload of the model
FLOOR_SECONDS = 0.003  # waiting that is never called an overload
SHORTEST_BATCH = 0.002  # seconds; nothing is gained by batches shorter than this
WINDOW_SECONDS = 0.010
HOT = 1.5  # times what can be answered: arrivals of a window that make it a hot one
COOL = 0.9
HOT_WINDOWS = 3  # in a row, and so many requests too many in them, make the door narrow
TOO_MANY = 64  # a burst is over sooner, patient clients are fewer than that or come no more once they wait
QUIET_WINDOWS = 10  # in a row open it again: nobody was turned away, or few came
DECAY = 0.97  # of what a batch counts, with each batch after it
FIRST_ROWS = 32  # of a batch, while nothing is known
PROBE_EVERY = (
    16  # batches: one may be half as large again, else a model under load, always asked the same, is never learnt
)
OFTEN_SECONDS = 0.001
SAMPLED = 8
OUTLIER = 3.0  # times the expectation: what a batch counts at most (the machine was busy, not the model)


class Pace:
    """What a batch of n rows takes, a + b·n seconds: a regression over the last thirty batches or so.

    >>> pace = Pace()
    >>> for rows in (1, 8, 2, 32, 4) * 8:
    ...     pace.observe(rows, 0.001 + 0.0001 * rows)
    >>> round(pace.seconds(100), 4)
    0.011
    """

    __slots__ = ("_n", "_nn", "_nt", "_t", "_tt", "_w", "fixed", "largest", "per_row")

    def __init__(self) -> None:
        self._w = self._n = self._t = self._nn = self._nt = self._tt = 0.0
        self.fixed = 0.0
        self.per_row = 0.0  # no more than what the batches prove: without proof, larger batches cost nothing
        self.largest = 0.0  # batch of late, in rows

    @property
    def row_at_worst(self) -> float:
        """Seconds of a row if batches spare nothing."""
        return self._t / self._n

    def seconds(self, rows: float) -> float:
        return self.fixed + self.per_row * rows

    def observe(self, rows: int, seconds: float) -> None:
        seconds = max(seconds, 1e-7)  # clocks are coarse
        if self._w > 2:  # the first batches set up what they need
            seconds = min(seconds, OUTLIER * (self.fixed + self.row_at_worst * rows))
        self._w = self._w * DECAY + 1.0
        self._n = self._n * DECAY + rows
        self._t = self._t * DECAY + seconds
        self._nn = self._nn * DECAY + rows * rows
        self._nt = self._nt * DECAY + rows * seconds
        self._tt = self._tt * DECAY + seconds * seconds
        self.largest = max(self.largest * DECAY, float(rows))
        self._fit()

    def _fit(self) -> None:
        weight = self._w
        rows, seconds = self._n / weight, self._t / weight
        spread = self._nn / weight - rows * rows
        slope = self.per_row
        if spread > 1e-3 * rows * rows:
            together = self._nt / weight - rows * seconds
            seen = together / spread
            unexplained = max(0.0, self._tt / weight - seconds * seconds - seen * together)
            doubt = 3 * math.sqrt(unexplained / (spread * weight))
            if seen > doubt or seen + doubt < slope:  # else it may be noise, and what was known before stands
                slope = seen
        self.per_row = min(max(slope, 0.0), seconds / rows)
        self.fixed = max(0.0, seconds - self.per_row * rows)


class Admission:
    """The door of one version's lane. Times are nanoseconds of one monotonic clock.

    The lane lets a request in while `room > 0` and subtracts its rows; it tells of those it turned away (`refuse`), of
    each batch it takes (`took`) and of each that came back (`done`).
    """

    __slots__ = (
        "_arrived", "_batch_seconds", "_batches", "_excess", "_given", "_loaded", "_look_at", "_most", "_per_request",
        "_since", "_size", "_streak", "_turned_away", "narrow", "pace", "patience_ns", "room", "rows",
    )  # fmt: skip

    def __init__(self, *, batch_seconds: float, batch_rows: int) -> None:
        self._batch_seconds = batch_seconds
        self._most = batch_rows
        self._per_request = 1.0  # rows
        self._batches = 0
        self._loaded = True  # somebody was left waiting by the last batch, or the door is narrow
        self._look_at = 0  # when the window ends
        self._since = 0  # when the window began
        self._arrived = 0.0  # rows in the window
        self._excess = 0.0  # rows of these windows that could not be answered in them
        self._streak = 0  # windows in a row that speak for the other mode
        self._turned_away = False  # while the door was open
        self.pace = Pace()
        self.narrow = False
        self.rows = min(batch_rows, FIRST_ROWS)  # of one batch
        self._size = float(batch_rows)  # the same, were every size proven
        self.room = self._given = (
            batch_rows  # rows that may still come in; a new version that hangs holds no more than these
        )
        self.patience_ns = int(batch_seconds * 1e9)  # who has waited for longer is not scored any more

    def refuse(self) -> None:
        """A request was turned away."""
        self._arrived += self._per_request
        self._turned_away = True

    def took(self, rows: int, waiting: int, now: int) -> None:
        """A batch of so many rows is scored from now on, and so many rows still wait."""
        self._arrived += self._given - self.room
        if now < self._look_at and not waiting and not self._loaded:  # the usual case, in which nothing is new
            self.room = self._given
            return
        self._loaded = self.narrow or waiting > 0
        one = self.pace.seconds(self._size)  # of a full batch
        if now >= self._look_at:
            self._close_window((now - self._since) / 1e9, one)
            self._since = now
            self._look_at = now + int(1e9 * max(WINDOW_SECONDS, one))
        self.room = self._given = self._bound(one, self.pace.seconds(rows)) - waiting

    def done(self, rows: int, requests: int, seconds: float) -> None:
        """A batch came back after so many seconds."""
        self._batches += 1
        if seconds < OFTEN_SECONDS and not self._loaded and self._batches % SAMPLED:
            return  # a fast model with nothing to do is known well enough from every so many batches
        self.pace.observe(rows, seconds)
        self._per_request += 0.1 * (rows / requests - self._per_request)
        self._bound_batch()

    def late(self, rows: int) -> None:
        """A batch of so many rows missed its deadline."""
        self.rows = max(1, min(self.rows, rows // 4))

    def _close_window(self, elapsed: float, one: float) -> None:
        can = elapsed * self._size / one if one > 0 else math.inf
        if self.narrow:
            quiet = self._arrived <= COOL * can or not self._turned_away
            self._streak = self._streak + 1 if quiet else 0
            change = self._streak >= QUIET_WINDOWS
        else:
            hot = self._arrived > HOT * can or (self._turned_away and self._arrived > can)
            self._streak = self._streak + 1 if hot else 0
            self._excess = self._excess + self._arrived - can if hot else 0.0
            change = self._streak >= HOT_WINDOWS and self._excess > TOO_MANY * self._per_request
        if change:
            self.narrow = not self.narrow
            self._streak, self._excess = 0, 0.0
        self._turned_away = False
        self._arrived = 0.0

    def _bound(self, one: float, out: float) -> int:
        """Rows that may wait behind a batch that takes `out` seconds."""
        if one <= 0:
            return 4 * self._most
        size = self._size
        soon = max(1.6 * one, FLOOR_SECONDS)
        self.patience_ns = int(1e9 * (min(1.2 * soon, self._batch_seconds) if self.narrow else self._batch_seconds))
        few = max(size * (soon - out) / one, size)
        if self.narrow:
            return math.ceil(few)
        late = size * (max(self._batch_seconds / 2, soon) - out) / one
        return math.ceil(max(few, FEW * self._per_request, min(BURST * self._per_request, late)))

    def _bound_batch(self) -> None:
        pace, deadline = self.pace, self._batch_seconds
        wanted = max(4 * pace.fixed, 4 * pace.seconds(self._per_request), SHORTEST_BATCH)
        wanted = max(min(wanted, deadline / 2), min(1.5 * pace.fixed, 0.8 * deadline))
        rows = (wanted - pace.fixed) / pace.per_row if pace.per_row > 0 else math.inf
        self._size = max(self._per_request, min(rows, float(self._most)))
        probe = 1.5 if self._batches % PROBE_EVERY == 0 and 1.5 * wanted < deadline / 2 else 1.0
        proven = max(8 * pace.largest, deadline / 2 / pace.row_at_worst)
        self.rows = max(1, int(min(self._size * probe, proven, self._most)))
