"""Log densities, scores and values are held against the draws: what is wrong is told, and how.

What is right, of any shape, stays silent: a warning that cries wolf is read by nobody.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import dncbench
import dncbench.methods.consensus
from dncbench.merging.log_densities import complaint
from dncbench.merging.suspicions import warnings_about
from dncbench.merging.whitening import whitened
from dncbench.method import Shard
from dncbench.methods.consensus import Consensus

# ---------------------------------------------------------------- densities of every shape


def gaussian(rng, size):
    x = rng.standard_normal(size)
    return x, -0.5 * (x**2).sum(1), -x


def student(rng, size):
    """Each coordinate Student t with 3 degrees of freedom: no fourth moment."""
    x = rng.standard_t(3, size)
    return x, -2 * np.log1p(x**2 / 3).sum(1), -4 * x / (3 + x**2)


def joint_student(rng, size):
    """The elliptical one: one scale for all coordinates."""
    x = rng.standard_normal(size) / np.sqrt(rng.chisquare(3, size[0]) / 3)[:, None]
    square = (x**2).sum(1)
    rate = (3 + size[1]) / 2
    return x, -rate * np.log1p(square / 3), -2 * rate * x / (3 + square)[:, None]


def log_gamma(rng, size):
    x = np.log(rng.gamma(0.5, size=size))
    return x, (0.5 * x - np.exp(x)).sum(1), 0.5 - np.exp(x)


def gamma(rng, size):
    """In its own space, where scores have no variance."""
    x = rng.gamma(2.0, size=size)
    return x, (np.log(x) - x).sum(1), 1 / x - 1


def exponential(rng, size):
    """Ends at a wall."""
    x = rng.exponential(size=size)
    return x, -x.sum(1), np.full(size, -1.0)


def quartic(rng, size):
    """exp(-x⁴), nearly uniform."""
    x = rng.gamma(0.25, size=size) ** 0.25 * rng.choice([-1.0, 1.0], size)
    return x, -(x**4).sum(1), -4 * x**3


def banana(rng, size):
    z = rng.standard_normal(size)
    x, score = z.copy(), -z
    if size[1] > 1:
        x[:, 1] = 0.5 * z[:, 1] + z[:, 0] ** 2
        score[:, 1] = -2 * z[:, 1]
        score[:, 0] += 4 * z[:, 1] * z[:, 0]
    return x, -0.5 * (z**2).sum(1), score


def two_modes(rng, size):
    """Eight standard deviations apart."""
    x = rng.standard_normal(size)
    x[:, 0] += rng.choice([-4.0, 4.0], size[0])
    near, far = -0.5 * (x[:, 0] - 4) ** 2, -0.5 * (x[:, 0] + 4) ** 2
    log_density = np.logaddexp(near, far)
    score = -x
    score[:, 0] += 4 * (np.exp(near - log_density) - np.exp(far - log_density))
    return x, log_density - 0.5 * (x[:, 1:] ** 2).sum(1), score


def laplace(rng, size):
    x = rng.laplace(size=size)
    return x, -np.abs(x).sum(1), -np.sign(x)


SHAPES = [
    gaussian,
    student,
    joint_student,
    log_gamma,
    gamma,
    exponential,
    quartic,
    banana,
    two_modes,
    laplace,
]


def found(draws, log_density, score=None):
    white = whitened(draws)
    assert white is not None
    return complaint(draws, white, log_density, score)


def about(num_draws: int = 2000, **parts: np.ndarray) -> list[str]:
    """What is said of one shard, but for its moments."""
    shards = Shard(
        **{name: jnp.asarray(part)[None] for name, part in parts.items()},
        ess=jnp.array([float(num_draws)]),
    )
    lines = warnings_about(Consensus(), shards)
    return [line for line in lines if "heavy tails" not in line and "far outside" not in line]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dim", [1, 2, 4, 10, 50])
def test_what_is_right_stays_silent(shape, dim: int) -> None:
    """Three sets of draws each; their limits leave 4.5 standard errors, or a third of a slope."""
    for seed, num_draws in enumerate([300, 1000, 10_000]):
        rng = np.random.default_rng(seed)
        values, log_density, score = shape(rng, (num_draws, dim))
        turn = rng.standard_normal((dim, dim)) / np.sqrt(dim) + np.eye(dim)
        turned, back = values @ turn + 3.0, score @ np.linalg.inv(turn).T
        if shape is exponential:  # a wall that stands aslant is not looked for
            turned, back = values, score
        assert about(num_draws, values=turned, log_density=log_density) == []
        assert about(num_draws, values=turned, log_density=log_density, score=back) == []


# ---------------------------------------------------------------- log densities

WRONG = {
    "order": (lambda rng, given: rng.permutation(given), "another order"),
    "three times": (lambda rng, given: 3 * given, "a factor is wrong"),
    "a third": (lambda rng, given: given / 3, "a factor is wrong"),
    "sign": (lambda rng, given: -given, "sign"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("with_score", [False, True])
@pytest.mark.parametrize("shape", [gaussian, student, joint_student, log_gamma, laplace])
def test_wrong_log_densities_are_told(shape, with_score: bool, wrong: str) -> None:
    change, word = WRONG[wrong]
    for dim in (1, 2, 4, 10, 50):
        for seed, num_draws in enumerate([300, 2000]):
            rng = np.random.default_rng(seed)
            values, log_density, score = shape(rng, (num_draws, dim))
            said = found(values, change(rng, log_density), score if with_score else None)
            assert said is not None, f"{dim} dimensions, {num_draws} draws"
            assert word in said


@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_show_what_the_draws_alone_do_not(shape, dim: int) -> None:
    values, log_density, score = shape(np.random.default_rng(0), (2000, dim))
    for factor in (0.6, 1.6):
        said = found(values, factor * log_density, score)
        assert said is not None
        assert "times as much as the scores say" in said
    mixed = log_density.copy()
    mixed[:500] = np.random.default_rng(1).permutation(mixed[:500])
    assert "another order" in found(values, mixed, score)


def test_a_chain_that_stays_where_it_is_repeats_right_log_densities() -> None:
    values, log_density, score = gaussian(np.random.default_rng(0), (400, 2))
    rows = np.repeat(np.arange(400), np.random.default_rng(1).geometric(0.3, 400))
    parts = {"values": values[rows], "log_density": log_density[rows], "score": score[rows]}
    assert about(400, **parts) == []


def test_the_shard_is_named() -> None:
    rng = np.random.default_rng(0)
    values, log_density, score = gaussian(rng, (2000, 2))
    stacked = {
        "values": np.stack([values] * 3),
        "log_density": np.stack([log_density, rng.permutation(log_density), log_density]),
        "score": np.stack([score] * 3),
    }
    shards = Shard(**{name: jnp.asarray(part) for name, part in stacked.items()})
    (line,) = warnings_about(Consensus(), shards)
    assert line.startswith("shard 1: the log densities do not belong to these draws")


# ---------------------------------------------------------------- scores


def correlated(num_draws: int, dim: int = 2, correlation: float = 0.9999):
    covariance = np.full((dim, dim), correlation) + (1 - correlation) * np.eye(dim)
    rng = np.random.default_rng(7)
    values = rng.standard_normal((num_draws, dim)) @ np.linalg.cholesky(covariance).T
    return 5.0 + values, -values @ np.linalg.inv(covariance)


@pytest.mark.parametrize("num_draws", [401, 1000, 10_000])
@pytest.mark.parametrize("dim", [2, 10])
def test_right_scores_of_correlated_draws_are_not_accused(num_draws: int, dim: int) -> None:
    values, score = correlated(num_draws, dim)
    assert about(num_draws, values=values, score=score) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g: -g,
        lambda g: 2 * g,
        lambda g: 0.4 * g,
        lambda g: g[:, ::-1],
        lambda g: np.random.default_rng(0).permutation(g),
        lambda g: g + g.std(0) * np.array([1.0, -1.0]),
    ],
    ids=["sign", "twice", "less than half", "columns", "rows", "of another mean"],
)
@pytest.mark.parametrize("correlation", [0.0, 0.9999])
def test_wrong_scores_of_correlated_draws_are(wrong, correlation: float) -> None:
    values, score = correlated(1000, correlation=correlation)
    (line,) = about(1000, values=values, score=wrong(score))
    assert line.startswith("shard 0, coordinate ")
    assert "the scores do not belong to these draws" in line


def test_the_standard_error_of_the_unwhitened_identity() -> None:
    """sqrt((1 + 1 / (1 - R²)) / T), as `_about_scores` says; over 400 sets within 5 of its errors.

    The standard deviation of 400 values that are nearly Gaussian has a relative error of
    1 / sqrt(800).
    """
    correlation, num_draws = 0.9, 500
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(np.array([[1.0, correlation], [correlation, 1.0]]))
    noise = rng.standard_normal((400, num_draws, 2))
    values, score = noise @ root.T, -noise @ np.linalg.inv(root)
    stein = np.mean(values[..., 0] * score[..., 0], axis=1)
    expected = np.sqrt((1 + 1 / (1 - correlation**2)) / num_draws)
    assert stein.std() == pytest.approx(expected, rel=5 / np.sqrt(800))


# ---------------------------------------------------------------- discrete coordinates


def with_column(column: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.column_stack([rng.standard_normal(len(column)), column])


@pytest.mark.parametrize(
    ("column", "number"),
    [
        (np.random.default_rng(1).random(2000) < 0.982, 2),
        (np.random.default_rng(1).integers(0, 3, 2000) / 7 - 1, 3),
        (np.random.default_rng(1).poisson(1000.0, 2000), None),
        (np.arange(2000) == 999, 2),
    ],
    ids=["indicator", "three values", "count", "once"],
)
def test_a_discrete_coordinate_is_named(column: np.ndarray, number: int | None) -> None:
    (line,) = about(values=with_column(column.astype(float)))
    assert line.startswith("shard 0, coordinate 1: only ")
    assert "distinct values that come back" in line
    assert number is None or f"only {number} distinct" in line


def test_all_coordinates_may_be_discrete() -> None:
    lines = about(values=np.random.default_rng(0).integers(0, 2, (500, 2)).astype(float))
    assert [line.split(":")[0] for line in lines] == [
        "shard 0, coordinate 0",
        "shard 0, coordinate 1",
    ]


@pytest.mark.parametrize(
    "rows",
    [
        np.repeat(np.arange(40), 50),
        np.random.default_rng(0).integers(0, 2000, 2000),
        np.random.default_rng(0).permutation(np.repeat(np.arange(500), 4)),
    ],
    ids=["sticky chain", "resampled", "sticky chain in another order"],
)
@pytest.mark.parametrize("rounded", [False, True])
def test_repeated_draws_are_not_discrete(rows: np.ndarray, rounded: bool) -> None:
    values = with_column(np.random.default_rng(2).standard_normal(2000))
    if rounded:  # whole numbers, but as distinct as the rows
        values = np.round(1e9 * values)
    assert about(values=values[rows]) == []


def test_coordinates_that_move_one_at_a_time_are_not_discrete() -> None:
    rng = np.random.default_rng(0)
    moved = [np.repeat(rng.standard_normal(40), 50), rng.standard_normal(2000)]
    assert about(values=np.column_stack(moved)) == []


def test_a_merge_names_the_discrete_coordinate() -> None:
    values = [
        {"mu": one[:, 0], "k": one[:, 1]}
        for one in np.split(with_column(np.random.default_rng(1).integers(0, 2, 400) * 1.0), 2)
    ]
    result = dncbench.merge(values, "consensus", num_draws=50)
    assert "coordinate 1 (k): only 2 distinct values" in result.info["warnings"][0]
