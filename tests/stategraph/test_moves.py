"""How objects are built without a state graph, against what a graph finds out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench.errors import NotApplicableError
from dncbench.problems.discrete._counts import Bag
from dncbench.problems.discrete._grid import Grid
from dncbench.problems.discrete._structures import AddingEdges
from dncbench.problems.discrete._trees import Joining
from dncbench.problems.discrete.sequences import Writing
from dncbench.stategraph.environment import Environment
from dncbench.stategraph.graph import tabulate
from dncbench.stategraph.laws import log_law
from dncbench.stategraph.moves import Functional, Moves, Tabulated, _parents

ENVIRONMENTS = [
    Bag(4, 3),
    Grid(4),
    AddingEdges(3),
    Joining(5),
    Writing(3, 4),
    Writing(2, 4, both=True),
]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=repr)
def test_environments_know_what_their_graphs_find_out(environment: Environment) -> None:
    graph = tabulate(environment)
    assert environment.num_steps == graph.num_steps
    parent = _parents(graph, "it")
    np.testing.assert_array_equal(environment.entered(graph.states), parent >= 0)
    state, action = np.nonzero(parent >= 0)
    before = environment.undo(graph.states[state], action)
    np.testing.assert_array_equal(before, graph.states[parent[state, action]])


def answers(moves: Moves, states: jax.Array) -> dict[str, jax.Array]:
    """To all questions: of every state, and of every state and action."""
    number, every = len(states), jnp.arange(moves.num_actions)
    at, actions = jnp.repeat(states, len(every), axis=0), jnp.tile(every, number)
    return {
        "allowed": moves.allowed(states),
        "entered": moves.entered(states),
        "features": moves.features(states),
        "step": moves.step(at, actions),
        "undo": moves.undo(at, actions),
    }


@pytest.mark.parametrize("environment", [Bag(4, 3), Grid(4)], ids=repr)
def test_functions_answer_as_the_tables_do(environment: Environment) -> None:
    graph = tabulate(environment)
    table, functions = Tabulated(graph, environment), Functional(environment)
    shape = lambda moves: (moves.num_steps, moves.num_actions, moves.num_features)  # noqa: E731
    assert shape(functions) == shape(table)
    np.testing.assert_array_equal(functions.start(2), graph.states[np.asarray(table.start(2))])
    expected = jax.jit(lambda states: answers(table, states))(jnp.arange(graph.num_states))
    found = jax.jit(lambda states: answers(functions, states))(jnp.asarray(graph.states))
    for name in ("allowed", "entered", "features"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for name, possible in (("step", "allowed"), ("undo", "entered")):
        which = np.asarray(expected[possible])
        # Complete states stay whatever the action, and on the way back the initial one does.
        which = (which | ~which.any(1, keepdims=True)).ravel()
        rows, numbers = np.asarray(found[name])[which], np.asarray(expected[name])[which]
        np.testing.assert_array_equal(rows, graph.states[numbers], err_msg=name)


def test_codes_of_bags_are_the_table_s() -> None:
    graph = tabulate(Bag(4, 3))
    table, functions = Tabulated(graph, Bag(4, 3)), Functional(Bag(4, 3))
    found = functions.codes(jnp.asarray(graph.objects))
    np.testing.assert_array_equal(found, table.codes(jnp.asarray(graph.complete)))


def test_an_explorer_of_bags_finds_all_objects_equally_often() -> None:
    graph = tabulate(Bag(4, 3))
    policy = np.log(np.maximum(Bag(4, 3).wander(graph.states.astype(int)), 1e-30))
    np.testing.assert_allclose(log_law(graph, policy), -np.log(graph.num_objects), rtol=1e-6)


def test_an_explorer_takes_any_allowed_action() -> None:
    moves = Functional(Grid(3))
    states = jnp.asarray([[0, 0, 0], [2, 1, 0], [2, 2, 0], [1, 1, 1]], jnp.int8)
    expected = [[1 / 3] * 3, [0, 1 / 2, 1 / 2], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(moves.wander(states), expected, rtol=1e-6)


def test_what_an_environment_leaves_out_is_named() -> None:
    class Forward(Grid):
        """Says nothing of the way back."""

        num_steps = Environment.num_steps
        entered = Environment.entered

    with pytest.raises(NotApplicableError, match="Forward defines no 'num_steps'"):
        Functional(Forward(3))
    with pytest.raises(NotApplicableError, match="Forward defines no 'entered'"):
        Forward(3).entered(np.zeros((1, 3)))
    with pytest.raises(NotApplicableError, match="Forward defines no 'code'"):
        Forward(3).code(np.zeros((1, 3)))
