"""What a method may ask of the framework: more rounds, densities, warnings, a status."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stateful import DIM, NUM_SHARDS, Rumour, SlowRumour, followed, given

import dncbench
from dncbench import registry
from dncbench.contracts.gaussian_shards import make_shards
from dncbench.errors import ContractError, DrawsError
from dncbench.merging.executors import Local
from dncbench.merging.run import MergeResult, run_method
from dncbench.merging.suspicions import warnings_about
from dncbench.method import STEPS, Method, Shard
from dncbench.methods.consensus import Consensus
from dncbench.running.status import status
from dncbench.space import Real
from dncbench.timing import Program, forget_programs


class Echo(Method):
    """Broadcasts the shards' grand mean and merges draws about it."""

    needs = frozenset({"draws", "model"})
    num_rounds = 3

    def fit(self, shard, key):
        return shard.values.mean(axis=0)

    def initial_server(self, messages):
        return jnp.zeros(()), jnp.zeros(2)  # rounds so far, and the sums of their messages

    def aggregate(self, server, messages, key):
        number, sums = server
        total = sum(messages)
        sums = jnp.where(jnp.arange(2) == number, jnp.sum(total), sums)
        return (number + 1, sums), total / len(messages) + number + 1

    def answer(self, shard, state, broadcast, key):
        return state, broadcast + shard.density(broadcast)

    def finish(self, server, messages, key, num_draws):
        sums = jnp.append(server[1], jnp.sum(sum(messages)))
        draws = jax.random.normal(key, (num_draws, 2))
        return draws, {"sums": sums, "log_density": -0.5 * jnp.sum(draws**2, axis=1)}


class Plain(Echo):
    """The same without compilation."""

    untraced = frozenset(STEPS)


class Peak(eqx.Module):
    """A log density with an array of its own."""

    height: jax.Array

    def __call__(self, eta):
        return self.height - jnp.sum(eta**2)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("method", [Echo, Plain])
def test_rounds_go_to_and_fro(method) -> None:
    registry.register_method("echo")(method)
    values = np.random.default_rng(0).standard_normal((3, 50, 2))
    heights = np.array([1.0, 2.0, 3.0])
    result = dncbench.merge(values, "echo", density=Peak(jnp.asarray(heights)), num_draws=20)
    first = values.mean(1)
    broadcast = first.mean(0) + 1
    second = broadcast + (heights - np.sum(broadcast**2))[:, None]
    broadcast = second.mean(0) + 2
    third = broadcast + (heights - np.sum(broadcast**2))[:, None]
    expected = [first.sum(), second.sum(), third.sum()]
    np.testing.assert_allclose(result.info["sums"], expected, rtol=1e-10)
    # Three rounds of three messages and two broadcasts to three shards, of two float64 each.
    assert result.bytes_communicated == (3 * 3 + 2 * 3) * 2 * 8
    assert "log_density" not in result.info
    np.testing.assert_allclose(result.log_density, -0.5 * np.sum(result.draws**2, axis=1))
    assert [one.draws for one in result.rounds] == [None] * 3


# ---------------------------------------------------------------- states, and every round


def rumoured(method: Rumour, name: str = "rumour", **options) -> MergeResult:
    space = Real(("first", "second"), "given")
    shards = Shard(values=jnp.asarray(given()))
    return run_method(method, name, shards, jax.random.key(0), 20, space, **options)


@pytest.mark.parametrize("method", [Rumour, SlowRumour])
@pytest.mark.parametrize("rounds", [2, 5])
def test_a_state_stays_on_its_shard_from_round_to_round(method, rounds: int) -> None:
    result = rumoured(method(rounds))
    known, server = followed(given(), rounds)
    # Draw i is what was known, plus i: a state lost, or taken to another shard, moves them all.
    np.testing.assert_allclose(result.draws[0], known[-1], rtol=1e-12)
    np.testing.assert_allclose(result.info["server"], server, rtol=1e-12)


