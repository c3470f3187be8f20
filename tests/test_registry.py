"""The registry: what it finds, what it refuses, what it says."""

import re
import subprocess
import sys

import pytest
from handmade import REPOSITORY, Whole, import_shipped, registered_names

from dncbench import (
    Method,
    Posterior,
    Problem,
    register_correction,
    register_method,
    register_metric,
    register_problem,
    registry,
)
from dncbench.errors import ContractError, UnknownNameError
from dncbench.shipped import shipped

KINDS = ("problem", "method", "correction", "metric")


@pytest.fixture(scope="module", autouse=True)
def _shipped_imported():
    import_shipped()


class WholeProblem(Posterior):
    """A problem that misses nothing."""

    num_shards: int = 2
    dim = 1

    def data(self, key):
        return None

    def log_prior(self, theta):
        return 0.0

    def log_likelihood(self, theta, observation):
        return 0.0


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [
        ("problem", "toy_logistic", "toy-logistic"),
        ("problem", "spambas", "spambase"),
        ("method", "consenus", "consensus"),
        ("method", "swis-product", "swiss-product"),
        ("correction", "psi", "psis"),
        ("metric", "mahh", "mah"),
    ],
)
def test_unknown_name_suggests_the_nearest(kind, wrong, right):
    with pytest.raises(UnknownNameError, match=f"no {kind} is called '{wrong}'") as caught:
        registry.get(kind, wrong)
    suggestion = str(caught.value).partition("did you mean ")[2].partition("?")[0]
    assert suggestion.split(" or ")[0] == right
    assert f"dncbench list {kind}s" in str(caught.value)


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(UnknownNameError) as caught:
        registry.get("metric", "zzzzzzzzzz")
    assert "did you mean" not in str(caught.value)


def test_entries_are_sorted_and_ids_carry_the_version():
    for kind in KINDS:
        names = [entry.name for entry in registry.entries(kind)]
        assert names == sorted(names)
        assert len(set(names)) == len(names) > 0
        for entry in registry.entries(kind):
            assert entry.id == f"{entry.name}@{entry.version}"


@pytest.mark.parametrize("kind", KINDS)
def test_scan_of_decorators_equals_what_registers_on_import(kind):
    def described(entries):
        return {(each.name, each.version, each.summary, each.module) for each in entries}

    imported = [
        entry
        for entry in registry._registered[kind].values()
        if entry.module.startswith("dncbench.")
    ]
    assert described(shipped(kind).values()) == described(imported)
    assert all(entry.target is not None for entry in imported)


# ---------------------------------------------------------------- refusals


@pytest.mark.usefixtures("clean_registry")
def test_duplicate_name_is_refused_naming_both_places():
    with pytest.raises(ContractError) as caught:
        register_method("consensus")(Whole)
    assert "method 'consensus'" in str(caught.value)
    assert "dncbench.methods.consensus" in str(caught.value)
    assert "handmade.Whole" in str(caught.value)
    assert registry.get("method", "consensus").module == "dncbench.methods.consensus"


@pytest.mark.usefixtures("clean_registry")
def test_duplicate_of_a_third_party_name_is_refused():
    register_method("mine")(Whole)
    other = type("Other", (Whole,), {"__doc__": "Another.", "__module__": "elsewhere"})
    with pytest.raises(ContractError, match=r"already registered by .*elsewhere\.Other"):
        register_method("mine")(other)
    assert registry.get("method", "mine").target is Whole


@pytest.mark.usefixtures("clean_registry")
def test_one_name_may_serve_different_kinds():
    register_method("both")(Whole)
    register_problem("both")(WholeProblem)
    assert registry.get("method", "both").target is Whole
    assert registry.get("problem", "both").target is WholeProblem


@pytest.mark.usefixtures("clean_registry")
def test_method_that_misses_parts_is_refused_with_theirnames():
    class Half(Method):
        """Has no merge and no fit."""

    with pytest.raises(
        ContractError,
        match="method 'half': class Half: it must define fit or begin, and merge or finish",
    ):
        register_method("half")(Half)
    assert "half" not in registered_names("method")


@pytest.mark.usefixtures("clean_registry")
def test_problem_that_misses_parts_is_refused_with_theirnames():
    class Half(Posterior):
        """Has data and shards only."""

        num_shards: int = 2

        def data(self, key):
            return None

    with pytest.raises(ContractError, match=r"Half misses dim, log_likelihood, log_prior;"):
        register_problem("half")(Half)
    assert "half" not in registered_names("problem")


