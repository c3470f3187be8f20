"""Declared models: what is refused, and the joint density of one assignment."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hierarchies import BUS, STATE, bus_data, buses, delay, radon, radon_data, standard
from scipy import stats

from dncbench.methods.massively_parallel._data import check_data
from dncbench.methods.massively_parallel._families import (
    Bernoulli,
    Categorical,
    Dirichlet,
    MultivariateNormal,
    Normal,
)
from dncbench.methods.massively_parallel._joint import generate, log_joint
from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._variables import (
    Input,
    Latent,
    ModelError,
    Observed,
    Summary,
)

THETA = Latent("theta", Normal, standard)
Z = Latent("z", Normal, lambda theta: Normal(theta, 1.0), STATE, ("theta",), start=standard)
Y = Observed("y", lambda z: Normal(z, 1.0), ("state", "home"), ("z",))
SIZES = {"state": 2, "home": 3}


def changed(variable, **changes):
    return dataclasses.replace(variable, **changes)


def test_the_joint_density_is_the_sum_of_its_terms() -> None:
    model = radon()
    data = radon_data(model)
    values, _ = generate(model, {"basement": data["basement"]}, jax.random.key(1))
    z = {name: np.asarray(value) for name, value in values.items()}
    expected = (
        stats.norm.logpdf(z["global_mean"])
        + stats.norm.logpdf(z["global_log_sigma"])
        + stats.norm.logpdf(z["state_mean"], z["global_mean"], np.exp(z["global_log_sigma"])).sum()
        + stats.norm.logpdf(z["state_log_sigma"]).sum()
        + stats.norm.logpdf(z["slope"]).sum()
        + stats.norm.logpdf(
            np.asarray(data["log_radon"]),
            z["state_mean"][:, None] + z["slope"][:, None] * np.asarray(data["basement"]),
            np.exp(z["state_log_sigma"])[:, None],
        ).sum()
    )
    for each in (model, radon(summary=True)):
        assert log_joint(each, values, data) == pytest.approx(expected, rel=1e-12)


def test_children_are_drawn_given_their_parents() -> None:
    """z - θ and y - z have variance 1, within five standard errors."""
    model = Model({"state": 2000, "home": 2}, [THETA, Z], [Y])
    values, data = generate(model, {}, jax.random.key(2))
    for residuals in (values["z"] - values["theta"], data["y"] - values["z"][:, None]):
        num = residuals.size
        assert abs(np.mean(residuals**2) - 1.0) < 5 * np.sqrt(2 / num)
        assert abs(np.mean(residuals)) < 5 / np.sqrt(num)


def test_equal_models_are_one_key_of_compiled_programs() -> None:
    model = Model(SIZES, [THETA, Z], [Y])
    assert model == Model(SIZES, [THETA, Z], [Y])
    assert hash(model) == hash(Model(SIZES, [THETA, Z], [Y]))
    assert model != Model({**SIZES, "home": 4}, [THETA, Z], [Y])


REFUSED = {
    "no observed variable": ([THETA], [], "at least one latent and one observed"),
    "a name used twice": (
        [THETA, changed(Z, name="theta")],
        [Y],
        "two variables are named 'theta'",
    ),
    "a child before its parent": ([Z, THETA], [Y], "'z' .parents come first.*no latent 'theta'"),
    "a misspelt parent": ([THETA, Z], [changed(Y, parents=("zz",))], "did you mean z"),
    "an unknown plate": ([THETA, changed(Z, plates=("stat",))], [Y], "no plate 'stat'.*mean state"),
    "a plate in two places": (
        [THETA, Z],
        [changed(Y, plates=("home",), parents=()), changed(Y, name="x")],
        "'x' has plate 'home' as .'state', 'home'.*plates form a tree",
    ),
    "a parent inside of its child": (
        [THETA, Z, Latent("w", Normal, standard, (), ("z",), start=standard)],
        [Y],
        "'w' has a term for each element of .., its parent 'z' is on .'state'",
    ),
    "a group on two plates": (
        [THETA, changed(Z, group="theta")],
        [Y],
        "'z' is on .'state',., 'theta' of its group 'theta' on ..; put it into another group",
    ),
    "a prior that is no law to start from": (
        [THETA, changed(Z, start=None)],
        [Y],
        "'z' has parents or inputs.*give start=lambda: Normal",
    ),
    "a start of another family": (
        [THETA, changed(Z, start=lambda: Bernoulli(0.0))],
        [Y],
        "'z' starts from a Bernoulli; give start=lambda: Normal",
    ),
    "a start of another shape": (
        [THETA, changed(Z, event=(2,), start=lambda: Normal(jnp.zeros(3), 1.0))],
        [Y],
        r"'z' starts from parameters that do not fit its plates .2,. and event .2,.",
    ),
    "a vector without a size": (
        [THETA, Z, Latent("w", MultivariateNormal, lambda: Dirichlet(jnp.ones(2)))],
        [Y],
        "'w' is of MultivariateNormal, whose values are vectors; give event",
    ),
    "an enumerated number that is not finite": (
        [changed(THETA, enumerated=2), Z],
        [Y],
        "'theta' is enumerated=2, of Normal",
    ),
    "too few values of an enumerated number": (
        [THETA, Z, Latent("c", Categorical, lambda: Categorical(jnp.zeros(3)), enumerated=2)],
        [Y],
        "'c' is enumerated=2, of Categorical",
    ),
    "an enumerated number in a group": (
        [THETA, Z, Latent("b", Bernoulli, lambda: Bernoulli(0.0), group="theta", enumerated=2)],
        [Y],
        "'b' is enumerated and shares group 'theta'",
    ),
    "a summary without a plate": (
        [THETA, Z],
        [Y, Observed("x", standard, summary=Summary(jnp.sum, jnp.sum))],
        "'x' has a summary but no plate",
    ),
    "a summary over a plate of a parent": (
        [THETA, Z],
        [Y, changed(Y, name="x", plates=STATE, summary=Summary(jnp.sum, jnp.sum))],
        "'x' has a term for each element of .., its parent 'z'",
    ),
    "an unknown input": ([THETA, Z], [changed(Y, inputs=("x",))], "'y': no input 'x'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_does_not_fit_together_is_refused(case: str) -> None:
    latents, observed, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        Model(SIZES, latents, observed)


def test_an_input_deeper_than_its_variable_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"'y' is on .'state',., its input 'x' on .'state', 'home'"
    ):
        Model(
            SIZES,
            [THETA, Z],
            [changed(Y, plates=STATE, inputs=("x",))],
            [Input("x", ("state", "home"))],
        )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({**SIZES, "town": 2}, "no variable is on plate 'town'"),
        ({**SIZES, "home": 0}, "'home' has 0 elements"),
    ],
)
def test_plates_of_nothing_are_refused(sizes: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Model(sizes, [THETA, Z], [Y])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"late": None}, "data lack 'late', an array .year=2, borough=3, bus=5.; add it"),
        ({"late": jnp.zeros((2, 3, 4))}, r"'late' are \(2, 3, 4\); they should be .*bus=5"),
        ({"company": jnp.zeros((2, 5, 3))}, "'company' are .2, 5, 3.; they should be"),
        ({"compny": jnp.zeros(3)}, "no array 'compny' is declared; did you mean company"),
    ],
)
def test_data_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    model = buses()
    data = {**bus_data(model), **changes}
    with pytest.raises(ModelError, match=message):
        check_data(model, {name: value for name, value in data.items() if value is not None})


def test_a_linear_predictor_is_a_product_of_matrices() -> None:
    """No array has the observations, the particles and the features as axes."""
    from dncbench.methods.massively_parallel._factors import Index, Named, mapped

    company, phi = jnp.ones((2, 3, 5, 7)), jnp.ones((4, 7))
    arguments = [
        Named((Index("alpha"), "year", "borough"), jnp.ones((6, 2, 3))),
        Named((Index("phi"),), phi),
        Named(BUS, company),
    ]
    axes = (Index("alpha"), Index("phi"), *BUS)

    def logits(*values):
        found = mapped(
            lambda a, p, c: delay(a, p, c).logits,
            [argument._replace(value=v) for argument, v in zip(arguments, values, strict=True)],
            axes,
        )
        return found

    values = [argument.value for argument in arguments]
    program = jax.make_jaxpr(logits)(*values)
    sizes = [v.aval.size for equation in program.eqns for v in equation.outvars]
    assert max(sizes) == 6 * 4 * 2 * 3 * 5
    np.testing.assert_array_equal(logits(*values), 8.0)
