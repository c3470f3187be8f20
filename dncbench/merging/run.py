"""Running one merge: every round of asking the shards and aggregating, and what it cost."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray, Shaped

from dncbench.draws import Arrays
from dncbench.errors import ContractError, DrawsError
from dncbench.merging.agreement import Agreement, agreement
from dncbench.merging.executors import Asked, Executor, Local, in_numpy
from dncbench.merging.inputs import check_draws, only_needed
from dncbench.merging.jackknife import jackknifed_ess
from dncbench.merging.shared_fits import SharedFits
from dncbench.merging.suspicions import warnings_about
from dncbench.merging.told_laws import taken_out
from dncbench.method import Method, Shard
from dncbench.space import Codes, Real, Space
from dncbench.storage.files import canonical
from dncbench.timing import Program, Timed, timed

EXECUTOR: Executor = Local()
"""Who asks the shards, unless somebody else is named."""


@dataclass(frozen=True)
class Round:
    """What one round cost, and where the merge would be if it were the last.

    Attributes:
        by_shard: (S,) seconds of each shard.
        fit_total: seconds until all had answered.
        server: seconds of work where the messages meet.
        bytes_up: size of all messages.
        bytes_down: size of what was sent to all shards before.
        draws: merged draws after this round; None where the method cannot say.
    """

    by_shard: tuple[float, ...]
    fit_total: float
    server: float
    bytes_up: int
    bytes_down: int
    draws: Shaped[np.ndarray, "num_draws ..."] | None = None


@dataclass(frozen=True)
class MergeResult:
    """Merged draws and how they came about.

    Attributes:
        draws: (num_draws, d) float64, or what else the space holds.
        info: what the method reported; ``ess`` says how many independent draws of the
            posterior the merged draws are worth, the error of what the merge estimated
            from the shards' draws included where it is known; ``warnings`` what a reader
            should know; ``homogeneity`` how well the shards' draws agree (about 1 where
            they do, see :mod:`dncbench.merging.agreement`).
        seconds: ``compile``, ``fit_total`` (all shards, all rounds), ``fit_slowest_shard``
            (alone on its machine; the slowest of every round), ``merge``.
        bytes_communicated: size of all messages and broadcasts.
        rounds: the same for every round; one for a method that asks once.
        memory: bytes that the largest compiled program of a "fit" (all shards in one) and
            of a "merge" needs, by XLA's account; without those that are not compiled.
        log_density: (num_draws,) unnormalised log density that the draws were drawn
            from; None where the method has none.
        log_probs: (K,) exact log probabilities of all objects; None likewise.
        client_log_probs: (S, K) likewise, of the law that each client learned.
        laws: (P, K) probabilities at even steps of the merge's training.
    """

    draws: Shaped[np.ndarray, "num_draws ..."]
    info: dict[str, Any]
    seconds: dict[str, float]
    bytes_communicated: int
    rounds: tuple[Round, ...] = ()
    memory: dict[str, int] = field(default_factory=dict)
    log_density: Float[np.ndarray, " num_draws"] | None = None
    log_probs: Float[np.ndarray, " K"] | None = None
    client_log_probs: Float[np.ndarray, "S K"] | None = None
    laws: Float[np.ndarray, "P K"] | None = None


def run_method(
    method: Method,
    name: str,
    shards: Shard,
    key: PRNGKeyArray,
    num_draws: int,
    space: Space,
    executor: Executor | None = None,
    shared: SharedFits | None = None,
) -> MergeResult:
    """Ask every shard, in every round, and merge.

    Args:
        method: a configured method.
        name: what messages call it.
        shards: stacked along a leading axis of S; what is not there is None.
        key: random key of this cell.
        num_draws: merged draws wanted.
        space: that they are in.
        executor: who asks the shards; :data:`EXECUTOR` where None.
        shared: fits of these shards that other methods may start from as well; where None,
            every method has its own.

    Raises:
        NotApplicableError: the method works in other spaces, or needs what is not there.
        DrawsError: it cannot use what is, or returned what nobody can use.
        ContractError: it left out part of its contract.
    """
    shards = only_needed(method, name, shards, space)
    check_draws(method, name, shards, space.names)
    draws, info, rounds, compiled, memory = _rounds(
        method, shards, key, num_draws, executor or EXECUTOR, shared
    )
    checked = space.check(draws, num_draws, f"method {name!r}")
    log_density, log_probs = (
        None if array is None else np.asarray(array, np.float64)
        for array in (info.pop(key, None) for key in ("log_density", "log_probs"))
    )
    client_log_probs, laws = taken_out(info, name, space, len(rounds[-1].by_shard))
    plain = _plain_info(info, name, method, shards, num_draws)
    if isinstance(space, Real):
        found = jackknifed_ess(method, shards, key, checked)
        plain["ess"] = plain["ess"] if found is None else min(plain["ess"], found)
    with np.errstate(all="ignore"):  # squares of draws may be no numbers, and say nothing then
        agreed = _agreement(method, shards) if isinstance(space, Real) else None
        if not isinstance(space, Codes):
            plain["warnings"] += warnings_about(method, shards, space.names, agreed)
    if agreed is not None:
        plain |= _homogeneity(agreed, method, plain["ess"])
    if method.finishes_any_round:
        rounds = [*rounds[:-1], dataclasses.replace(rounds[-1], draws=checked)]
    return MergeResult(
        checked,
        plain,
        {
            "compile": compiled,
            "fit_total": sum(one.fit_total for one in rounds),
            "fit_slowest_shard": sum(max(one.by_shard) for one in rounds),
            "merge": sum(one.server for one in rounds),
        },
        sum(one.bytes_up + one.bytes_down for one in rounds),
        tuple(rounds),
        memory,
        log_density,
        log_probs,
        client_log_probs,
        laws,
    )


def _plain_info(
    info: dict[str, Any], name: str, method: Method, shards: Shard, num_draws: int
) -> dict[str, Any]:
    """The info as it can be recorded, ``ess`` and lists of sentences filled in.

    A merge is worth no more than the scarcest shard's draws, whatever its own sampler made of
    them; but one that evaluates the shards' densities knows more than those draws.
    """
    plain = {key: _plain(value) for key, value in info.items()}
    for said in ("warnings", "unreliable"):
        if said in plain or said == "warnings":
            plain[said] = _sentences(plain.get(said, []))
    try:
        canonical(plain)
    except (TypeError, ValueError) as error:
        raise DrawsError(
            f"method {name!r} returned info that cannot be recorded ({error}); "
            "return finite numbers, strings and lists of them"
        ) from error
    scarcest = num_draws if shards.ess is None else float(np.min(np.asarray(shards.ess)))
    most = num_draws if "model" in method.needs else min(scarcest, num_draws)
    plain["ess"] = float(min(plain.get("ess", scarcest), most))
    if not plain["ess"] > 0:
        raise DrawsError(f"method {name!r} reports an ess of {plain['ess']}; it must be positive")
    return plain


def _agreement(method: Method, shards: Shard) -> Agreement | None:
    """How well the shards' draws agree; None where a method is given none of theirs."""
    if "reference" in method.needs or shards.ess is None:
        return None
    ess = np.asarray(shards.ess, dtype=np.float64)
    if shards.values is not None:
        return agreement(np.asarray(shards.values, dtype=np.float64), ess)
    if shards.inflated is None:
        return None
    return agreement(np.asarray(shards.inflated, dtype=np.float64), ess, inflation=len(ess))