@pytest.mark.usefixtures("clean_registry")
def test_problem_of_no_space_is_refused():
    class Nowhere(Problem):
        """Nobody knows what its draws are."""

        num_shards: int = 2

    with pytest.raises(ContractError, match=r"Nowhere misses space; see help\(dncbench\.Problem"):
        register_problem("nowhere")(Nowhere)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    "name",
    ["../escaped", "a b", " a", "", ".hidden", "a@1", "a[b]", "a:b", "a\n", "ä", "a" * 101, "all"],
)
def test_a_name_that_could_be_no_folder_of_records_is_refused(name):
    for register in (register_method(name), register_correction(name)):
        with pytest.raises(ContractError, match="folders of records are called so"):
            register(Whole)
    with pytest.raises(ContractError, match="folders of records are called so"):
        register_metric(name)(lambda one, two: None)


@pytest.mark.usefixtures("clean_registry")
def test_problem_without_a_whole_number_of_shards_is_refused():
    class Unsharded(WholeProblem):
        """Its shards are text."""

        num_shards: str = "three"

    with pytest.raises(ContractError, match="Unsharded: num_shards must be"):
        register_problem("unsharded")(Unsharded)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("needs", "complaint"),
    [
        (frozenset({"draws", "gradients"}), "needs names gradients; known: draws, log_density"),
        (frozenset(), "needs must be a frozenset with at least one of"),
        ("draws", "needs must be a frozenset with at least one of"),
    ],
)
def test_method_with_wrong_needs_is_refused(needs, complaint):
    wrong = type("Wrong", (Whole,), {"__doc__": "Wrong needs.", "needs": needs})
    with pytest.raises(ContractError, match=f"method 'wrong': class Wrong: {complaint}"):
        register_method("wrong")(wrong)
    assert "wrong" not in registered_names("method")


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("decorator", "base"), [(register_method, "Method"), (register_problem, "Problem")]
)
@pytest.mark.parametrize("target", [int, lambda: None], ids=["class", "function"])
def test_what_is_no_subclass_is_refused(decorator, base, target):
    with pytest.raises(ContractError, match=rf"must subclass dncbench\.{base}"):
        decorator("alien")(target)


@pytest.mark.usefixtures("clean_registry")
def test_class_without_a_docstring_is_refused():
    class Silent(Method):
        def fit(self, shard, key):
            return None

        def merge(self, messages, key, num_draws):
            return None

    Silent.__doc__ = ""
    with pytest.raises(ContractError, match=r"Silent needs a docstring"):
        register_method("silent")(Silent)
    assert "silent" not in registered_names("method")


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda: 0, 0),
        (lambda one: 0, 1),
        (lambda one, two, three: 0, 3),
        (lambda one, *, two: 0, 1),
    ],
)
def test_metric_of_wrong_arity_is_refused(function, count):
    with pytest.raises(ContractError, match=rf"exactly two arguments.*it takes {count}"):
        register_metric("wrong")(function)
    assert "wrong" not in registered_names("metric")


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("moments", [-1, -0.5, float("nan")])
def test_moments_that_are_no_order_are_refused(moments):
    with pytest.raises(ContractError, match=r"moments is .*; give an order from 0"):
        register_metric("wrong", moments=moments)(lambda one, two: None)

    class Heavy(WholeProblem):
        """Says nonsense of its tails."""

        finite_moments = moments

    with pytest.raises(ContractError, match="finite_moments must be a number from 0"):
        register_problem("heavy")(Heavy)


def test_metrics_say_which_moments_they_need():
    needed = {entry.name: entry.moments for entry in registry.entries("metric")}
    assert (needed["mah"], needed["skew"], needed["sw2"]) == (2, 3, 2)
    assert (needed["iad-rank"], needed["coverage"], needed["c2st"]) == (0, 0, 0)


@pytest.mark.usefixtures("clean_registry")
def test_metric_with_two_arguments_and_options_is_registered():
    def distance(approximation, reference, bins=10):
        """Counts."""

    assert register_metric("distance", version=3)(distance) is distance
    assert re.fullmatch(r"distance@3\+[0-9a-f]{12}", registry.get("metric", "distance").id)
    assert registry.get("metric", "distance").summary == "Counts."


@pytest.mark.parametrize("module", ["methods.consensus", "problems.toy_logistic"])
def test_import_from_the_repository_root_is_refused(module):
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(rf"ContractError: {module} is a second copy.*dncbench\.{module}$", last)
