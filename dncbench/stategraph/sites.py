"""Objects seen as values at a few places, by which laws of few parameters are made."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln


class Sites(NamedTuple):
    """What each of K objects has at each of L places.

    Attributes:
        values: (K, L) from 0 to V - 1.
        exchangeable: the places have no order, and an object is what is there in whatever
            order; ``values`` are then sorted.
    """

    values: Int[np.ndarray, "K L"]
    exchangeable: bool = False

    @property
    def num_values(self) -> int:
        """V."""
        return int(self.values.max()) + 1

    def one_hot(self) -> Float[np.ndarray, "K L V"]:
        """Ones where a place has a value."""
        return (self.values[:, :, None] == np.arange(self.num_values)).astype(float)

    def statistics(self, free: bool = False) -> Float[np.ndarray, "K P"]:
        """Sufficient statistics of laws with independent places: P = L V.

        Where places are exchangeable they have one law, and values are counted: P = V.

        Args:
            free: leave out each place's first value, which the others determine.
        """
        hot = self.one_hot()[:, :, int(free) :]
        return hot.sum(1) if self.exchangeable else hot.reshape(len(hot), -1)

    def log_orders(self) -> Float[np.ndarray, " K"]:
        """Log number of orders that an object has: its measure under independent places."""
        if not self.exchangeable:
            return np.zeros(len(self.values))
        return gammaln(self.values.shape[1] + 1.0) - gammaln(self.statistics() + 1.0).sum(1)

    def overlaps(self) -> Float[np.ndarray, "K F"]:
        """Numbers 0 and 1 whose inner product counts at how many places two objects agree."""
        if not self.exchangeable:
            return self.statistics()
        counts = self.statistics()[:, :, None]
        return (counts > np.arange(self.values.shape[1])).astype(float).reshape(len(counts), -1)
