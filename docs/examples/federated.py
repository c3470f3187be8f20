"""Newton's method over clients that hold the data: five rounds, of which only changes are sent."""

import jax
import jax.numpy as jnp

from dncbench import Method, register_method


@register_method("federated-newton")
class FederatedNewton(Method):
    """Gaussian at the mode, found by Newton steps; clients send what changed since last time.

    Attributes:
        rounds: how often the clients are asked.
    """

    rounds: int = 5
    needs = frozenset({"data"})
    finishes_any_round = True

    @property
    def num_rounds(self):
        return self.rounds

    def local(self, shard, eta):  # gradient and curvature of the client's log subposterior
        def log_density(eta):
            theta = shard.problem.constrain(eta)
            terms = jax.vmap(shard.problem.log_likelihood, (None, 0))(theta, shard.data)
            return shard.problem.log_prior(theta) / shard.num_shards + shard.mask @ terms

        return jax.grad(log_density)(eta), -jax.hessian(log_density)(eta)

    def begin(self, shard, key):
        found = self.local(shard, jnp.zeros(shard.problem.dim))
        return found, found  # kept, and sent

    def answer(self, shard, state, broadcast, key):
        found = self.local(shard, broadcast)
        return found, jax.tree.map(jnp.subtract, found, state)

    def initial_server(self, messages):  # mode so far, and the sums of all changes
        gradient, curvature = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), messages)
        return gradient, gradient, curvature

    def aggregate(self, server, messages, key):
        mode, gradient, curvature = self.moved(server, messages)
        return (mode, gradient, curvature), mode

    def moved(self, server, messages):
        mode, *sums = server
        gradient, curvature = jax.tree.map(lambda s, m: s + m.sum(0), tuple(sums), messages)
        return mode + jnp.linalg.solve(curvature, gradient), gradient, curvature

    def finish(self, server, messages, key, num_draws):
        mode, _, curvature = self.moved(server, messages)
        noise = jax.random.normal(key, (len(mode), num_draws))
        factor = jnp.linalg.cholesky(curvature)
        return mode[None, :] + jax.scipy.linalg.solve_triangular(factor.T, noise).T, {
            "ess": float(num_draws)
        }
