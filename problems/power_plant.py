"""Robust regression on the combined cycle power plant data, and its published computation."""

import contextlib
from pathlib import Path
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench.posterior import Posterior
from dncbench.problem import Data, Split
from dncbench.problems._datasets import Dataset
from dncbench.registry import register_problem

_NUM_HOURS = 9568
_DEGREES = 5.0
_PRIOR_SD = 10.0


def _parse(path: Path) -> np.ndarray:
    """Sheet 1: AT, V, AP, RH and PE, in its order; the other sheets are shufflings of it."""
    from openpyxl import load_workbook

    with contextlib.closing(load_workbook(path, read_only=True, data_only=True)) as book:
        rows = list(book.worksheets[0].iter_rows(min_row=2, max_col=5, values_only=True))
    return np.array(rows, dtype=float)


_POWER_PLANT = Dataset(
    name="power_plant",
    file="Folds5x2_pp.xlsx",
    url="https://archive.ics.uci.edu/static/public/294/combined+cycle+power+plant.zip",
    member="CCPP/Folds5x2_pp.xlsx",
    file_sha256="ccd490981db2a2f079963b3d9f0aea30d9d338900a0285428dfc6385396f4651",
    shape=(_NUM_HOURS, 5),
    array_sha256="99a3e1a8b4d8640155030577f49c00789d0d390e4e5b4cd8e28f1a6a288abab2",
    parse=_parse,
    stand_in=None,
)


@register_problem("power-plant", version=1, dataset="power_plant", shape="not log-concave")
class PowerPlant(Posterior):
    """Electrical output from weather with t(5) errors, 9568 hours, 8 shards: d = 6.

    y ~ β0 + x·β + σ t(5), features standardised with population sds, β ~ N(0, 10²):
    Trojan et al. (2024), section 5.3, with every observation in the likelihood.

    The text's "chi-squared prior χ(1) with scale 10" on σ is, in the published code, σ / 10
    ~ χ²(1): density proportional to σ^(-1/2) exp(-σ/20). That is the one used here, so that
    the figures can be compared; with 9568 observations no reading of it can be told from
    another. σ is sampled as log σ.

    Attributes:
        num_shards: S.
    """

    num_shards: int = 8

    dim = 6
    parameter_names = ("intercept", "temperature", "vacuum", "pressure", "humidity", "sigma")
    cites: ClassVar = ("trojan2024", "tufekci2014")
    source: ClassVar = (
        "Tüfekci & Kaya (2014), Combined Cycle Power Plant, UCI Machine Learning Repository, "
        "doi:10.24432/C5002N, CC BY 4.0"
    )

    def data(self, key: PRNGKeyArray) -> dict[str, Float[np.ndarray, " n ..."]]:
        """The published data set; ``key`` is not used.

        Raises:
            DataError: see :mod:`dncbench.problems._datasets`.
        """
        table = _POWER_PLANT.load()
        features, output = table[:, :4], table[:, 4]
        standard = (features - features.mean(0)) / features.std(0)
        return {"x": np.column_stack([np.ones(len(standard)), standard]), "y": output}

    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of N(0, 10²) on β and of 10 χ²(1) on σ, up to a constant."""
        sigma = theta[5]
        return -0.5 * jnp.sum((theta[:5] / _PRIOR_SD) ** 2) - 0.5 * jnp.log(sigma) - sigma / 20

    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log density of one output, up to a constant."""
        sigma = theta[5]
        residual = (observation["y"] - observation["x"] @ theta[:5]) / sigma
        return -jnp.log(sigma) - 0.5 * (_DEGREES + 1) * jnp.log1p(residual**2 / _DEGREES)

    def constrain(self, eta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """σ = exp(η_6)."""
        return eta.at[5].set(jnp.exp(eta[5]))

    @property
    def start(self) -> Float[np.ndarray, " dim"]:
        """The mean output and its spread: from zero, t errors have no slope to follow."""
        return np.array([454.0, 0.0, 0.0, 0.0, 0.0, np.log(17.0)])


@register_problem(
    "power-plant-one-row", version=1, ranked=False, control=True, dataset="power_plant"
)
class PowerPlantOneRow(PowerPlant):
    """What the published power plant experiment computes: one observation for each density.

    Its likelihood is never summed, so that the "full" posterior conditions on the first
    row of the data and each subposterior on one row of its shard. The shards then hold
    eight observations and the posterior one: no merge can be exact, and the distances in
    the paper's Table 1 measure that. For reproducing the table only.

    The row that counts is the middle one. The data are turned so that of all rows it is
    the published first; of a shard it is any row, as the first of a shuffled shard is.

    Attributes:
        num_shards: S.
    """

    num_shards: int = 8

    @property
    def start(self) -> Float[np.ndarray, " dim"]:
        """The prior's mean, where the published chains start."""
        return np.array([0.0, 0.0, 0.0, 0.0, 0.0, np.log(10.0)])

    def data(self, key: PRNGKeyArray) -> dict[str, Float[np.ndarray, " n ..."]]:
        """The published data set, its first row in the middle; ``key`` is not used."""
        return {name: np.roll(a, _NUM_HOURS // 2, axis=0) for name, a in super().data(key).items()}

    def split(self, data: Data, scheme: str, key: PRNGKeyArray) -> Split:
        """Of every shard's rows the middle one alone; the others are nobody's."""
        return _middle(super().split(data, scheme, key))

    def whole(self, data: Data) -> Split:
        """The published first row alone."""
        return _middle(super().whole(data))


def _middle(split: Split) -> Split:
    kept = np.full_like(split.shard_of, -1)
    for shard in range(split.num_shards):
        rows = split.rows(shard)
        kept[rows[len(rows) // 2]] = shard
    return split._replace(shard_of=kept)
