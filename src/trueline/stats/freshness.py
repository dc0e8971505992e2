"""Would a fresher model be better? Wealth of a standing bet, which can change its mind both ways.

Each block is worth z in [−1, 1]: how much worse the older model was than the freshest, beyond a margin
(`blocks.block_value`). For every λ of a grid, wealth K ← K·(1 + λz), kept between a floor and a cap; the process is their
mean. The floor lets it notice a drift that begins after a calm year, the cap lets it notice that the drift has ended.

Promise: while z is not expected to be above zero, the wealth needs 1/α blocks or more on average to reach 1/α. It is an
average run length, not a lifetime's α: each K stays below the e-CUSUM of the same bets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trueline.stats.bounded_mean import BETS

FLOOR = 0.01
CAP = 50.0


@dataclass(frozen=True)
class Freshness:
    """A betting process about a policy (retrain) or a model (replace it).

    >>> state = Freshness(alpha=0.05)
    >>> for _ in range(8):
    ...     state = state.update(0.8)
    >>> state.shown, round(state.wealth)
    (True, 31)
    """

    alpha: float
    n: int = 0
    wealths: tuple[float, ...] = (1.0,) * len(BETS)
    floor: float = FLOOR  # 1 is the e-CUSUM itself: quickest where what is looked for has a beginning

    def update(self, value: float) -> Freshness:
        """One more block, the models in it fixed before it began."""
        z = min(max(value, -1.0), 1.0)
        moved = (wealth * (1 + fraction * z) for wealth, fraction in zip(self.wealths, BETS, strict=True))
        return replace(self, n=self.n + 1, wealths=tuple(min(max(w, self.floor), CAP / self.alpha) for w in moved))

    @property
    def wealth(self) -> float:
        return sum(self.wealths) / len(self.wealths)

    @property
    def threshold(self) -> float:
        return 1 / self.alpha

    @property
    def shown(self) -> bool:
        return self.wealth >= self.threshold
