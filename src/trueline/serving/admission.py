"""How many requests may wait for one version: few enough that those who are let in are answered soon.

A batch of n rows takes about a + b·n. `Pace` learns both from the batches themselves, so a bound on waiting *time*
becomes a bound on waiting *rows*, `room`, and letting a request in costs one comparison and one subtraction. Bounds and
modes are looked at once per batch (`took`).

Two bounds. What comes in one burst, or from a hundred patient clients in turn, shall be answered even if that takes a
while: the door is **open** for `BURST` requests, as long as they can be answered within half the deadline. When more
arrives than can be answered for a few windows in a row, waiting helps nobody: the door is **narrow**, and only so many
rows wait as one to two batches answer. It stays narrow until what arrives, refused requests included, fits again.

A burst and the first moments of an overload look alike, and only time tells them apart. Nobody is refused meanwhile, but
after the first window (10 ms for a fast model) in which too much came the **newest are scored first**, if the oldest
have waited for longer than behind a narrow door (`fresh_ns`). After a burst the old ones have their turn at once, since
no more comes; in an overload they are those who hear that there is no room, and everybody who is answered is answered
soon, also at its beginning.

Batches are bounded too (`rows`). Beyond a few times the fixed cost a larger batch hardly buys throughput and makes
everybody in it wait for its last row; where there is hardly any, one request is a batch. And no batch is so much larger
than those before it that a version which is merely loaded could miss its deadline.
"""

from __future__ import annotations

import math