@pytest.mark.parametrize("method", [Rumour, SlowRumour])
def test_a_method_that_can_finish_any_round_is_asked_after_each(method) -> None:
    result = rumoured(method(4))
    known, _ = followed(given(), 4)
    assert len(result.rounds) == 4
    for one, expected in zip(result.rounds, known, strict=True):
        assert one.draws.shape == (20, DIM)
        assert type(one.draws) is np.ndarray
        np.testing.assert_allclose(one.draws, expected + np.arange(20.0)[:, None], rtol=1e-12)
    np.testing.assert_array_equal(result.rounds[-1].draws, result.draws)


@pytest.mark.parametrize("method", [Rumour, SlowRumour])
def test_every_round_says_what_it_cost(method) -> None:
    result = rumoured(method(4))
    message = DIM * 8
    assert [one.bytes_up for one in result.rounds] == [NUM_SHARDS * message] * 4
    # Nothing is sent before the first round; then the same to every shard.
    assert [one.bytes_down for one in result.rounds] == [0] + [NUM_SHARDS * message] * 3
    assert result.bytes_communicated == 7 * NUM_SHARDS * message
    for one in result.rounds:
        assert len(one.by_shard) == NUM_SHARDS
        assert min(*one.by_shard, one.fit_total, one.server) > 0
    assert result.seconds["fit_total"] == sum(one.fit_total for one in result.rounds)
    assert result.seconds["fit_slowest_shard"] == sum(max(one.by_shard) for one in result.rounds)
    assert result.seconds["merge"] == sum(one.server for one in result.rounds)


def test_any_number_of_rounds_compiles_equally_many_programs() -> None:
    compiled: list[str] = []

    def listen(event: str, seconds: float, **more) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    def programs() -> int:
        return sum(program.num_compiled for program in Program._all)

    def added(rounds: int) -> tuple[int, int]:
        before = programs(), len(compiled)
        rumoured(Rumour(rounds), executor=Local())
        return programs() - before[0], len(compiled) - before[1]

    forget_programs()
    added(3)  # keys are split, and shards taken out of the stack, by programs of JAX's own
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        few, many = added(2), added(50)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert few == many
    # begin and answer, each for all shards and for one alone; three steps where messages meet.
    assert few[0] == 2 * 2 + 3
    assert few[1] >= few[0]  # else the listener heard nothing


@pytest.mark.parametrize("traced", ["begin", "finish"])
def test_steps_that_are_not_compiled_get_numpy_arrays(traced: str) -> None:
    """Whichever step made them, and wherever it runs: on a shard, or where messages meet."""
    seen = []

    def look(*arguments) -> None:
        leaves = jax.tree.leaves(arguments)
        seen.append({type(leaf) for leaf in leaves})

    class Curious(Rumour):
        untraced = frozenset(STEPS) - ({"begin", "answer"} if traced == "begin" else {traced})

        def answer(self, shard, state, broadcast, key):
            if "answer" in self.untraced:
                look(shard, state, broadcast)
            return super().answer(shard, state, broadcast, key)

        def aggregate(self, server, messages, key):
            look(server, messages)
            return super().aggregate(server, messages, key)

        def finish(self, server, messages, key, num_draws):
            if "finish" in self.untraced:
                look(server, messages)
            return super().finish(server, messages, key, num_draws)

    result = rumoured(Curious(3))
    np.testing.assert_allclose(result.draws[0], followed(given(), 3)[0][-1], rtol=1e-12)
    assert seen
    assert set().union(*seen) == {np.ndarray}


# ---------------------------------------------------------------- what is asked of a class


def test_rounds_are_part_of_the_track() -> None:
    assert Echo().track() == "draws + 3 rounds"


def test_a_density_that_is_missing_is_asked_for() -> None:
    values = np.random.default_rng(0).standard_normal((3, 50, 2))
    scores = -values
    with pytest.raises(DrawsError, match=r"needs density.*pass density=, the shards' log"):
        dncbench.merge(values, "score-regression[rounds=2]", score=scores)


@pytest.mark.usefixtures("clean_registry")
def test_more_rounds_need_aggregate_and_answer() -> None:
    class Half(Method):
        """Two rounds and no second."""

        num_rounds = 2

        def fit(self, shard, key):
            return shard.values

        def merge(self, messages, key, num_draws):
            return messages, {}

    with pytest.raises(ContractError, match="must define aggregate"):
        registry.register_method("half")(Half)
    Half.aggregate = Rumour.aggregate
    with pytest.raises(ContractError, match="must define answer"):
        registry.register_method("half")(Half)


