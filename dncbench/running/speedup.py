"""What the split saves: seconds for an effective draw, full data against one shard.

The harness samples all shards as one program, which is fast on one machine but says
nothing about a cluster, where a shard has a machine of its own. Here every shard is
sampled alone, on the machine that also samples the full posterior, by the same sampler
under the same settings. Adaptation counts: whoever samples pays for it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dncbench.budget import get as get_budget
from dncbench.configure import configure
from dncbench.draws import alone
from dncbench.errors import NotApplicableError
from dncbench.posterior import Density, Posterior, full_posterior, subposteriors
from dncbench.precision import derive_key
from dncbench.problem import load_data
from dncbench.running.cache_keys import data_key
from dncbench.sampling.nuts import sample
from dncbench.sampling.settings import SamplerSettings


@dataclass(frozen=True)
class Cost:
    """What sampling one density took.

    Attributes:
        rows: observations it was conditioned on.
        seconds: adapting and sampling, without compilation.
        ess: smallest bulk ESS over coordinates.
    """

    rows: int
    seconds: float
    ess: float

    @property
    def per_draw(self) -> float:
        """Seconds for one effective draw."""
        return self.seconds / self.ess


@dataclass(frozen=True)
class Speedup:
    """Costs of the full posterior and of every shard.

    Attributes:
        problem: label.
        full: cost of the full posterior.
        shards: cost of each subposterior, in the order of the shards.
    """

    problem: str
    full: Cost
    shards: tuple[Cost, ...]

    @property
    def slowest(self) -> Cost:
        """The shard that a cluster waits for."""
        return max(self.shards, key=lambda cost: cost.per_draw)

    @property
    def factor(self) -> float:
        """How many times sooner the slowest shard has an effective draw."""
        return self.full.per_draw / self.slowest.per_draw


def measure(
    problem: str,
    *,
    seed: int = 0,
    budget: str = "smoke",
    say: Callable[[str], None] = lambda message: None,
) -> Speedup:
    """Sample the full posterior, then every shard of the first random split, one at a time.

    Args:
        problem: registered name, with settings where wanted.
        seed: random seed; all randomness derives from it.
        budget: "smoke", "quick" or "paper": its draws for each shard, here for the full
            posterior as well.
        say: told what is being done.

    Raises:
        UnknownNameError: an unknown name.
        DataError: the problem's data cannot be had.
        DrawsError: a density is not finite where sampling starts.
        NotApplicableError: the harness does not sample its shards.
    """
    entry, configured = configure("problem", problem)
    chosen = get_budget(budget)
    settings = SamplerSettings(
        num_draws=chosen.draws_per_shard,
        num_chains=chosen.num_chains,
        window_steps=chosen.window_steps,
        most_rounds=1,
    )
    if not isinstance(configured, Posterior):
        raise NotApplicableError(
            f"{entry.name} is no dncbench.Posterior: its shards are not sampled by the harness"
        )
    data = load_data(configured, data_key(entry.name))
    split = configured.split(data, "random", derive_key(seed, entry.name, "random-0"))

    def cost(densities: Density, rows: int, which: str) -> Cost:
        say(f"{entry.name}: sampling {which}")
        key = derive_key(seed, entry.name, "speedup", which)
        draws = sample(densities, key, settings, configured.parameter_names)
        return Cost(rows, draws.info["seconds"], float(draws.min_ess()[0]))

    full = cost(full_posterior(configured, data), data.num_observations, "the full posterior")
    stack = subposteriors(configured, data, split)
    shards = tuple(cost(alone(stack, s), rows, f"shard {s}") for s, rows in enumerate(split.sizes))
    return Speedup(problem, full, shards)
