"""Structure learning: directed acyclic graphs of linear-Gaussian variables."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import log_softmax

from dncbench.draws import Arrays, Check
from dncbench.problem import Data
from dncbench.problems.discrete._enumerated import Enumerated
from dncbench.problems.discrete._structures import AddingEdges, graph_scores, local_scores
from dncbench.registry import register_problem
from dncbench.stategraph.sites import Sites

_NOISE_SD = 0.1**0.5
_PARENTS = 1.0  # expected, of a node


@register_problem("bayes-net", version=1, small="num_nodes=3")
class BayesNet(Enumerated):
    """543 acyclic graphs of 4 variables; each of 4 clients has 50 observations and a BGe score.

    Each client integrates its parameters out on its own, so that the product of their
    posteriors, which is what is merged here and in da Silva et al. (2024), is not the posterior
    of all rows together: the certificate tells the distance. A property of the task, which no
    merge can remove. 5 variables (``num_nodes=5``) have 29 281 graphs.

    Attributes:
        num_shards: S.
        num_nodes: d.
        rows_per_client: observations of each.
    """

    num_shards: int = 4
    num_nodes: int = 4
    rows_per_client: int = 50

    cites: ClassVar = ("dasilva2024", "geiger1994", "kuipers2014")
    source: ClassVar = "simulated from a fixed key, in the style of da Silva et al. (2024)"

    @property
    def environment(self) -> AddingEdges:
        """One edge after another."""
        return AddingEdges(self.num_nodes)

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, "S m d"]]:
        """Rows of a random graph: an expected parent for each node, weights N(0, 1), noise 0.1."""
        key_edge, key_weight, key_noise = jax.random.split(key, 3)
        shape = (self.num_nodes, self.num_nodes)
        chance = min(1.0, 2.0 * _PARENTS / (self.num_nodes - 1))
        edge = jnp.triu(jax.random.bernoulli(key_edge, chance, shape), 1)
        weight = edge * jax.random.normal(key_weight, shape)
        size = (self.num_shards, self.rows_per_client, self.num_nodes)
        noise = _NOISE_SD * jax.random.normal(key_noise, size)
        # x = weightᵀ x + noise
        return {"x": noise @ jnp.linalg.inv(jnp.eye(self.num_nodes) - weight)}

    def _graphs(self) -> np.ndarray:
        return self.graph.objects[:, :-1].astype(int).reshape(-1, self.num_nodes, self.num_nodes)

    def log_terms(self, observations: Arrays) -> Float[np.ndarray, "S K"]:
        """Each client's log marginal likelihood of every graph."""
        graphs = self._graphs()
        clients = np.asarray(observations["x"])
        return np.stack([graph_scores(graphs, local_scores(rows)) for rows in clients])

    def told(self, data: Data) -> tuple[Check, ...]:
        """How far the product of the clients' posteriors is from the posterior of all rows."""
        rows = np.asarray(data.train["x"]).reshape(-1, self.num_nodes)
        pooled = log_softmax(graph_scores(self._graphs(), local_scores(rows)))
        product = log_softmax(self.log_rewards(data, self.whole(data))[0])
        gap = 0.5 * float(np.abs(np.exp(product) - np.exp(pooled)).sum())
        return (Check("tv from the posterior of all rows together", gap),)

    @property
    def sites(self) -> Sites:
        """Whether each edge is there."""
        pairs = ~np.eye(self.num_nodes, dtype=bool)
        return Sites(self._graphs()[:, pairs])

    def coordinates(self) -> tuple[tuple[str, ...], Float[np.ndarray, "K p"]]:
        """Which edges there are."""
        nodes = range(self.num_nodes)
        names = tuple(f"x{i} to x{j}" for i in nodes for j in nodes)
        return names, self._graphs().reshape(-1, self.num_nodes**2).astype(float)
