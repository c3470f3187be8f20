"""Splits: partitions with no empty shard, as their schemes document them."""

import numpy as np
import pytest

from dncbench.errors import NotApplicableError, UnknownNameError
from dncbench.precision import derive_key
from dncbench.splits import assign, parse_scheme

SCHEMES = ["random", "sorted-by-label", "dirichlet:0.3", "dirichlet:5", "sizes:0.6", "sizes:1"]


def _key(index=0):
    return derive_key(0, "somewhere", f"split-{index}")


def _labels(num_observations, rate=0.3, classes=2):
    generator = np.random.default_rng(5)
    others = generator.integers(1, classes, num_observations)
    return np.where(generator.random(num_observations) < rate, others, 0)


def _sizes(shard_of, num_shards):
    return np.bincount(shard_of, minlength=num_shards)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("num_observations", "num_shards"), [(1000, 15), (61, 4), (40, 1)])
@pytest.mark.parametrize("index", [0, 1])
def test_every_scheme_is_a_partition_with_no_empty_shard(
    scheme, num_observations, num_shards, index
):
    labels = _labels(num_observations)
    shard_of = assign(scheme, _key(index), num_observations, num_shards, labels)
    assert shard_of.shape == (num_observations,)
    assert shard_of.dtype.kind == "i"
    np.testing.assert_array_equal(np.unique(shard_of), np.arange(num_shards))


@pytest.mark.parametrize("scheme", ["random", "sorted-by-label", "sizes:0.5", "sizes:0.01"])
@pytest.mark.parametrize("num_shards", [1, 2, 7])
def test_as_many_shards_as_observations_holds_one_each(scheme, num_shards):
    labels = np.arange(num_shards) % 2
    shard_of = assign(scheme, _key(), num_shards, num_shards, labels)
    np.testing.assert_array_equal(np.sort(shard_of), np.arange(num_shards))


@pytest.mark.parametrize("scheme", ["random", "sorted-by-label", "sizes:1"])
@pytest.mark.parametrize("num_observations", [45, 1000, 4601])
def test_equal_schemes_have_sizes_that_differ_by_one_at_most(scheme, num_observations):
    labels = _labels(num_observations)
    sizes = _sizes(assign(scheme, _key(), num_observations, 15, labels), 15)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.95])
def test_sizes_are_in_geometric_progression(ratio):
    num_observations, num_shards = 20_000, 5
    sizes = _sizes(assign(f"sizes:{ratio}", _key(), num_observations, num_shards), num_shards)
    share = ratio ** np.arange(num_shards)
    # Every shard is sure of one observation; the rest is dealt out in these shares.
    expected = 1 + share / share.sum() * (num_observations - num_shards)
    np.testing.assert_allclose(sizes, expected, rtol=0, atol=1)


def test_random_is_not_ordered_by_row():
    shard_of = assign("random", _key(), 1000, 2)
    first_half = np.mean(shard_of[:500])
    # Hypergeometric sd 0.0158; rows in order would give 0 or 1.
    assert abs(first_half - 0.5) < 4 * 0.0158


@pytest.mark.parametrize("classes", [2, 4])
def test_sorted_by_label_keeps_classes_together(classes):
    labels = _labels(1000, 0.5, classes)
    shard_of = assign("sorted-by-label", _key(), 1000, 15, labels)
    first_of_class = [shard_of[labels == value].min() for value in range(classes)]
    last_of_class = [shard_of[labels == value].max() for value in range(classes)]
    # Cut from one sorted row: a class ends in the shard where the next one may begin.
    for value in range(classes - 1):
        assert last_of_class[value] <= first_of_class[value + 1]
    mixed = sum(len(np.unique(labels[shard_of == s])) > 1 for s in range(15))
    assert mixed <= classes - 1


def test_sorted_by_label_shuffles_within_a_class():
    labels = np.zeros(1000)
    shard_of = assign("sorted-by-label", _key(), 1000, 2, labels)
    assert not np.all(np.diff(shard_of) >= 0)


def _imbalance(scheme, num_splits=20):
    """Mean total variation between a shard's share of each class and an even share."""
    labels = _labels(2000, 0.5)
    distances = []
    for index in range(num_splits):
        shard_of = assign(scheme, _key(index), 2000, 5, labels)
        for value in (0, 1):
            share = _sizes(shard_of[labels == value], 5) / np.sum(labels == value)
            distances.append(0.5 * np.sum(np.abs(share - 0.2)))
    return np.mean(distances)


