"""Spaces: what draws are, how they are checked and kept, and how they are looked at.

Mah, IAD and skew read points of R^p. A space says which points its draws stand for
(``embed``), so that continuous draws, integer-coded objects and function values can be
scored by the same metrics; and how points come back to draws, where they can (``project``).
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from dncbench import precision as precision
from dncbench.errors import DrawsError, NotApplicableError


@dataclass(frozen=True)
class Space(abc.ABC):
    """What draws are.

    Attributes:
        kind: "real", "codes" or "outputs": what methods name in ``spaces``.
        names: p names, of the coordinates that ``embed`` gives.
        name: what the records call it.
    """

    kind: ClassVar[str]

    names: tuple[str, ...]
    name: str

    @abc.abstractmethod
    def check(self, draws: Any, num_draws: int, owner: str) -> Shaped[np.ndarray, "N ..."]:
        """The draws as an array of this space.

        Args:
            draws: of any array type.
            num_draws: N, how many there must be.
            owner: who returned them, for messages.

        Raises:
            DrawsError: wrong shape or dtype, a non-finite number, a code that is none.
        """

    @abc.abstractmethod
    def embed(self, draws: Shaped[np.ndarray, "N ..."]) -> Float[np.ndarray, "N p"]:
        """The points of R^p that the draws stand for, float64."""

    @abc.abstractmethod
    def pack(self, draws: Shaped[np.ndarray, "N ..."]) -> dict[str, np.ndarray]:
        """Arrays to keep the draws as, for metrics that come later."""

    @abc.abstractmethod
    def unpack(self, arrays: dict[str, np.ndarray]) -> Shaped[np.ndarray, "N ..."]:
        """The draws that were kept.

        Raises:
            ValueError: these are no draws of this space.
        """

    def project(self, points: Float[np.ndarray, "N p"]) -> Shaped[np.ndarray, "N ..."]:
        """The draws that points of R^p stand for.

        Raises:
            NotApplicableError: there is no way back.
        """
        raise NotApplicableError(f"points of R^p cannot be turned into {self.kind}")

    @classmethod
    def first(cls, names: tuple[str, ...] | None, index: int | np.integer) -> str:
        """A coordinate for messages: its number, and its name where there is one."""
        return f"coordinate {index} ({names[int(index)]})" if names else f"coordinate {index}"

    def _shaped(self, draws: Any, expected: tuple[int, ...], owner: str) -> np.ndarray:
        found = np.asarray(draws)
        if found.shape != expected:
            raise DrawsError(f"{owner} returned draws of shape {found.shape}, not {expected}")
        return found

    def _finite(self, draws: np.ndarray, owner: str) -> np.ndarray:
        bad = np.argwhere(~np.isfinite(draws))
        if len(bad):
            raise DrawsError(
                f"{owner} returned a non-finite draw (row {bad[0][0]}, "
                f"{self.first(self.names, bad[0][1])}) from finite draws"
            )
        return draws


class _Points(Space):
    """Points of R^d."""

    def check(self, draws: Any, num_draws: int, owner: str) -> Float[np.ndarray, "N d"]:
        """Finite float64 draws (N, d)."""
        found = self._shaped(draws, (num_draws, len(self.names)), owner)
        if found.dtype.kind not in "fiu":
            raise DrawsError(
                f"{owner} returned draws of dtype {found.dtype}; parameters are real numbers"
            )
        return self._finite(found.astype(np.float64), owner)

    def pack(self, draws: Float[np.ndarray, "N d"]) -> dict[str, np.ndarray]:
        """Standardised float32 draws (N, d), and their float64 location and scale (d,).

        A coordinate may be 10^8 of its standard deviations away from zero; float32 by itself
        would round all its draws to a few values.
        """
        location, scale = draws.mean(0), draws.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        standardised = ((draws - location) / scale).astype(np.float32)
        return {"draws": standardised, "location": location, "scale": scale}

    def unpack(self, arrays: dict[str, np.ndarray]) -> Float[np.ndarray, "N d"]:
        """Float64 draws (N, d)."""
        draws, location, scale = (arrays[name] for name in ("draws", "location", "scale"))
        found = location + scale * draws.astype(np.float64)
        if found.ndim != 2 or found.shape[1] != len(self.names) or not np.isfinite(found).all():
            raise ValueError(f"its draws, of shape {draws.shape}, are none of {self.names}")
        return np.asarray(found)


@dataclass(frozen=True)
class Real(_Points):
    """Points of R^d: unconstrained coordinates η, or natural parameters θ.

    Attributes:
        constrain: from one draw (d,) to its natural parameters (d,); None where they are
            the same.
    """

    kind: ClassVar = "real"

    constrain: Callable[[Array], Array] | None = None

    def embed(self, draws: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N d"]:
        """Natural parameters θ."""
        if self.constrain is None:
            return np.asarray(draws, dtype=np.float64)
        return np.asarray(jax.vmap(self.constrain)(jnp.asarray(draws)))

    def project(self, points: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N d"]:
        """The points themselves, where natural parameters are what is drawn."""
        if self.constrain is not None:
            return super().project(points)
        return points


@dataclass(frozen=True)
class Codes(Space):
    """Objects coded by whole numbers 0 to ``size`` - 1.

    Attributes:
        size: K, how many objects there are; None where nobody has counted them.
        embedding: from codes (N,) to points (N, p), e.g. counts or one-hot vectors. A
            coordinate that is the same for all objects says nothing; leave it out.
        decode: the way back, from points (N, p) to codes (N,); None where there is none.
    """

    kind: ClassVar = "codes"

    size: int | None
    embedding: Callable[[Int[np.ndarray, " N"]], Float[np.ndarray, "N p"]]
    decode: Callable[[Float[np.ndarray, "N p"]], Int[np.ndarray, " N"]] | None = None

    def check(self, draws: Any, num_draws: int, owner: str) -> Int[np.ndarray, " N"]:
        """Codes (N,), int64."""
        found = self._shaped(draws, (num_draws,), owner)
        if not np.issubdtype(found.dtype, np.integer):
            raise DrawsError(
                f"{owner} returned draws of dtype {found.dtype}; objects are coded by whole numbers"
            )
        bad = np.flatnonzero((found < 0) | (found >= (self.size or np.iinfo(np.int64).max)))
        if len(bad):
            raise DrawsError(
                f"{owner} returned the code {found[bad[0]]} (row {bad[0]}); codes go from 0 to "
                f"{'any number' if self.size is None else self.size - 1}"
            )
        return found.astype(np.int64)

    def pack(self, draws: Int[np.ndarray, " N"]) -> dict[str, np.ndarray]:
        """Codes (N,), int64."""
        return {"draws": draws.astype(np.int64)}

    def unpack(self, arrays: dict[str, np.ndarray]) -> Int[np.ndarray, " N"]:
        """Codes (N,), int64."""
        return self.check(arrays["draws"], len(arrays["draws"]), "an earlier run")

    def embed(self, draws: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N p"]:
        """The embedding."""
        return np.asarray(self.embedding(np.asarray(draws)), dtype=np.float64)

    def project(self, points: Float[np.ndarray, "N p"]) -> Int[np.ndarray, " N"]:
        """The decoded objects."""
        return super().project(points) if self.decode is None else self.decode(points)


@dataclass(frozen=True)
class Outputs(_Points):
    """Values of a function at p fixed inputs, where its parameters mean nothing by themselves."""

    kind: ClassVar = "outputs"

    def embed(self, draws: Float[np.ndarray, "N p"]) -> Float[np.ndarray, "N p"]:
        """The values themselves."""
        return np.asarray(draws, dtype=np.float64)

    def project(self, points: Float[np.ndarray, "N p"]) -> Float[np.ndarray, "N p"]:
        """The values themselves."""
        return points


KINDS = (Real.kind, Codes.kind, Outputs.kind)
"""What methods may name in ``spaces``."""
