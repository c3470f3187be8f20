"""Tables built from environments, by counts that are known, and what is refused."""

import dataclasses
import itertools

import numpy as np
import pytest

from dncbench.errors import ContractError, NotApplicableError
from dncbench.problems.discrete._grid import Grid
from dncbench.problems.discrete._structures import AddingEdges
from dncbench.problems.discrete._trees import Joining
from dncbench.problems.discrete.multisets import Bag
from dncbench.problems.discrete.sequences import Writing
from dncbench.stategraph.graph import tabulate
from dncbench.stategraph.trajectories import every_trajectory


@pytest.mark.parametrize(
    ("environment", "objects", "states", "edges"),
    [
        (Grid(18), 324, 648, 324 + 2 * 18 * 17),
        (Bag(3, 2), 6, 10, 12),
        (Bag(6, 5), 252, 462, 1260),
        (Bag(8, 6), 1716, 3003, 10296),
        (Bag(10, 8), 24310, 43758, 194480),
        (Writing(4, 6), 4096, 5461, 5460),
        (Writing(4, 6, both=True), 4096, 5461, 4 + 2 * 5456),
        (Joining(4), 15, 37, None),
        (Joining(5), 105, 266, None),
        (Joining(6), 945, 2431, None),
        (AddingEdges(3), 25, 50, None),
        (AddingEdges(4), 543, 1086, None),
        (AddingEdges(5), 29281, 58562, None),
    ],
)
def test_objects_and_states_are_as_many_as_is_known(environment, objects, states, edges) -> None:
    graph = tabulate(environment)
    assert (graph.num_objects, graph.num_states) == (objects, states)
    assert edges in (None, graph.num_edges)


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        (Bag(10, 8), 10**8),  # which item comes when
        (Joining(4), 18),  # n! (n-1)! / 2^(n-1)
        (Joining(5), 180),
        (Joining(6), 2700),
        (Writing(4, 6), 4**6),  # a tree
        (Writing(4, 6, both=True), 4**6 * 2**5),
    ],
)
def test_trajectories_are_as_many_as_is_known(environment, number: int) -> None:
    assert tabulate(environment).num_trajectories() == number


def test_a_forest_can_be_undone_at_the_roots_that_are_no_leaves() -> None:
    environment = Joining(5)
    graph = tabulate(environment)
    roots = environment._roots(graph.states)
    several = [len({root for root in row if root.bit_count() > 1}) for row in roots.tolist()]
    np.testing.assert_array_equal(graph.into_used.sum(1), several)


def test_a_sequence_comes_from_two_edges_be_it_from_one_state() -> None:
    graph = tabulate(Writing(2, 3, both=True))
    number = {tuple(row): place for place, row in enumerate(graph.states.tolist())}
    length = (graph.states > 0).sum(1)
    np.testing.assert_array_equal(graph.into_used.sum(1), np.array([0, 1, 2, 2])[length])
    into = lambda row: set(graph.into[number[row]][graph.into_used[number[row]]].tolist())  # noqa: E731
    edge = lambda row, action: 4 * number[row] + action  # noqa: E731
    assert into((1, 1, 0)) == {edge((1, 0, 0), 0), edge((1, 0, 0), 2)}  # "a" behind or before "a"
    assert into((1, 2, 2)) == {edge((1, 2, 0), 1), edge((2, 2, 0), 2)}
    longer = graph.allowed & (length > 0)[:, None]
    np.testing.assert_allclose(graph.log_backward[longer], -np.log(2.0))
    np.testing.assert_allclose(graph.log_backward[0][graph.allowed[0]], 0.0)


def test_every_trajectory_is_one_way_through_the_graph() -> None:
    graph = tabulate(Grid(3))
    every = every_trajectory(graph)
    assert every.states.shape[1] == graph.num_trajectories()
    ways = {tuple(column) for column in np.concatenate([every.states, every.last[None]]).T.tolist()}
    assert len(ways) == graph.num_trajectories()
    # Cell (i, j) is reached by (i + j)! / i! j! ways.
    cells = [tuple(row[:2]) for row in graph.states[every.last].tolist()]
    expected = {(0, 0): 1, (1, 1): 2, (2, 1): 3, (2, 2): 6}
    assert {cell: cells.count(cell) for cell in expected} == expected
    with pytest.raises(NotApplicableError, match="too many"):
        every_trajectory(graph, most=5)


@dataclasses.dataclass(frozen=True)
class Leaping(Grid):
    """From the corner, down leads two cells down."""

    def step(self, states, actions):
        leaps = (actions == 0) & (states.sum(1) == 0)
        return super().step(states, actions) + leaps[:, None] * np.array([[1, 0, 0]])


class Unspoken(Grid):
    """A policy sees nothing."""

    def features(self, states):
        return np.zeros((len(states), 1))


class Large(Grid):
    """Entries beyond a byte."""

    def initial(self):
        return np.array([300, 0, 0])


@pytest.mark.parametrize(
    ("environment", "most", "said"),
    [
        (Leaping(4), 1000, "Leaping: paths of unequal length"),
        (Unspoken(4), 1000, "Unspoken: some states have equal features"),
        (Large(400), 1000, "Large: a state's entries"),
        (Grid(9), 100, "Grid: more than 100 states"),
    ],
)
def test_what_cannot_be_tabulated_is_refused(environment, most: int, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        tabulate(environment, most)


def test_the_children_of_a_bag_are_the_bags_with_an_item_more() -> None:
    graph = tabulate(Bag(3, 2))
    number = {tuple(row): place for place, row in enumerate(graph.states.tolist())}
    for counts in itertools.product(range(3), repeat=3):
        if sum(counts) < 2:
            for item in range(3):
                more = tuple(c + (u == item) for u, c in enumerate(counts))
                assert graph.child[number[counts], item] == number[more]
