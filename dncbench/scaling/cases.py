"""What a scaling study runs: ordinary cases, which a run skips where they have a record."""

from collections.abc import Mapping, Sequence

from dncbench.configure import configure, label
from dncbench.running.plan import Case
from dncbench.scaling.axes import Axis


def cases(grid: Mapping[Axis, Sequence[float]], *, splits: int, budget: str) -> list[Case]:
    """Every value of every axis; what two axes have in common is run once.

    Args:
        grid: axes with their values.
        splits: of each case.
        budget: of the study.

    Raises:
        UnknownNameError: a value that the axis cannot take.
    """
    found = []
    for axis, values in grid.items():
        for value in values:
            setup = axis.setup(value, budget)
            problem = label(*configure("problem", setup.problem))
            found.append(Case(problem, splits, setup.scheme, budget=setup.budget))
    return list(dict.fromkeys(found))