def _homogeneity(agreed: Agreement, method: Method, ess: float) -> dict[str, Any]:
    """The statistic for the record, and what the merge is worth in its light.

    A merge that evaluates the shards' densities can tell by them where the posterior is; one
    of draws alone is as wrong as they contradict each other.
    """
    found = {"homogeneity": {"ratio": agreed.ratio, "degrees_of_freedom": agreed.degrees}}
    if agreed.contradicts and "model" not in method.needs:
        return found | {"ess": min(ess, agreed.ess)}
    return found


# ---------------------------------------------------------------- rounds


def _rounds(
    method: Method,
    shards: Shard,
    key: PRNGKeyArray,
    num_draws: int,
    executor: Executor,
    shared: SharedFits | None,
) -> tuple[Any, dict[str, Any], list[Round], float, dict[str, int]]:
    """The last round's draws and info, every round's costs, compile seconds, memory."""
    key_fit, key_merge = jax.random.split(key)
    num_shards, num_rounds = shards.num_shards, method.num_rounds
    assert num_shards is not None
    memory = {"fit": 0, "merge": 0}
    compiled, server_seconds = 0.0, 0.0

    def ask(step: str, state: Any, broadcast: Any, key: PRNGKeyArray) -> Asked:
        asked = executor.ask(
            step, method, shards, state, broadcast, jax.random.split(key, num_shards)
        )
        memory["fit"] = max(memory["fit"], asked.memory)
        return asked

    def at_server(step: str, *arguments: Any, counted: bool = True) -> Any:
        nonlocal compiled, server_seconds
        done = _at_server(method, step, *arguments)
        memory["merge"] = max(memory["merge"], done.memory)
        compiled += done.compile
        server_seconds += done.run if counted else 0.0
        return done.value

    if shared is None or method.shared_fit is None:
        asked = ask("begin", None, None, key_fit)
    else:
        asked = shared.ask(method.shared_fit, lambda key: ask("begin", None, None, key))
    server = at_server("initial_server", asked.messages) if num_rounds > 1 else None
    rounds: list[Round] = []
    sent = 0
    for number in range(1, num_rounds + 1):
        compiled += asked.compile
        up = _nbytes(asked.messages)
        if number == num_rounds:
            break
        draws = None
        if method.finishes_any_round:
            draws = np.asarray(
                at_server("finish", server, asked.messages, key_merge, num_draws, counted=False)[0]
            )
        last = number == num_rounds - 1 and type(method).aggregate_last is not Method.aggregate_last
        step = "aggregate_last" if last else "aggregate"
        extra = (num_draws,) if last else ()
        server, broadcast = at_server(
            step, server, asked.messages, jax.random.fold_in(key_merge, number), *extra
        )
        rounds.append(Round(asked.by_shard, asked.run, server_seconds, up, sent, draws))
        server_seconds = 0.0
        # What is broadcast goes to every shard.
        sent = num_shards * _nbytes(broadcast)
        asked = ask("answer", asked.states, broadcast, jax.random.fold_in(key_fit, number))
    finished = at_server("finish", server, asked.messages, key_merge, num_draws)
    if not (isinstance(finished, tuple) and len(finished) == 2):
        raise ContractError(
            f"{type(method).__name__} must return draws and an info dictionary from its merge"
        )
    draws, info = finished
    rounds.append(Round(asked.by_shard, asked.run, server_seconds, up, sent))
    return draws, dict(info), rounds, compiled, memory


