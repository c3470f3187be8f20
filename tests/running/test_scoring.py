"""One metric's failure costs neither the others nor the cell."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from dncbench import registry
from dncbench.metrics.sample import Figure
from dncbench.posterior import Posterior
from dncbench.problem import Data
from dncbench.registry import register_metric
from dncbench.running.scoring import Scorer
from dncbench.storage.cache import Cache
from dncbench.truth.certified import Reference

NUM_DRAWS = 300
SOUND = ["mah", "iad", "skew", "c2st"]


class Plane(Posterior):
    """Two parameters of a normal law."""

    num_shards: int = 2
    dim = 2

    def data(self, key):
        return {"y": jnp.zeros((4, 2))}

    def log_prior(self, theta):
        return -0.5 * theta @ theta

    def log_likelihood(self, theta, observation):
        return -0.5 * jnp.sum((observation["y"] - theta) ** 2)


def scorer(
    folder: Any,
    names: list[str],
    said: list[str],
    into: Any = None,
    problem: Posterior | None = None,
) -> Scorer:
    """The scorer of normal draws, or of draws that ``into`` maps somewhere else."""
    blocks = np.random.default_rng(1).standard_normal((3, NUM_DRAWS, 2))
    blocks = blocks if into is None else blocks @ into
    reference = Reference(blocks, blocks, float(NUM_DRAWS), {"grade": "A", "checks": []})
    problem, data = problem or Plane(), Data({"y": jnp.zeros((4, 2))})
    ids = {registry.get("metric", name).id for name in names}
    return Scorer(
        problem, data, reference, {"id": "plane@1"}, problem.space, Cache(folder), ids, said.append
    )


def merged() -> np.ndarray:
    return 0.5 + np.random.default_rng(2).standard_normal((NUM_DRAWS, 2))


def nan(approximation, reference):
    return Figure(np.nan, 0.1)


def huge(approximation, reference):
    return Figure(0.1, 1e160)


def negative(approximation, reference):
    return Figure(0.1, -1.0)


def raising(approximation, reference):
    raise RuntimeError("no luck\nat all")


def leaving(approximation, reference):
    raise SystemExit(0)


def writing(approximation, reference):
    approximation.values[:] = 0.0
    return Figure(0.0, 0.1)


def numberless(approximation, reference):
    return Figure([1.0, 2.0], 0.1)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (nan, "value: nan is not a number"),
        (huge, "standard_error: 1e+160 is not a number"),
        (negative, "standard_error: -1.0 is not a number"),
        (raising, "raised RuntimeError: no luck."),
        (leaving, "raised ExitError: it raised SystemExit(0)"),
        (writing, "raised ValueError: assignment destination is read-only"),
        (numberless, "raised TypeError"),
    ],
)
def test_a_metric_that_fails_on_a_merge_costs_itself(tmp_path, metric, reason: str) -> None:
    place = np.zeros(2)

    def sound_on_perfect_draws(approximation, reference):
        """Fails on merges that are not centred."""
        centre = approximation.values.mean(0)
        close = np.all(np.abs(centre - place) < 0.3)
        return Figure(float(np.abs(centre).sum()), 0.1) if close else metric(approximation, None)

    register_metric("mine")(sound_on_perfect_draws)
    plain = scorer(tmp_path, SOUND, []).score(merged(), 300.0, "method")
    said: list[str] = []
    mine = registry.get("metric", "mine").id
    found = scorer(tmp_path, [*SOUND, "mine"], said).score(merged(), 300.0, "method")
    assert found["metrics"] == plain["metrics"]
    assert found["metrics"].keys() == {f"{name}@1" for name in SOUND}
    assert found["metrics_failed"].keys() == {mine}
    assert reason in found["metrics_failed"][mine]
    (line,) = said
    assert line.startswith(f"metric {mine} of {__name__} is left out for method 'method': ")
    assert "metrics_failed" not in plain


@pytest.mark.usefixtures("clean_registry")
def test_a_metric_without_a_floor_is_no_figure_of_any_merge(tmp_path) -> None:
    def mine(approximation, reference):
        """Fails."""
        raise RuntimeError("no luck")

    register_metric("mine")(mine)
    said: list[str] = []
    made = scorer(tmp_path, [*SOUND, "mine"], said)
    name = registry.get("metric", "mine").id
    for method in ("one", "other"):
        found = made.score(merged(), 300.0, method)
        assert found["metrics"].keys() == {f"{name}@1" for name in SOUND}
        assert "on perfect draws: metric 'mine' raised" in found["metrics_failed"][name]
    assert len(said) == 1  # for the problem, not for every method


@pytest.mark.parametrize(
    ("moments", "names"),
    [
        (3, ["mah", "iad", "skew", "coverage", "iad-rank"]),
        (2, ["mah", "iad", "coverage", "iad-rank"]),
        (1, ["coverage", "iad-rank"]),
    ],
)
def test_figures_of_moments_that_do_not_exist_are_not_applicable(
    tmp_path, moments: float, names: list[str]
) -> None:
    class Heavy(Plane):
        """Of a posterior with few moments."""

        finite_moments = moments

    asked = ["mah", "iad", "skew", "coverage", "iad-rank"]
    made = scorer(tmp_path, asked, [], problem=Heavy())
    found = made.score(merged(), 300.0, "method")
    assert found["metrics"].keys() == made.floors.keys() == {f"{name}@1" for name in names}
    assert sorted(found["metrics_not_applicable"]) == sorted(
        f"{name}@1" for name in asked if name not in names
    )
    assert "metrics_failed" not in found


def test_a_posterior_in_a_plane_has_the_figures_that_need_no_covariance(tmp_path) -> None:
    flat = np.array([[1.0, 2.0], [0.0, 0.0]])
    made = scorer(tmp_path, SOUND, [], flat)
    found = made.score(merged() @ flat, 300.0, "method")
    assert found["metrics"].keys() == {"iad@1", "skew@1", "c2st@1"}
    assert "lie in a plane" in found["metrics_failed"]["mah@1"]
