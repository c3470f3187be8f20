"""Whatever ships keeps its figures, or raises its version.

``figures_by_version.json`` holds, for every id (a name with its version), what it gave on small
fixed inputs. Records of the same id are compared with one another across commits, so that a
change of figures without another version would be a stale figure that nobody sees.

After a version was raised, or something was added, ``python tests/test_versions.py`` writes the
figures of the new ids; those of an id that is there already it never changes.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import entr, ndtri
from scipy.stats import gamma

from dncbench import registry
from dncbench.configure import configure, parse
from dncbench.contracts.real_data import real_data_folder
from dncbench.contracts.test_laws import LogGamma, shards_of
from dncbench.contracts.test_method_contract import FEW_ASKED, FEW_GIVEN
from dncbench.contracts.test_metric_contract import as_sample, figure_of
from dncbench.draws import one
from dncbench.entry import Entry, Kind
from dncbench.merging.run import run_method
from dncbench.method import Method, Shard
from dncbench.posterior import Posterior, full_posterior
from dncbench.precision import derive_key
from dncbench.problem import load_data
from dncbench.problems.discrete._enumerated import Enumerated, LogRewards
from dncbench.space import Real

KEPT = Path(__file__).parent / "figures_by_version.json"
KINDS: tuple[Kind, ...] = ("problem", "method", "correction", "metric")
NUM_SHARDS, DIM = 4, 2  # the shapes of the contracts of methods: programs are compiled once
CORRECTED = "parametric"

CLOSED = 1e-6
"""Relative tolerance of closed forms: JAX and NumPy of another version add in another order."""

SAMPLED = 2e-3
"""That of merges which are trained or sampled. Small settings mark them.

