"""All exponential families that a hierarchical model can be written in."""

from dncbench.methods.massively_parallel._counts import Bernoulli, Binomial, Categorical, Poisson
from dncbench.methods.massively_parallel._gamma import Beta, Dirichlet, Exponential, Gamma
from dncbench.methods.massively_parallel._normal import HalfNormal, MultivariateNormal, Normal

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Dirichlet",
    "Exponential",
    "Gamma",
    "HalfNormal",
    "MultivariateNormal",
    "Normal",
    "Poisson",
]
