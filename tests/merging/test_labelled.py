"""Draws that carry labels or a meaning: matched by name, or refused, and never stripped."""

import collections
import datetime
import decimal
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dncbench
import dncbench.methods.baselines
from dncbench.errors import DrawsError

RNG = np.random.default_rng(0)
VALUES = RNG.standard_normal((2, 50, 2)) + np.array([0.0, 5.0])


class Column:
    """A Series, as far as dncbench looks at one."""

    def __init__(self, array, dtype: str = "", index=None) -> None:
        self.array = np.asarray(array)
        self.dtype = dtype or str(self.array.dtype)
        self.index = range(len(self.array)) if index is None else index

    def to_numpy(self) -> np.ndarray:
        return self.array


class Frame:
    """A DataFrame, as far as dncbench looks at one: columns, rows with an index."""

    def __init__(self, columns: dict, index=None) -> None:
        self.columns = list(columns)
        self._columns = {
            name: column if isinstance(column, Column) else Column(column)
            for name, column in columns.items()
        }
        self.index = range(len(self)) if index is None else index

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())).array)

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]


def columns(shard: int, names: str = "ab") -> dict:
    return {name: VALUES[shard, :, "ab".index(name)] for name in names}


def pooled(values, **more):
    return dncbench.merge(values, "pooled", num_draws=100, **more)


PLAIN = pooled(VALUES).draws


# ---------------------------------------------------------------- read by name


@pytest.mark.parametrize("make", [Frame, dict, types.MappingProxyType], ids=lambda make: str(make))
def test_coordinates_are_matched_by_name(make) -> None:
    result = pooled([make(columns(0)), make(columns(1, "ba"))])
    np.testing.assert_array_equal(result.draws, PLAIN)
    assert result.info["parameters"] == ["a", "b"]
    assert result.info["warnings"] == []


def test_a_mapping_may_hold_vectors() -> None:
    shards = [{"x": shard.tolist(), "y": jnp.asarray(shard[:, 0])} for shard in VALUES]
    result = pooled(shards)
    assert result.info["parameters"] == ["x[0]", "x[1]", "y"]
    np.testing.assert_array_equal(result.draws, np.column_stack([PLAIN, PLAIN[:, 0]]))


@pytest.mark.parametrize("name", ["lp__", "chain__", ".chain", ".draw", "accept_stat__"])
def test_columns_that_samplers_write_are_left_out_and_named(name: str) -> None:
    result = pooled([Frame(columns(0) | {name: np.ones(50)}), Frame(columns(1))])
    np.testing.assert_array_equal(result.draws, PLAIN)
    assert result.info["warnings"] == [f"values: left out {name}, which samplers write"]


@pytest.mark.parametrize("name", ["chain", "draw", "iteration", "Unnamed: 0", "Chain", "lp", ""])
def test_columns_that_may_be_no_parameters_are_refused(name: str) -> None:
    with pytest.raises(DrawsError, match=rf"values of shard 1 has a column '{name}'.*rename it"):
        pooled([Frame(columns(0)), Frame(columns(1) | {name: np.ones(50)})])


