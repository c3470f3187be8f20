"""One metric's failure costs neither the others nor the cell."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench import registry
from dncbench.configure import configure
from dncbench.metrics.sample import Figure
from dncbench.posterior import Posterior
from dncbench.precision import derive_key
from dncbench.problem import Data, load_data
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


# ---------------------------------------------------------------- laws on objects

LAWS = ["kl-forward@1", "kl-reverse@1", "jeffreys@1"]
OBJECTS = ["tv@1", "l1@1", "jsd@1", "marginal-tv@1", "top-log-prob@1", "modes-missed@1"]


def multisets(folder: Any) -> tuple[Scorer, np.ndarray]:
    """The scorer of metrics of laws on a few multisets, and the law."""
    problem = configure("problem", "multisets[num_items=4,size=3]")[1]
    data = load_data(problem, derive_key(0, "multisets", "data"))
    found = problem.truth(data, jax.random.key(1), 3 * NUM_DRAWS)
    blocks = found.pool.reshape(3, NUM_DRAWS)
    embedded = np.stack([problem.space.embed(block) for block in blocks])
    grade = {"grade": "A", "checks": []}
    reference = Reference(blocks, embedded, float(NUM_DRAWS), grade, found.log_probs)
    scored = [*LAWS, *OBJECTS]
    key, cache = {"id": "multisets@1"}, Cache(folder)
    return Scorer(problem, data, reference, key, problem.space, cache, scored), found.log_probs


def test_exact_laws_are_read_exactly_and_draws_by_their_shares(tmp_path) -> None:
    made, log_probs = multisets(tmp_path)
    codes = np.random.default_rng(3).choice(len(log_probs), NUM_DRAWS, p=np.exp(log_probs))
    drawn = made.score(codes, 300.0, "draws")
    assert drawn["metrics"].keys() == {*OBJECTS}
    assert sorted(drawn["metrics_not_applicable"]) == sorted(LAWS)
    perfect = made.score(codes, 300.0, "perfect", log_probs=log_probs)
    assert perfect["metrics"].keys() == {*LAWS, *OBJECTS}
    assert {figure["value"] for figure in perfect["metrics"].values()} == {0.0}
    # What perfect laws read, and what perfect draws do.
    assert all(made.floors[each]["max"] == 0.0 for each in LAWS)
    for each in ("tv@1", "l1@1", "jsd@1", "marginal-tv@1"):
        assert made.floors[each]["mean"] > 0.0
        assert drawn["metrics"][each]["value"] > 0.0


def test_an_infinite_relative_entropy_is_a_reason_for_no_figure(tmp_path) -> None:
    made, log_probs = multisets(tmp_path)
    narrow = np.where(np.arange(len(log_probs)) < 2, -np.inf, log_probs)
    narrow -= np.log(np.exp(narrow).sum())
    found = made.score(np.full(NUM_DRAWS, 5), 300.0, "narrow", log_probs=narrow)
    assert found["metrics"].keys() == {"kl-reverse@1", *OBJECTS}
    assert found["metrics_failed"].keys() == {"kl-forward@1", "jeffreys@1"}
    assert "infinite: the merge rules out 2 objects" in found["metrics_failed"]["jeffreys@1"]


def test_points_have_no_metrics_of_objects(tmp_path, monkeypatch) -> None:
    names = [each.removesuffix("@1") for each in (*LAWS, *OBJECTS)]

    def called(*samples: Any) -> Any:
        pytest.fail("a metric of objects was asked to read points")

    get = registry.get
    monkeypatch.setattr(
        registry, "get", lambda kind, name: dataclasses.replace(get(kind, name), target=called)
    )
    made = scorer(tmp_path, names, [])
    found = made.score(merged(), 300.0, "method")
    assert made.floors == found["metrics"] == {}
    assert sorted(found["metrics_not_applicable"]) == sorted([*LAWS, *OBJECTS])
