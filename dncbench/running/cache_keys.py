"""What determines a problem's data and draws: random keys, and keys of the cache."""

import hashlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from dncbench.budget import Budget
from dncbench.precision import derive_key
from dncbench.problem import Data
from dncbench.sampling.settings import SamplerSettings

SAMPLING_VERSION = 3
"""Raised when the same settings give other subposterior draws, or they are kept in another way."""

MERGED_VERSION = 2
"""Raised when merged draws are kept in another way."""


def data_key(problem_name: str) -> Array:
    """The key that synthetic data are drawn from: the same for every run seed."""
    return derive_key(0, problem_name, "data")


def problem_key(problem_id: str, settings: dict[str, Any], data: Data, seed: int) -> dict[str, Any]:
    """What determines a problem's draws, for cache keys."""
    checksum = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        checksum.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        checksum.update(np.asarray(leaf).tobytes())
    return {"id": problem_id, "settings": settings, "data": checksum.hexdigest(), "seed": seed}


def shard_settings(budget: Budget) -> SamplerSettings:
    """How a subposterior is sampled under a budget."""
    return SamplerSettings(
        num_draws=budget.draws_per_shard,
        num_chains=budget.num_chains,
        min_ess=budget.shard_ess * budget.draws_per_shard,
        window_steps=budget.window_steps,
    )


def described_kind(kind: str, space: str) -> str:
    """Draws that are densities in θ are others: the Jacobian has another share in them."""
    return f"{kind}, natural" if space == "natural" else kind


def draws_key(
    problem: dict[str, Any], split: str, described: str, settings: SamplerSettings
) -> dict[str, Any]:
    """What determines the draws of a split's subposteriors, for the cache."""
    return {
        "version": SAMPLING_VERSION,
        "problem": problem,
        "split": split,
        "kind": described,
        "sampler": vars(settings),
    }


def merged_key(record: dict[str, Any]) -> dict[str, Any]:
    """What determines the merged draws of a record, for the cache."""
    return {"version": MERGED_VERSION} | {
        name: record[name] for name in ("identity", "settings", "budget")
    }