def test_names_are_in_messages() -> None:
    bad = columns(1) | {"b": np.full(50, np.nan)}
    with pytest.raises(DrawsError, match=r"draw 0, coordinate 1 \(b\)"):
        pooled([columns(0), bad])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (VALUES[1], r"shard 1 has no names .*ndarray"),
        (columns(1, "a"), "shard 1 lacks b, compared with values of shard 0"),
        (columns(1) | {"c": np.ones(50)}, "shard 1 has c besides"),
        (columns(1) | {1: np.ones(50), "1": np.ones(50)}, "more than one '1'"),
        (columns(1) | {("x", 1): np.ones(50)}, r"names a coordinate \('x', 1\), of type tuple"),
        (columns(1) | {"b": np.ones(49)}, "different numbers of draws"),
        (columns(1) | {"b": np.ones((4, 50))}, r"'b', has shape \(4, 50\); .*chains one after"),
        (columns(1) | {"b": np.ones((50, 2, 2))}, r"matrices flattened"),
        ({}, "has no parameters"),
        (Frame(columns(1) | {"b": Column(["x"] * 50, "object")}), "'b', has dtype object"),
        (Frame(columns(1) | {"b": Column(np.ones(50), "category")}), "'b', has dtype category"),
        (Frame(columns(1) | {"b": Column(np.ones(50), "pint[m]")}), "'b', has dtype pint"),
        (Frame(columns(1) | {"b": np.ones(50, bool)}), "'b', has dtype bool"),
        (Frame(columns(1) | {"b": np.ones(50, "M8[s]")}), r"'b', has dtype datetime64\[s\]"),
        (Frame(columns(1) | {"b": np.ones(50) * 1j}), "'b', has dtype complex128"),
    ],
)
def test_labels_that_do_not_agree(other, message: str) -> None:
    with pytest.raises(DrawsError, match=message):
        pooled([Frame(columns(0)), other])


@pytest.mark.parametrize(
    "whole", [Frame(columns(0)), columns(0), Column(VALUES[0, :, 0])], ids=lambda one: type(one)
)
def test_one_table_is_not_all_shards(whole) -> None:
    with pytest.raises(DrawsError, match=r"values is one .*; pass a list with one for each shard"):
        pooled(whole)


# ---------------------------------------------------------------- what goes with the values


@pytest.fixture
def seen(clean_registry) -> dict:
    found: dict = {}

    @dncbench.register_method("sees")
    class Sees(dncbench.Method):
        """Shows the test what it was given."""

        needs = frozenset({"draws", "log_density", "score"})
        untraced = frozenset({"begin", "finish"})

        def fit(self, shard, key):
            found.setdefault("log_density", []).append(np.asarray(shard.log_density))
            found.setdefault("score", []).append(np.asarray(shard.score))
            return shard.values

        def merge(self, messages, key, num_draws):
            return np.asarray(messages[0])[:num_draws], {}

    return found


def test_scores_follow_the_order_of_the_values(seen: dict) -> None:
    values = [Frame(columns(0)), Frame(columns(1))]
    score = [Frame(columns(0, "ba")), Frame(columns(1))]
    log_density = [Column(np.arange(50.0)), np.arange(50)]
    dncbench.merge(values, "sees", score=score, log_density=log_density, num_draws=9)
    np.testing.assert_array_equal(seen["score"][:2], VALUES)
    np.testing.assert_array_equal(seen["log_density"][0], np.arange(50.0))


@pytest.mark.parametrize(
    ("argument", "labelled"), [("log_density", True), ("log_density", False), ("score", True)]
)
def test_rows_in_another_order_are_refused(argument: str, labelled: bool) -> None:
    values = [Frame(columns(s)) for s in range(2)] if labelled else VALUES
    backwards = list(range(50))[::-1]
    given = {
        "log_density": Column(np.arange(50.0), index=backwards),
        "score": Frame(columns(0), index=backwards),
    }[argument]
    with pytest.raises(DrawsError, match=rf"{argument} of shard 0 has another index"):
        pooled(values, **{argument: [given, given]})


def test_log_densities_are_one_column() -> None:
    with pytest.raises(DrawsError, match=r"log_density of shard 0 is a .*Frame; pass one column"):
        pooled(VALUES, log_density=[Frame(columns(0))] * 2)


# ---------------------------------------------------------------- types with a meaning


def tensor(**more):
    """What a PyTorch tensor shows of itself."""
    array = more.pop("array", VALUES)
    attributes = {
        "__module__": "torch",
        "is_sparse": False,
        "names": (None,) * 3,
        "detach": lambda self: self,
        "cpu": lambda self: self,
        "double": lambda self: self,
        "is_floating_point": lambda self: array.dtype.kind == "f",
        "numpy": lambda self: array,
        "__len__": lambda self: len(array),
    }
    return type("Tensor", (), attributes | more)()


