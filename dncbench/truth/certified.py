"""Certified references: draws of the full posterior, and why they can be trusted.

A certificate is a list of checks, each with a limit or only told, whatever made the draws:

- A problem that knows its posterior (an enumeration, a closed form) brings draws and checks
  of its own; nothing is sampled.
- A posterior with exact draws has them held against NUTS on the model, the second opinion,
  which has to find the same posterior. Both of these have grade A.
- For any other posterior two samplers that share no algorithm must agree. NUTS gives the
  draws, its chains dealt over all modes that are found from dispersed points; tempered
  sequential Monte Carlo gives the second opinion. It starts from a base that covers the prior
  and takes nothing from NUTS; its own two runs must agree on the evidence. Such a reference
  has grade B.

A reference that fails any check has grade C. Exchangeable labels are compared sorted.

The draws are shuffled before they are cut into blocks. Stretches of chains in order would be
correlated, or, where chains are antithetic, have means closer to one another than those of
independent samples are; random subsets of the pool have neither.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray, Shaped

from dncbench.budget import Budget
from dncbench.draws import Check, Truth, evenly
from dncbench.errors import ContractError
from dncbench.posterior import Posterior
from dncbench.problem import Data, Problem
from dncbench.storage.cache import Cache, fingerprint
from dncbench.truth.two_samplers import certify, certify_exact, settings_for
from dncbench.truth.verification import CHECKED_POINTS, TOLERANCE, log_densities_at

VERSION = 4
"""Raised when the meaning of a reference changes; cached ones of another version are not used."""


@dataclass(frozen=True)
class Reference:
    """Draws of the full posterior with their certificate.

    Attributes:
        blocks: (B, N, ...) draws in the problem's space; a random partition into B sets of N.
        embedded: (B, N, p) the points that they stand for: natural parameters θ, for
            continuous ones.
        ess: how many independent draws one block is worth (:func:`block_ess`).
        certificate: ``grade``, ``checks``, and the sentences of those that failed; plain
            JSON values.
        log_probs: (K,) exact log probabilities of all objects of a finite support, or None.
    """

    blocks: Shaped[np.ndarray, "B N ..."]
    embedded: Float[np.ndarray, "B N p"]
    ess: float
    certificate: dict[str, Any]
    log_probs: Float[np.ndarray, " K"] | None = None

    @property
    def checks(self) -> list[Check]:
        """The lines of the certificate."""
        return [
            Check(**check | {"value": float(check["value"])})
            for check in self.certificate["checks"]
        ]

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the draws: what was computed of them is of these and no others."""
        law = {} if self.log_probs is None else {"log_probs": self.log_probs}
        return fingerprint({"blocks": self.blocks} | law)

    def fresh(self, split: int) -> int:
        """The block that the oracle scores in a split; the splits take them in turn."""
        return 1 + split % (len(self.blocks) - 1)


def reference(
    problem: Problem,
    identity: dict[str, Any],
    data: Data,
    key: PRNGKeyArray,
    budget: Budget,
    cache: Cache,
    say: Callable[[str], None] = lambda message: None,
) -> Reference:
    """The reference of a problem under a budget, from the cache or made and certified now.

    Args:
        problem: the model.
        identity: what determines the problem (id, settings, data checksum, seed).
        data: as loaded.
        key: derived from (seed, problem).
        budget: how many draws.
        cache: where it is kept.
        say: told what is being done.

    Raises:
        ContractError: the problem neither knows its truth nor can it be sampled.
    """
    kept = recall(problem, identity, data, budget, cache)
    if kept is not None:
        return kept
    wanted = budget.reference_blocks * budget.num_draws
    truth = problem.truth(data, jax.random.fold_in(key, 1), wanted)
    if truth is None:
        truth = _sampled(problem, identity["id"], data, key, budget, say)
    else:
        truth = _checked(problem, identity["id"], truth, wanted)
    failures = [check.sentence() for check in truth.checks if check.failed]
    certificate = {
        "grade": "C" if failures else truth.grade,
        "failures": failures,
        "checks": [_plain(check) for check in truth.checks],
    }
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, 2), len(truth.pool)))
    pool = np.asarray(truth.pool)[order]
    arrays = {"pool": pool} | _anchors(problem, data, pool)
    if truth.log_probs is not None:
        arrays["log_probs"] = np.asarray(truth.log_probs, np.float64)
    # Draws whose worth cannot be told, of a coordinate that stands still, count as one.
    independent = float(truth.independent) if np.isfinite(truth.independent) else 1.0
    info = {"certificate": certificate, "independent": independent, "arrays": sorted(arrays)}
    cache.put("references", _cache_key(identity, budget), arrays, info)
    return _in_blocks(problem, budget, arrays, info)


def _plain(check: Check) -> dict[str, Any]:
    """A check as JSON, which has no number for what is none: "nan", "inf"."""
    finite = np.isfinite(check.value)
    return check._asdict() | ({} if finite else {"value": str(float(check.value))})


