"""One GFlowNet trained on all clients' rewards: what merging is measured against."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from dncbench.method import Shard
from dncbench.methods.discrete._objects import Message, log_rewards
from dncbench.methods.gflownet._clients import GFlowNet, law_of, laws_of
from dncbench.registry import register_method


@register_method(
    "central-gflownet",
    version=1,
    ranked=False,
    variants=("loss=trajectory",),
    small="steps=40,batch=16,width=16",
)
class CentralGflownet(GFlowNet):
    """Not a merge: one GFlowNet, trained on the product of all clients' rewards.

    Clients send their rewards of all objects. Without that, each update would be a round of
    its own: a batch of objects to all clients, and their rewards back. The error that is left is
    that of training one network. The comparison of da Silva et al. (2024).
    """

    cites: ClassVar = ("dasilva2024",)

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """All rewards."""
        return Message(log_rewards(shard), shard.problem)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """Train on their product; draws of the law of the policy."""
        key_train, key_draw = jax.random.split(key)
        problem = messages.problem
        networks, losses = self.trained(problem, jnp.sum(messages.sent, axis=0), key_train)
        log_probs = laws_of(networks, problem)
        codes, info = law_of(log_probs[-1], key_draw, num_draws)
        return codes, info | {
            "laws": jnp.exp(log_probs),
            "learning_curve": losses,
            "reward_evaluations": self.evaluations(len(messages.sent)),
        }