@pytest.mark.parametrize(
    "same",
    [tensor(), VALUES.astype(np.longdouble), tuple(map(jnp.asarray, VALUES)), VALUES.tolist()],
    ids=["torch", "longdouble", "tuple", "lists"],
)
def test_plain_numbers_are_read(same) -> None:
    np.testing.assert_array_equal(pooled(same).draws, PLAIN)


def test_whole_numbers_and_short_floats_are_read() -> None:
    for dtype in (np.int8, np.uint64, np.float16, jnp.bfloat16):
        expected = np.abs(VALUES).astype(dtype).astype(float)
        merged = pooled(jnp.asarray(np.abs(VALUES)).astype(dtype)).draws
        np.testing.assert_array_equal(merged, pooled(expected).draws)


Named = collections.namedtuple("Named", "a b")
CYCLIC: list = []
CYCLIC.append(CYCLIC)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ma.masked_greater(VALUES, 1.0), "type numpy.MaskedArray"),
        ([VALUES[0], VALUES[1].view(np.recarray)], "shard 1 is of type numpy.recarray"),
        (np.ones((2, 9, 2), [("a", float)]), "records .*mapping"),
        (VALUES + 0j, "complex numbers .*real and the imaginary part"),
        (VALUES.astype("M8[s]"), "dates"),
        (VALUES.astype("m8[s]"), "durations"),
        (VALUES > 0, "truth values"),
        (VALUES.astype(str), "text"),
        (VALUES.astype(object), "Python objects"),
        (tensor(array=VALUES + 0j), "complex numbers"),
        (tensor(is_sparse=True), "dense tensor"),
        (tensor(names=("shard", "draw", None)), "plain, dense tensor"),
        (jax.random.split(jax.random.key(0), (2, 9, 2)), "no plain numbers"),
        ({1.0, 2.0}, "type set"),
        ("abc", "type str"),
        (iter(VALUES), "must be an array or a list"),
        ([[[1.0, None], [2.0, 3.0]]], "type NoneType"),
        ([[[1.0, True], [2.0, 3.0]]], "type bool"),
        ([[[1.0, "2"], [2.0, 3.0]]], "type str"),
        ([[[1.0, 2j], [2.0, 3.0]]], "type complex"),
        ([[[1.0, decimal.Decimal(1)], [2.0, 3.0]]], "type decimal.Decimal"),
        ([[[1.0, datetime.timedelta(1)], [2.0, 3.0]]], "type datetime.timedelta"),
        ([[[1.0, np.timedelta64(1)], [2.0, 3.0]]], "type numpy.timedelta64"),
        ([[Named(1.0, 2.0)] * 9] * 2, "Named"),
        ([[[1.0, 2.0], [3.0]]], "shard 0 is ragged"),
        (CYCLIC, "nested more than 3 deep"),
        (np.full((2, 9, 2), 2**53 + 1), "whole number 9007199254740993, beyond"),
        ([[[1.0, 2**53 + 1]] * 9], "whole number 9007199254740993"),
        ([[[1, 2**90]] * 9], "beyond 2"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_a_type_with_a_meaning_is_refused_by_its_name(given, message: str) -> None:
    with pytest.raises(DrawsError, match=message):
        pooled(given)


# ---------------------------------------------------------------- numbers of draws, seeds


@pytest.mark.parametrize("number", [9, np.int64(9), np.uint8(9)])
def test_any_integer_type_counts(number) -> None:
    expected = dncbench.merge(VALUES, "average", num_draws=9, seed=9).draws
    merged = dncbench.merge(VALUES, "average", num_draws=number, seed=number).draws
    np.testing.assert_array_equal(merged, expected)


@pytest.mark.parametrize("argument", ["num_draws", "seed"])
@pytest.mark.parametrize("wrong", [None, 1.5, True, np.True_, "3", 2**70, np.float64(3)])
def test_what_is_no_whole_number_is_refused(argument: str, wrong) -> None:
    with pytest.raises(DrawsError, match=rf"^{argument} is .*; pass a whole number"):
        dncbench.merge(VALUES, "pooled", **{argument: wrong})
