"""Specifications as text: names, settings, labels."""

import pytest

from dncbench.configure import configure, label, settings_of
from dncbench.errors import UnknownNameError


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("method", "consensus", {"weights": "matrix"}),
        ("method", "consensus[]", {"weights": "matrix"}),
        ("method", "consensus[weights=shard]", {"weights": "shard"}),
        ("method", "  consensus [ weights = shard ] ", {"weights": "shard"}),
        ("method", "consensus[weights='coordinate']", {"weights": "coordinate"}),
        ("method", "parametric[debias=false]", {"debias": False}),
        ("method", "parametric[debias=True]", {"debias": True}),
        ("method", "pooled", {}),
        (
            "problem",
            "toy-logistic[num_shards=3,prior_variance=2.5]",
            {"num_shards": 3, "prior_variance": 2.5, "num_observations": 1000, "published": False},
        ),
    ],
)
def test_spec_gives_its_settings(kind, spec, expected):
    entry, instance = configure(kind, spec)
    assert settings_of(instance) == expected
    assert isinstance(instance, entry.target)
    for key, value in expected.items():
        assert type(settings_of(instance)[key]) is type(value)


def test_keywords_are_settings_too():
    _, instance = configure("problem", "toy-logistic[num_shards=3]", num_observations=30)
    assert (instance.num_shards, instance.num_observations) == (3, 30)


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("method", "consensus", "consensus"),
        ("method", "consensus[weights=matrix]", "consensus"),
        ("method", "consensus[weights=shard]", "consensus[weights=shard]"),
        ("method", "parametric[debias=false]", "parametric[debias=False]"),
        ("method", "parametric[debias=off]", "parametric[debias=False]"),
        ("method", "parametric[debias=on]", "parametric"),
        (
            "problem",
            "toy-logistic[prior_variance=2.5,num_shards=3]",
            "toy-logistic[num_shards=3,prior_variance=2.5]",
        ),
    ],
)
def test_label_names_what_differs_from_the_defaults_and_reads_back(kind, spec, expected):
    entry, instance = configure(kind, spec)
    assert label(entry, instance) == expected
    assert configure(kind, expected)[1] == instance


def test_equal_specs_are_equal_values():
    one, other = (configure("method", "consensus[weights=shard]")[1] for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != configure("method", "consensus")[1]


def test_unknown_setting_suggests_the_nearest_and_lists_all():
    with pytest.raises(UnknownNameError) as caught:
        configure("problem", "toy-logistic[num_shard=3]")
    message = str(caught.value)
    assert message.startswith("problem 'toy-logistic' has no setting 'num_shard'")
    assert "did you mean num_shards" in message
    assert message.endswith("its settings: num_shards, prior_variance, num_observations, published")


def test_method_without_settings_says_none():
    with pytest.raises(UnknownNameError, match="no setting 'width'; its settings: none"):
        configure("method", "pooled", width=3)


def test_unknown_value_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="weights='shards'; did you mean shard"):
        configure("method", "consensus[weights=shards]")


def test_setting_without_a_value_is_refused():
    with pytest.raises(UnknownNameError, match="write the setting 'weights' as weights=VALUE"):
        configure("method", "consensus[weights]")


@pytest.mark.parametrize(
    "spec", ["consensus[weights=shard", "consensus]", "", "a[b=1][c=2]", "[x=1]"]
)
def test_malformed_spec_is_refused(spec):
    with pytest.raises(UnknownNameError, match="is not of the form NAME or NAME"):
        configure("method", spec)


def test_unknown_name_in_a_spec_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean consensus"):
        configure("method", "consenus[weights=shard]")