@pytest.mark.usefixtures("clean_registry")
def test_a_class_without_a_docstring_is_refused() -> None:
    class Silent(Consensus):
        pass

    Silent.__doc__ = "Silent(weights: str = 'matrix')"  # what a dataclass writes itself
    with pytest.raises(ContractError, match="needs a docstring"):
        registry.register_method("silent")(Silent)


# ---------------------------------------------------------------- warnings


@pytest.mark.usefixtures("clean_registry")
def test_only_raised_warnings_are_passed_on() -> None:
    class Wary(Method):
        """Warns of every second shard."""

        def fit(self, shard, key):
            return shard.values

        def merge(self, messages, key, num_draws):
            flags = jnp.arange(len(messages)) % 2 == 1
            said = {"odd": flags, "never": jnp.array(False), "always": jnp.array(True)}
            return messages[0, :num_draws], {"warnings": said}

    registry.register_method("wary")(Wary)
    values = np.random.default_rng(0).standard_normal((5, 50, 2))
    result = dncbench.merge(values, "wary", num_draws=20)
    assert result.info["warnings"] == ["always", "odd (shards 1, 3)"]


def gaussian_shards(num_draws: int = 2000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(8)
    shards = make_shards(rng, 3, 2)
    values = shards.draws(rng, num_draws)
    centred = values - shards.means[:, None]
    return {
        "values": values,
        "score": -np.einsum("sij,stj->sti", np.linalg.inv(shards.covariances), centred),
    }


def warned(ess: float = 2000.0, **parts: np.ndarray) -> list[str]:
    given = jax.tree.map(jnp.asarray, parts | {"ess": np.full(3, ess)})
    return warnings_about(Consensus(), Shard(**given))


def test_good_draws_bring_no_warning() -> None:
    assert warned(**gaussian_shards()) == []


def test_heavy_tails_are_named() -> None:
    parts = gaussian_shards()
    parts["values"][1, :, 1] = np.random.default_rng(0).standard_t(3, 2000)
    lines = warned(values=parts["values"])
    assert len(lines) == 1
    assert lines[0].startswith("shard 1, coordinate 1: heavy tails")


def test_few_effective_draws_are_named() -> None:
    lines = warned(ess=9.0, **gaussian_shards())
    assert [line.split(":")[0] for line in lines] == ["shard 0", "shard 1", "shard 2"]
    assert "9 effective draws in 2 dimensions" in lines[0]


def test_a_stray_score_is_named() -> None:
    parts = gaussian_shards()
    parts["score"][2, 17] *= 1000.0
    (line,) = warned(**parts)
    assert line.startswith("shard 2: 1 score row(s) far outside the others, the first at draw 17")


@pytest.mark.parametrize("wrong", [lambda g: -g, lambda g: g[:, ::-1], lambda g: 3 * g])
def test_scores_of_other_draws_are_found_out(wrong) -> None:
    parts = gaussian_shards()
    parts["score"][1] = wrong(parts["score"][1:2])[0]
    lines = warned(**parts)
    assert [line.split(",")[0] for line in lines] == ["shard 1"]
    assert "do not belong to these draws" in lines[0]


# ---------------------------------------------------------------- status


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"ess": 5000.0}, None),
        ({"ess": 5000.0, "max_rhat": 1.04}, None),
        ({"ess": 5000.0, "max_rhat": 1.3}, "R-hat of the merge's own sampling 1.30"),
        ({"ess": 40.0}, "the merged draws are worth 40 independent ones"),
        ({"ess": 5000.0, "unreliable": ["k-hat 0.9", "lost"]}, "k-hat 0.9; lost"),
        ({"ess": 5000.0, "unreliable": []}, None),
    ],
)
def test_a_merge_that_did_not_converge_is_unreliable(info, reason) -> None:
    expected = {"status": "unreliable", "reason": reason} if reason else {"status": "ok"}
    assert status(info) == expected