BURST = 256  # requests that may wait before it is called an overload
FEW = 32  # that may always wait while the door is open: a machine that stalls for a moment is no overload of the model
FLOOR_SECONDS = 0.003  # waiting that is never called an overload
SHORTEST_BATCH = 0.002  # seconds; nothing is gained by batches shorter than this
WINDOW_SECONDS = 0.010
WINDOW_REQUESTS = 8  # that a window has time for at least: a few that come together are no overload
HOT = 1.5  # times what can be answered: arrivals of a window that make it a hot one
HOT_WINDOWS = 3  # in a row, and so many requests too many in them, make the door narrow
TOO_MANY = 64  # a burst is over sooner, patient clients are fewer than that or come no more once they wait
QUIET_WINDOWS = 10  # as long as so many windows it stays narrow, and on until all that comes can be answered
LONGEST_SECONDS = 1.0  # of that time, for a slow model
FIXED_COSTS = 4.0  # a batch takes as long as so many times what it costs anyway, and the rows of one request
LONE_REQUESTS = (
    4.0  # or as so many requests one by one, while there is time: small stalls of the machine are a cost too
)
STEADY_SECONDS = 0.050  # those of a batch of this length do not matter
DEADLINE_MARGIN = 1.25  # times what a batch should take is left for it before the deadline
GROWTH = 4  # times the largest batch of late: what may be tried that could be too much
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
        "_arrived", "_batch_seconds", "_batches", "_excess", "_given", "_hot", "_loaded", "_look_at", "_most",
        "_per_request", "_pressed", "_since", "_size", "_streak", "_turned_away", "fresh_ns", "narrow", "pace", "patience_ns", "room",
        "rows",
    )  # fmt: skip

    def __init__(self, *, batch_seconds: float, batch_rows: int) -> None:
        self._batch_seconds = batch_seconds
        self._most = batch_rows
        self._per_request = 1.0  # rows
        self._batches = 0
        self._loaded = True  # somebody was left waiting by the last batch, or the door is narrow
        self._look_at = 0  # when the window ends
        self._hot = math.inf  # rows that make it a hot one
        self._pressed = False  # too much came in the last window, or in this one already
        self._since = 0  # when the window began
        self._arrived = 0.0  # rows in the window
        self._excess = 0.0  # rows of these windows that could not be answered in them
        self._streak = 0  # hot windows in a row
        self._turned_away = False  # while the door was open
        self.pace = Pace()
        self.narrow = False
        self.rows = min(batch_rows, FIRST_ROWS)  # of one batch
        self._size = float(batch_rows)  # the same, were every size proven
        self.room = self._given = (
            batch_rows  # rows that may still come in; a new version that hangs holds no more than these
        )
        self.patience_ns = int(batch_seconds * 1e9)  # who has waited for longer is not scored any more
        self.fresh_ns = (
            self.patience_ns
        )  # when somebody has waited for longer, the newest come first; never more than it

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
            one = self._resize()
            window = self._window(one)
            self._since = now
            self._look_at = now + int(1e9 * window)
            self._hot = HOT * window * self._size / one if one > 0 else math.inf
        elif self._arrived > self._hot and not self._pressed:
            self._pressed = True
            one = self._resize()
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
            change = self._arrived <= can or not self._turned_away
        else:
            hot = self._arrived > HOT * can or (self._turned_away and self._arrived > can)
            self._streak = self._streak + 1 if hot else 0
            self._excess = self._excess + self._arrived - can if hot else 0.0
            change = self._streak >= HOT_WINDOWS and self._excess > TOO_MANY * self._per_request
        if change:
            self.narrow = not self.narrow
            self._streak, self._excess = 0, 0.0
        self._pressed = self.narrow or self._streak > 0
        self._turned_away = False
        self._arrived = 0.0

    def _window(self, one: float) -> float:
        seconds = max(WINDOW_SECONDS, one, WINDOW_REQUESTS * self.pace.seconds(self._per_request))
        return max(seconds, min(QUIET_WINDOWS * seconds, LONGEST_SECONDS)) if self.narrow else seconds

    def _resize(self) -> float:
        """Seconds of a full batch, now that it may be another."""
        if self.pace.largest:
            self._bound_batch()
        return self.pace.seconds(self._size)

    def _bound(self, one: float, out: float) -> int:
        """Rows that may wait behind a batch that takes `out` seconds."""
        if one <= 0:
            return 4 * self._most
        size = self._size
        soon = max(1.6 * one, FLOOR_SECONDS)
        # Who comes to his turn later would be late, and his version be blamed for it. Some time is left whatever a batch
        # takes: else nobody would be scored who could prove that it takes less by now.
        patience = max(self._batch_seconds - DEADLINE_MARGIN * one, self._batch_seconds / 10)
        fresh = min(1.2 * soon, patience)
        self.patience_ns = int(1e9 * (fresh if self.narrow else patience))
        self.fresh_ns = int(1e9 * fresh) if self._pressed else self.patience_ns
        few = max(size * (soon - out) / one, size)
        if self.narrow:
            return int(few)  # a row more than the batches take would wait for two of them, and then each after it
        late = size * (max(self._batch_seconds / 2, soon) - out) / one
        return math.ceil(max(few, FEW * self._per_request, min(BURST * self._per_request, late)))

    def _bound_batch(self) -> None:
        pace, deadline = self.pace, self._batch_seconds
        request = pace.per_row * self._per_request
        wanted = max(FIXED_COSTS * pace.fixed + request, SHORTEST_BATCH)
        if not self._pressed:
            wanted = max(wanted, min(LONE_REQUESTS * (pace.fixed + request), STEADY_SECONDS))
        wanted = max(min(wanted, deadline / 2), min(1.5 * pace.fixed, 0.8 * deadline))
        rows = (wanted - pace.fixed) / pace.per_row if pace.per_row > 0 else math.inf
        self._size = max(self._per_request, min(rows, float(self._most)))
        size = self._size
        if self._batches % PROBE_EVERY == 0 and (self.narrow or not self._pressed) and 1.5 * wanted < deadline / 2:
            size = max(1.5 * size, size + self._per_request)
        proven = max(GROWTH * pace.largest, deadline / 2 / pace.row_at_worst)
        self.rows = max(1, int(min(size, proven, self._most)))