def _at_server(method: Method, step: str, *arguments: Any) -> Timed:
    of_contract = "aggregate" if step == "aggregate_last" else step
    if of_contract in method.untraced or (of_contract == "initial_server" and method.untraced):
        return timed(getattr(method, step), *in_numpy(arguments))
    if step == "initial_server" and type(method).initial_server is Method.initial_server:
        return Timed(None, 0.0, 0.0)
    return _server_program(step)(method, *arguments)


@functools.cache
def _server_program(step: str) -> Program:
    def run(method: Method, *arguments: Any) -> Any:
        function: Callable = getattr(method, step)
        return function(*arguments)

    return Program(run)


def _nbytes(message: Arrays) -> int:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(message) if leaf is not None]
    return int(sum(leaf.nbytes for leaf in leaves))


def _plain(value: Any) -> Any:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    return value


def _sentences(given: Any) -> list[str]:
    """A method's warnings as a list; flags say which sentences apply, and to which shards."""
    if not isinstance(given, dict):
        return list(given)
    raised = []
    for sentence, flags in given.items():
        flags = np.asarray(flags)
        if flags.ndim and flags.any():
            shards = ", ".join(str(shard) for shard in np.flatnonzero(flags))
            raised.append(f"{sentence} (shards {shards})")
        elif flags.any():
            raised.append(sentence)
    return raised
