"""Spambase: logistic regression on 4601 e-mails, and a synthetic twin of it."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import DataError
from dncbench.problems._datasets import Dataset
from dncbench.problems._logistic import LogisticRegression, with_intercept
from dncbench.registry import register_problem

_NUM_EMAILS = 4601
_NUM_SPAM = 1813

_WORDS = """make address all 3d our over remove internet order mail receive will people report
addresses free business email you credit your font 000 money hp hpl george 650 lab labs telnet 857
data 415 85 technology 1999 parts pm direct cs meeting original project re edu table
conference""".split()  # noqa: SIM905
_CHARACTERS = ("semicolon", "parenthesis", "bracket", "exclamation", "dollar", "hash")
_RUNS = ("average", "longest", "total")
_COLUMNS = (
    *(f"word_freq_{word}" for word in _WORDS),
    *(f"char_freq_{character}" for character in _CHARACTERS),
    *(f"capital_run_length_{run}" for run in _RUNS),
)

_SPAMBASE = Dataset(
    name="spambase",
    file="spambase.data",
    url="https://archive.ics.uci.edu/static/public/94/spambase.zip",
    file_sha256="b1ef93de71f97714d3d7d4f58fc9f718da7bbc8ac8a150eff2778616a8097b12",
    shape=(_NUM_EMAILS, len(_COLUMNS) + 1),
    array_sha256="706f0f74d9834f661de15274da6727d81955b258cdd7c50a4d80d15f15e5e5b4",
    parse=lambda path: np.loadtxt(path, delimiter=","),
    stand_in="spambase-twin",
)


class _FourShards(LogisticRegression):
    """What the data set and its twin share."""

    num_shards: int = 4
    prior_variance: float = 5.0

    columns: ClassVar = _COLUMNS


@register_problem("spambase", version=1, dataset="spambase", shape="glm")
class Spambase(_FourShards):
    """Spam or not, from 57 word, character and capital-run frequencies: d = 58, 4 shards.

    All 4601 e-mails are used and no column is rescaled; prior N(0, 5) on every
    coefficient: Trojan et al. (2024), section 5.4. Posterior standard deviations
    span 2e-4 to 1.6, and the subposteriors overlap poorly.

    Attributes:
        num_shards: S.
        prior_variance: of each coefficient.
    """

    cites: ClassVar = ("trojan2024", "hopkins1999")
    source: ClassVar = (
        "Hopkins, Reeber, Forman & Suermondt (1999), Spambase, UCI Machine Learning Repository, "
        "doi:10.24432/C53G6X, CC BY 4.0"
    )

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, " n ..."]]:
        """The published data set; ``key`` is not used.

        Raises:
            DataError: see :mod:`dncbench.problems._datasets`.
        """
        table = _SPAMBASE.load()
        spam = int(table[:, -1].sum())
        if spam != _NUM_SPAM:
            raise DataError(f"spambase: {spam} e-mails labelled spam, expected {_NUM_SPAM}")
        return {"x": with_intercept(jnp.asarray(table[:, :-1])), "y": jnp.asarray(table[:, -1])}


@register_problem("spambase-twin", version=1, shape="glm")
class SpambaseTwin(_FourShards):
    """Synthetic data of spambase's shape with known parameters; needs no download.

    Columns are zero-inflated log-normals: 54 frequencies, zero in 50 to 97 e-mails
    of a hundred, and 3 heavy-tailed run lengths that are never zero. Coefficients
    are drawn once, scaled so that a column's typical non-zero value moves the logit
    by about one; the intercept gives spambase's positive rate, 1813 in 4601.

    Attributes:
        num_shards: S.
        prior_variance: of each coefficient.
    """

    source: ClassVar = "simulated from a fixed key, after the shape of UCI's spambase"

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, " n ..."]]:
        """Simulate covariates and labels from ``key``."""
        key_x, key_theta, key_y = jax.random.split(key, 3)
        x = with_intercept(_frequencies(key_x))
        logit = x @ self.known_parameters(key_theta, x)
        y = jax.random.bernoulli(key_y, jax.nn.sigmoid(logit)).astype(float)
        return {"x": x, "y": y}

    def known_parameters(self, key: PRNGKeyArray, x: Float[Array, "n dim"]) -> Float[Array, " dim"]:
        """The parameters that the labels of covariates ``x`` are drawn with."""
        frequencies = x[:, 1:]
        typical = jnp.sum(frequencies, 0) / jnp.maximum(jnp.sum(frequencies > 0, 0), 1)
        slopes = jax.random.normal(key, (len(_COLUMNS),)) / typical
        logit = frequencies @ slopes
        rate = _NUM_SPAM / _NUM_EMAILS

        def halve(_: Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = 0.5 * (low + high)
            too_low = jnp.mean(jax.nn.sigmoid(middle + logit)) < rate
            return jnp.where(too_low, middle, low), jnp.where(too_low, high, middle)

        low, high = jax.lax.fori_loop(0, 60, halve, (jnp.array(-50.0), jnp.array(50.0)))
        return jnp.concatenate([jnp.array([0.5 * (low + high)]), slopes])


def _frequencies(key: PRNGKeyArray) -> Float[Array, "n 57"]:
    key_zero, key_scale, key_present, key_value = jax.random.split(key, 4)
    num_frequencies = len(_COLUMNS) - len(_RUNS)
    zero_rate = jax.random.uniform(key_zero, (num_frequencies,), minval=0.5, maxval=0.97)
    location = jnp.concatenate(
        [
            jnp.log(jax.random.uniform(key_scale, (num_frequencies,), minval=0.1, maxval=1.0)),
            jnp.log(jnp.array([2.5, 15.0, 100.0])),  # spambase's median run lengths
        ]
    )
    zero_rate = jnp.concatenate([zero_rate, jnp.zeros(len(_RUNS))])
    shape = (_NUM_EMAILS, len(_COLUMNS))
    present = jax.random.uniform(key_present, shape) >= zero_rate[None, :]
    return present * jnp.exp(location[None, :] + jax.random.normal(key_value, shape))
