"""Complete assignments of a hierarchical model: ancestral draws, and their log joint density."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from dncbench.methods.massively_parallel._data import check_data
from dncbench.methods.massively_parallel._factors import Named, log_density, mapped
from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._variables import Latent, Observed


def generate(
    model: Model, inputs: Mapping[str, Shaped[Array, "..."]], key: PRNGKeyArray
) -> tuple[dict[str, Shaped[Array, "..."]], dict[str, Shaped[Array, "..."]]]:
    """Draw latents from the prior, parents first, and observations given them.

    Args:
        model: what to draw from.
        inputs: covariates, (*plates, ...).
        key: random key.

    Returns:
        Values of the latents, and data (observations and inputs), each (*plates, *event).
    """
    known = {each.name: Named(each.plates, inputs[each.name]) for each in model.inputs}
    variables: tuple[Latent | Observed, ...] = (*model.latents, *model.observed)
    for variable, each in zip(variables, jax.random.split(key, len(variables)), strict=True):
        known[variable.name] = Named(variable.plates, _sample(model, variable, known, each))
    names = {latent.name for latent in model.latents}
    values = {name: named.value for name, named in known.items()}
    data = {name: value for name, value in values.items() if name not in names}
    check_data(model, data)
    return {name: values[name] for name in names}, data


def _sample(
    model: Model, variable: Latent | Observed, known: Mapping[str, Named], key: PRNGKeyArray
) -> Array:
    law = variable.prior if isinstance(variable, Latent) else variable.law

    def single(key: PRNGKeyArray, *given: Array) -> Array:
        return law(*given).sample(key, variable.event)

    keys = jax.random.split(key, model.shape(variable.plates))
    given = [known[name] for name in (*variable.parents, *variable.inputs)]
    return mapped(single, [Named(variable.plates, keys), *given], variable.plates)


def log_joint(
    model: Model,
    values: Mapping[str, Shaped[Array, "..."]],
    data: Mapping[str, Shaped[Array, "..."]],
) -> Float[Array, ""]:
    """log P(x, z) of one complete assignment, from single observations.

    Args:
        model: of the latents and data.
        values: of each latent, (*plates, *event).
        data: observations, none of which is summarised, and inputs.

    Raises:
        ModelError: the data do not fit the model.
    """
    check_data(model, data)
    named = {each.name: Named(each.plates, data[each.name]) for each in model.inputs}
    named |= {each.name: Named(each.plates, data[each.name]) for each in model.observed}
    named |= {each.name: Named(each.plates, values[each.name]) for each in model.latents}
    singly = [dataclasses.replace(observed, summary=None) for observed in model.observed]
    variables: tuple[Latent | Observed, ...] = (*model.latents, *singly)
    terms = [log_density(model, each, named).value for each in variables]
    return sum((jnp.sum(term) for term in terms), jnp.zeros(()))
