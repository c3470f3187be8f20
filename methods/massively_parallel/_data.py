"""Data of a hierarchical model: checked, and summarised where sufficient statistics are known."""

from collections.abc import Mapping

import jax
from jaxtyping import Array, PyTree, Shaped

from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._variables import Input, ModelError, Observed, find


def check_data(model: Model, data: Mapping[str, Shaped[Array, "..."]]) -> None:
    """Compare the shapes of data with what a model says of them.

    Raises:
        ModelError: an array is missing, unknown, or of another shape; the first is named.
    """
    variables: dict[str, Observed | Input] = {each.name: each for each in model.inputs}
    variables |= {each.name: each for each in model.observed}
    for name in data:
        find("data", name, "array", variables)
    for name, variable in variables.items():
        if name not in data:
            raise ModelError(f"data lack {name!r}, {_wanted(model, variable)}; add it")
        expected = model.shape(variable.plates)
        shape = data[name].shape
        if isinstance(variable, Observed):
            fits = shape == expected + variable.event
        else:
            fits = shape[: len(expected)] == expected
        if not fits:
            raise ModelError(
                f"data {name!r} are {shape}; they should be {_wanted(model, variable)}"
            )


def _wanted(model: Model, variable: Observed | Input) -> str:
    sizes = [f"{plate}={size}" for plate, size in model.sizes if plate in variable.plates]
    ends = list(map(str, variable.event)) if isinstance(variable, Observed) else ["..."]
    return f"an array ({', '.join(sizes + ends)})"


def summarised(model: Model, data: Mapping[str, Shaped[Array, "..."]]) -> dict[str, PyTree[Array]]:
    """Data whose observations are replaced by their sufficient statistics, where a model has some.

    Raises:
        ModelError: the data do not fit the model.
    """
    check_data(model, data)
    result: dict[str, PyTree[Array]] = dict(data)
    for observed in model.observed:
        if observed.summary is None:
            continue
        inputs = [model.input(name) for name in observed.inputs]
        function = observed.summary.statistics
        for depth in reversed(range(len(observed.plates) - 1)):
            plate = observed.plates[depth]
            axes = (0, *(0 if plate in each.plates else None for each in inputs))
            function = jax.vmap(function, in_axes=axes)
        result[observed.name] = function(data[observed.name], *(data[i.name] for i in inputs))
    return result