def _sampled(
    problem: Problem,
    name: str,
    data: Data,
    key: PRNGKeyArray,
    budget: Budget,
    say: Callable[[str], None],
) -> Truth:
    if not isinstance(problem, Posterior):
        raise ContractError(
            f"{name}: truth() gave None, and only a dncbench.Posterior can be sampled by the "
            "harness; give the truth as a dncbench.draws.Truth"
        )
    wanted = budget.reference_blocks * budget.num_draws
    exact = problem.exact_draws(data.train, jax.random.fold_in(key, 1), wanted)
    if exact is not None:
        return certify_exact(problem, data, key, budget, np.asarray(exact, np.float64), say)
    if problem.permutations is not None:
        # The second sampler does not sort labels; nothing could disagree with NUTS.
        raise ContractError(f"{name}: a problem with permutations must give exact_draws as well")
    return certify(problem, data, key, budget, say)


def _checked(problem: Problem, name: str, truth: Truth, wanted: int) -> Truth:
    """A problem's own truth, held to what a certificate is."""
    if not truth.checks:
        raise ContractError(f"{name}: its truth has no checks; say what makes it trustworthy")
    pool = problem.space.check(np.asarray(truth.pool)[:wanted], wanted, f"{name}.truth()")
    if truth.log_probs is None:
        return truth._replace(pool=pool)
    total = float(np.sum(np.exp(np.asarray(truth.log_probs, np.float64))))
    adds_up = Check("probabilities: |sum - 1|", abs(total - 1.0), 1e-9)
    return truth._replace(pool=pool, checks=(*truth.checks, adds_up))


def recall(
    problem: Problem, identity: dict[str, Any], data: Data, budget: Budget, cache: Cache
) -> Reference | None:
    """The reference that an earlier run left in the cache, or None; nothing is sampled.

    It is held against the model: log densities of some of its draws are computed again, and
    where they differ from what they were, the model or the draws are not what they were either.

    Args:
        problem, identity, data, budget, cache: as for :func:`reference`.
    """

    read: list[Reference] = []

    def check(arrays: dict[str, np.ndarray], info: Any) -> None:
        if sorted(arrays) != info["arrays"]:
            raise ValueError(f"it holds {sorted(arrays)}, not {info['arrays']}")
        for name, now in _anchors(problem, data, arrays["pool"]).items():
            gap = np.abs(arrays[name] - now) / np.maximum(1.0, np.abs(now))
            if not np.max(gap) <= TOLERANCE:
                raise ValueError(
                    f"its draws had other log densities when they were made: they differ by "
                    f"{np.max(gap):.1e} from those of the present model"
                )
        read.append(_in_blocks(problem, budget, arrays, info))

    cache.get("references", _cache_key(identity, budget), check)
    return read[0] if read else None


def _anchors(problem: Problem, data: Data, pool: np.ndarray) -> dict[str, np.ndarray]:
    """Log densities of evenly spread draws; none where the problem has no density."""
    density = problem.density(data, problem.whole(data), "full", problem.space)
    if density is None:
        return {}
    rows = evenly(len(pool), min(CHECKED_POINTS, len(pool)))
    return {"log_density": log_densities_at(density, pool[rows])}


def _cache_key(identity: dict[str, Any], budget: Budget) -> dict[str, Any]:
    return {
        "version": VERSION,
        "problem": identity,
        "blocks": budget.reference_blocks,
        "num_draws": budget.num_draws,
        "sampler": vars(settings_for(budget)),
    }


def _in_blocks(
    problem: Problem, budget: Budget, arrays: dict[str, np.ndarray], info: dict[str, Any]
) -> Reference:
    shape = (budget.reference_blocks, budget.num_draws)
    num_draws = shape[0] * shape[1]
    pool = problem.space.check(arrays["pool"], num_draws, "an earlier run")
    embedded = problem.space.embed(pool)
    ess = block_ess(info["independent"], *shape)
    certificate = info["certificate"]
    for check in certificate["checks"]:
        Check(**check)
    return Reference(
        pool.reshape(*shape, *pool.shape[1:]),
        embedded.reshape(*shape, -1),
        ess,
        {name: certificate[name] for name in ("grade", "failures", "checks")},
        arrays.get("log_probs"),
    )


def block_ess(independent: float, num_blocks: int, num_draws: int) -> float:
    """How many independent draws a random subset of a pool is worth.

    The mean of N of the B N draws of a pool that is worth E differs from the pool's mean by a
    variance of σ²/N (1 - 1/B), as in sampling without replacement, and that from the truth by
    σ²/E; the sum is σ² over what the subset is worth. At most N: what antithetic chains are
    worth beyond that holds for means alone.

    Args:
        independent: E.
        num_blocks: B.
        num_draws: N.
    """
    pool = num_blocks * num_draws
    worth = num_draws * independent * num_blocks / (independent * (num_blocks - 1) + pool)
    return float(min(num_draws, worth))
