"""A new metric on old runs: read on the draws that were kept, and nothing else touched."""

import copy
import functools
import shutil

import pytest
from click.testing import CliRunner
from handmade import copied_plugins

from dncbench.cli import main
from dncbench.running.cache_keys import merged_key
from dncbench.storage.cache import Cache
from dncbench.storage.records import Records

METRIC = '''
from dncbench import register_metric
from dncbench.metrics.sample import Figure


@register_metric("offset")
def offset(approximation, reference):
    """Difference of the first coordinate's means."""
    gap = approximation.values[:, 0].mean() - reference.values[:, 0].mean()
    return Figure(abs(gap), 0.01)
'''


@pytest.fixture(scope="module")
def scored(tmp_path_factory, session_cache, module_registry):
    """Records before and after ``dncbench score``, and what it said."""
    folder = tmp_path_factory.mktemp("rescoring")
    plugins = copied_plugins(folder, "tiny")
    places = ["--results", str(folder / "results"), "--cache", str(session_cache)]
    run = ["run", *plugins, "--problem", "tiny", "--method", "average", "--method", "oracle"]
    done = CliRunner().invoke(main, [*run, "--budget", "smoke", "--splits", "1", *places])
    assert done.exit_code == 0, done.output
    before = list(Records(folder / "results"))
    file = folder / "offset.py"
    file.write_text(METRIC)
    command = ["score", *plugins, "--plugin", str(file), "--metric", "offset", *places]
    first = CliRunner().invoke(main, command)
    after = list(Records(folder / "results"))
    again = CliRunner().invoke(main, command)
    nowhere = folder / "empty"
    shutil.copytree(folder / "results", folder / "copy")
    for record in before:
        Records(folder / "copy").put(record)
    gone = CliRunner().invoke(main, [*command[:-3], str(folder / "copy"), "--cache", str(nowhere)])
    return before, after, first, again, gone


def test_the_metric_is_read_on_kept_draws(scored, session_cache) -> None:
    before, after, first, *_ = scored
    assert first.exit_code == 0, first.output
    assert "2 records scored, 0 had these metrics, 0 without kept draws" in first.stdout
    for old, new in zip(before, after, strict=True):
        (name,) = new["metrics"].keys() - old["metrics"]
        assert name.startswith("offset@1+")  # a plugin's, with a digest of its source
        figure = new["metrics"].pop(name)
        kept = Cache(session_cache).get("merged", merged_key(old))
        assert kept is not None
        assert figure["value"] >= 0.0
        assert figure["noise_floor"]["mean"] > 0.0
        assert new.pop("seal") != old.pop("seal")
        assert new == old | {"metrics_not_applicable": sorted(old["metrics_not_applicable"])}


def test_a_second_time_there_is_nothing_to_do(scored) -> None:
    again = scored[3]
    assert "0 records scored, 2 had these metrics" in again.stdout


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("path", [("settings", "problem", "num_shards"), ("budget", "num_draws")])
def test_draws_of_a_label_that_meant_something_else_are_not_read(
    scored, session_cache, tmp_path, path
) -> None:
    before, *_ = scored
    store, cache = Records(tmp_path / "results"), Cache(session_cache)
    for record in copy.deepcopy(before):
        arrays, info = cache.get("merged", merged_key(record))
        *parents, last = path
        functools.reduce(dict.__getitem__, parents, record)[last] = 7
        cache.put("merged", merged_key(record), arrays, info)
        store.put(record)
    file = tmp_path / "again.py"
    file.write_text(METRIC.replace('"offset"', '"again"'))
    places = ["--results", str(store.root), "--cache", str(session_cache)]
    command = ["score", "--plugin", str(file), "--metric", "again", *places]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "0 records scored, 0 had these metrics, 2 without kept draws" in done.stdout


def test_draws_that_are_gone_are_said_to_be(scored) -> None:
    gone = scored[4]
    assert gone.exit_code == 0, gone.output
    assert "0 records scored, 0 had these metrics, 2 without kept draws" in gone.stdout


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 / 0", "metric 'mine' raised ZeroDivisionError: division by zero. A metric"),
        ("return abs(gap)", "metric 'mine' returned float64. A metric takes two Samples"),
    ],
)
def test_a_metric_that_breaks_is_named_with_the_remedy(
    scored, session_cache, tmp_path, body, said
) -> None:
    before, *_ = scored
    for record in before:
        Records(tmp_path / "results").put(record)
    file = tmp_path / "mine.py"
    file.write_text(
        METRIC.replace('"offset"', '"mine"').replace("return Figure(abs(gap), 0.01)", body)
    )
    places = ["--results", str(tmp_path / "results"), "--cache", str(session_cache)]
    command = ["score", "--plugin", str(file), "--metric", "mine", *places]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1, done.output
    assert "2 records have no figure of a metric that failed" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.output
    for old, new in zip(before, Records(tmp_path / "results"), strict=True):
        ((name, reason),) = new["metrics_failed"].items()  # tried again by the next run
        assert name.startswith("mine@1+")
        assert said in reason
        assert new["metrics"] == old["metrics"]


def test_an_unknown_metric_is_named(tmp_path) -> None:
    done = CliRunner().invoke(main, ["score", "--metric", "mha", "--results", str(tmp_path)])
    assert done.exit_code == 2
    assert "mah" in done.output