def test_dirichlet_is_worse_for_smaller_alpha():
    steps = [_imbalance(f"dirichlet:{alpha}") for alpha in (0.5, 5, 500)]
    assert steps[0] > 2 * steps[1] > 8 * steps[2]


def test_dirichlet_shares_have_the_variance_of_their_law():
    alpha, num_shards, num_splits = 5.0, 5, 100
    labels = np.repeat([0, 1], 1000)
    shares = np.array(
        [
            _sizes(assign(f"dirichlet:{alpha}", _key(i), 2000, num_shards, labels)[labels == v], 5)
            for i in range(num_splits)
            for v in (0, 1)
        ]
    )
    shares = shares / 1000
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    # Var = (1/S)(1 - 1/S) / (S alpha + 1); 1000 values, four of every five free.
    expected = 0.2 * 0.8 / (num_shards * alpha + 1)
    assert np.mean((shares - 0.2) ** 2) == pytest.approx(expected, rel=4 * np.sqrt(2 / 800))


def test_dirichlet_of_huge_alpha_deals_every_class_evenly():
    labels = np.repeat([0, 1], [600, 400])
    shard_of = assign("dirichlet:1e8", _key(), 1000, 4, labels)
    for value, each in ((0, 150), (1, 100)):
        np.testing.assert_allclose(_sizes(shard_of[labels == value], 4), each, rtol=0, atol=1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_split_follows_from_its_key_alone(scheme):
    labels = _labels(500)
    first = assign(scheme, _key(0), 500, 6, labels)
    np.testing.assert_array_equal(first, assign(scheme, _key(0), 500, 6, labels))
    assert np.any(first != assign(scheme, _key(1), 500, 6, labels))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("scheme", "suggestion"),
    [("randm", "random"), ("sorted", "sorted-by-label"), ("dirichle:1", "dirichlet")],
)
def test_unknown_scheme_suggests_the_nearest(scheme, suggestion):
    with pytest.raises(UnknownNameError, match="no split scheme is called") as caught:
        parse_scheme(scheme)
    assert f"did you mean {suggestion}" in str(caught.value)
    assert "random, in-order, sorted-by-label, dirichlet:ALPHA, sizes:RATIO" in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "complaint"),
    [
        ("dirichlet", "write dirichlet:ALPHA with a number"),
        ("dirichlet:", "write dirichlet:ALPHA with a number"),
        ("dirichlet:much", "write dirichlet:ALPHA with a number"),
        ("dirichlet:0", "ALPHA must be above 0 and finite"),
        ("dirichlet:-1", "ALPHA must be above 0 and finite"),
        ("dirichlet:inf", "ALPHA must be above 0 and finite"),
        ("dirichlet:nan", "ALPHA must be above 0 and finite"),
        ("sizes", "write sizes:RATIO with a number"),
        ("sizes:0", "RATIO must be above 0 and at most 1"),
        ("sizes:1.5", "RATIO must be above 0 and at most 1"),
        ("random:3", "takes no number; drop ':3'"),
        ("sorted-by-label:", "takes no number; drop ':'"),
        ("sizes: 0.5", "write sizes:0.5$"),
        ("dirichlet:1_0", "write dirichlet:10$"),
        ("dirichlet:+3", "write dirichlet:3$"),
        ("dirichlet:1E3", "write dirichlet:1000$"),
    ],
)
def test_bad_number_is_refused_saying_what_to_write(scheme, complaint):
    with pytest.raises(UnknownNameError, match=complaint):
        assign(scheme, _key(), 100, 4, _labels(100))


@pytest.mark.parametrize(
    ("scheme", "parsed"), [("random", ("random", None)), ("dirichlet:0.3", ("dirichlet", 0.3))]
)
def test_scheme_is_a_name_and_a_number(scheme, parsed):
    assert parse_scheme(scheme) == parsed


@pytest.mark.parametrize("scheme", ["sorted-by-label", "dirichlet:1"])
def test_scheme_that_needs_labels_says_so(scheme):
    with pytest.raises(NotApplicableError, match=f"'{scheme}' needs labels"):
        assign(scheme, _key(), 100, 4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_more_shards_than_observations_is_refused(scheme):
    with pytest.raises(NotApplicableError, match="3 observations cannot fill 4 shards"):
        assign(scheme, _key(), 3, 4, np.array([0, 1, 1]))


def test_hopeless_alpha_is_refused():
    with pytest.raises(NotApplicableError) as caught:
        assign("dirichlet:0.001", _key(), 200, 20, _labels(200))
    assert "dirichlet:0.001 left a shard empty" in str(caught.value)
    assert "raise ALPHA or use fewer than 20 shards" in str(caught.value)