Rounding grows along a training or a chain: where the input moves by a part in 1e13, gp's figures
move by 2e-5, the others' by less than 3e-9; but networks are trained in single precision,
which another processor rounds by 1e-7.
"""


# ---------------------------------------------------------------- fixed inputs


def uniform(num: int, dim: int, shift: float = 0.0) -> np.ndarray:
    """Points that fill the unit cube evenly (Weyl), the same in every version of everything."""
    primes = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29])
    slopes = np.sqrt(primes[np.arange(dim) % 10] + (np.arange(dim) // 10) / 10)
    return np.modf(0.5 + shift + np.arange(1, num + 1)[:, None] * slopes)[0]


@functools.cache
def skewed_shards() -> Shard:
    """Log-gamma shards, with everything that a method may ask for."""
    shape = np.array([[4.0, 6.0], [5.0, 3.0], [6.0, 5.0], [3.0, 4.0]])
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    draw = lambda power, s: (  # noqa: E731
        np.log(gamma.ppf(uniform(FEW_GIVEN, DIM, 0.1 * s), power * shape[s]) / power) @ turn.T
    )
    values, inflated = (
        np.stack([draw(power, s) for s in range(NUM_SHARDS)]) for power in (1.0, NUM_SHARDS)
    )
    density = LogGamma(
        jnp.asarray(shape), jnp.ones((NUM_SHARDS, DIM)), jnp.asarray(np.stack([turn] * NUM_SHARDS))
    )
    return shards_of(density, values, inflated)


# ---------------------------------------------------------------- figures


def specs_of(entry: Entry) -> list[str]:
    """The variants of a method; of anything else there is one."""
    if entry.kind == "correction":
        return [f"{CORRECTED} + {entry.name}"]
    return entry.specs if entry.kind == "method" else [entry.name]


def figures_of(entry: Entry, spec: str) -> list[float]:
    """What a variant of an entry gives."""
    if entry.kind == "metric":
        return metric_figures(entry.name)
    if entry.kind == "problem":
        return problem_figures(entry)
    small = parse(f"_[{entry.small}]")[1] if entry.small else {}
    return method_figures(configure("method", spec, **small)[1])


def metric_figures(name: str) -> list[float]:
    """Value and standard error on two pairs of unlike samples."""
    found = []
    for dim in (1, 3):
        approximation = as_sample(0.3 + 0.8 * ndtri(uniform(1500, dim)), 900.0)
        reference = as_sample(np.log(-np.log1p(-uniform(1500, dim, 0.3))))
        found += [*figure_of(registry.get("metric", name), approximation, reference)]
    return found


def method_figures(method: Method) -> list[float]:
    """Moments of what it makes of the skewed shards; of objects, of the law that it says."""
    if method.spaces == {"codes"}:
        return law_figures(method)
    given = skewed_shards()
    if "reference" in method.needs:  # the truth is handed to it
        given = Shard(values=given.values[:1], ess=given.ess[:1])
    space = Real(("a", "b"), "given")
    draws = run_method(method, "it", given, jax.random.key(5), FEW_ASKED, space).draws
    centred = draws - draws.mean(0)
    spread = centred.std(0)
    skewness = np.mean((centred / spread) ** 3, axis=0)
    return [*draws.mean(0), *spread, *(2.0 + skewness), np.prod(centred, axis=1).mean()]


def law_figures(method: Method) -> list[float]:
    """Entropy, collision probability and two moments of the law of short sequences."""
    problem = configure("problem", "sequences[num_symbols=3,length=3]")[1]
    size = problem.graph.num_objects
    rewards = 3.0 * (uniform(NUM_SHARDS, size) - 0.5)
    levels = uniform(FEW_GIVEN, NUM_SHARDS).T
    laws = np.exp(rewards) / np.exp(rewards).sum(1, keepdims=True)
    values = [np.searchsorted(p.cumsum(), u) for p, u in zip(laws, levels, strict=True)]
    given = Shard(
        values=jnp.minimum(jnp.asarray(np.stack(values)), size - 1),
        density=LogRewards(jnp.asarray(rewards)),
        problem=problem,
        num_shards=NUM_SHARDS,
        ess=jnp.full(NUM_SHARDS, float(FEW_GIVEN)),
    )
    found = run_method(method, "it", given, jax.random.key(5), FEW_ASKED, problem.space)
    probs, place = np.bincount(found.draws, minlength=size) / FEW_ASKED, np.linspace(0, 1, size)
    if found.log_probs is not None:
        probs = np.exp(found.log_probs)
    return [np.sum(entr(probs)), probs @ probs, probs @ place, probs @ place**2]


def problem_figures(entry: Entry) -> list[float]:
    """Moments of its data, log densities and scores at three points, moments of exact draws."""
    problem = configure("problem", entry.small_spec)[1]
    data = load_data(problem, derive_key(0, entry.name, "data"))
    found = [float(problem.num_shards)]
    if isinstance(problem, Enumerated):
        log_probs = problem.truth(data, jax.random.key(6), 4).log_probs
        place = np.linspace(0, 1, len(log_probs))
        found += [-(np.exp(log_probs) @ log_probs), np.exp(log_probs) @ place]
    for leaf in jax.tree.leaves((data.train, data.held_out)):
        flat = np.asarray(leaf, np.float64).ravel()
        found += [
            flat.mean(),
            np.sqrt(np.mean(flat**2)),
            np.mean(flat * np.linspace(0, 1, len(flat))),
        ]
    if isinstance(problem, Posterior):
        density = one(full_posterior(problem, data))
        points = problem.start + 0.1 * ndtri(uniform(3, problem.dim))
        values, scores = jax.jit(jax.vmap(jax.value_and_grad(density)))(jnp.asarray(points))
        found += [*np.asarray(values), *np.sqrt(np.mean(np.asarray(scores) ** 2, axis=1))]
        found += [*np.asarray(scores)[:, 0], *np.asarray(scores)[:, -1]]
        exact = problem.exact_draws(data.train, jax.random.key(6), 500)
        if exact is not None:
            found += [*np.mean(exact, axis=0), *np.std(exact, axis=0)]
    return found


# ---------------------------------------------------------------- what is kept


def shipped() -> Iterator[Entry]:
    """Everything that is registered by dncbench itself."""
    for kind in KINDS:
        yield from (e for e in registry.entries(kind) if e.module.startswith("dncbench."))


def differences(entry: Entry, kept: dict[str, list[float]], found: dict[str, list[float]]) -> str:
    """Where the figures are others than those that were kept; "" where they are the same."""
    tolerance = SAMPLED if entry.small and entry.kind == "method" else CLOSED
    if kept.keys() != found.keys():
        return f"variants {sorted(found)}, kept were {sorted(kept)}"
    for spec, values in found.items():
        old, new = np.array(kept[spec]), np.array(values)
        if old.shape != new.shape:
            return f"{spec} gives {len(new)} figures, kept were {len(old)}"
        # A figure that is nearly zero beside the others is held to a hundredth of the largest.
        scale = np.maximum(np.abs(old), 0.01 * np.abs(old).max())
        apart = np.abs(new - old) / scale
        if not apart.max() <= tolerance:
            place = int(np.argmax(apart))
            return f"{spec}: figure {place} is {new[place]:.9g}, kept was {old[place]:.9g}"
    return ""


def complaint(entry: Entry, why: str) -> str:
    """What to do about it."""
    return (
        f"figures of {entry.kind} {entry.id} changed ({why}): raise its version and tell the "
        "CHANGELOG, then run `python tests/test_versions.py` to write the new id's figures"
    )


def kept_figures() -> dict[str, dict[str, dict[str, list[float]]]]:
    """By kind, id and variant."""
    return json.loads(KEPT.read_text(encoding="utf-8"))


def renew() -> str:
    """Write figures of the ids that have none, and drop those of ids that are gone."""
    kept, made, added = kept_figures() if KEPT.exists() else {}, {}, []
    for entry in shipped():
        own = kept.get(entry.kind, {}).get(entry.id)
        if own is None:
            own = {
                spec: [float(f"{value:.10g}") for value in values]
                for spec, values in ((spec, figures_of(entry, spec)) for spec in specs_of(entry))
            }
            added.append(entry.id)
        made.setdefault(entry.kind, {})[entry.id] = own
    KEPT.write_text(_lines(made), encoding="utf-8")
    return f"added: {', '.join(added) or 'nothing'}"


def _lines(made: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """JSON with one line for each id."""
    kinds = []
    for kind, entries in made.items():
        lines = [f"  {json.dumps(id)}: {json.dumps(variants)}" for id, variants in entries.items()]
        kinds.append(f" {json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(kinds) + "\n}\n"


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("entry", "spec"),
    [(entry, spec) for entry in shipped() for spec in specs_of(entry)],
    ids=lambda one: one if isinstance(one, str) else f"{one.kind}-{one.id}",
)
def test_figures_are_those_of_the_version(entry: Entry, spec: str) -> None:
    kept = kept_figures().get(entry.kind, {}).get(entry.id, {})
    assert spec in kept, f"{entry.kind} {spec} has no figures; run `python tests/test_versions.py`"
    if entry.dataset:
        real_data_folder(entry.dataset)
    why = differences(entry, {spec: kept[spec]}, {spec: figures_of(entry, spec)})
    assert not why, complaint(entry, why)


def test_no_figures_are_kept_of_what_is_gone() -> None:
    known = {(e.kind, e.id, spec) for e in shipped() for spec in specs_of(e)}
    kept = {
        (kind, id, spec)
        for kind, entries in kept_figures().items()
        for id, variants in entries.items()
        for spec in variants
    }
    assert kept == known, "run `python tests/test_versions.py`"


@pytest.mark.parametrize("factor", [1.01, 0.99, np.nan])
def test_a_change_of_one_per_cent_is_seen(factor: float) -> None:
    for entry in shipped():
        for spec, values in kept_figures()[entry.kind][entry.id].items():
            assert not differences(entry, {spec: values}, {spec: values})
            for place in np.flatnonzero(np.abs(values) >= 0.01 * np.abs(values).max()):
                changed = [v * (factor if i == place else 1.0) for i, v in enumerate(values)]
                told = differences(entry, {spec: values}, {spec: changed})
                assert f"{spec}: figure {place} is" in told


def test_a_complaint_says_what_to_do() -> None:
    entry = registry.get("metric", "mah")
    said = complaint(entry, differences(entry, {"mah": [1.0]}, {"mah": [2.0]}))
    assert "figures of metric mah@1 changed (mah: figure 0 is 2, kept was 1)" in said
    assert "raise its version" in said


if __name__ == "__main__":
    print(renew())
