"""What the page of a discrete problem shows: laws object by object, client by client, as maps."""

import itertools
import re
import shlex
from html import unescape
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

import dncbench.running.cells
from dncbench import Method, register_method
from dncbench.budget import get as get_budget
from dncbench.cli.running import run
from dncbench.report import build, law_figures
from dncbench.report.laws import DECADES, LEVELS, SIDE, Axes, clients, cloud, maps
from dncbench.report.page import Training
from dncbench.running.cache_keys import merged_key
from dncbench.running.cached import Cached
from dncbench.running.cells import run_cell
from dncbench.running.plan import Case, plan
from dncbench.running.prepared import prepare
from dncbench.running.progress import Silent
from dncbench.storage.cache import Cache
from dncbench.storage.records import Records, validate

PROBLEM, SIZE = "grid-world[size=4]", 16
COURSE = (0.2, 0.6, 1.0)  # how much of the way from the flat law


class _Told(Method):
    """The product of the clients' laws, each flattened a little; all of it is told."""

    needs = frozenset({"model"})
    spaces = frozenset({"codes"})

    def fit(self, shard, key):
        return 0.9 * jax.vmap(shard.density)(jnp.arange(SIZE))

    def merge(self, messages, key, num_draws):
        law = jax.nn.log_softmax(messages.sum(0))
        course = jnp.array(COURSE)[:, None]
        return jax.random.categorical(key, law, shape=(num_draws,)), {
            "log_probs": law,
            "client_log_probs": jax.nn.log_softmax(messages, axis=1),
            "laws": course * jnp.exp(law)[None] + (1 - course) / SIZE,
        }


class _Silent(_Told):
    """The same, and nothing is told."""

    def merge(self, messages, key, num_draws):
        return super().merge(messages, key, num_draws)[0], {}


@pytest.fixture(scope="module")
def ran(tmp_path_factory, module_registry):
    """Records of both methods, what they were made by, and where the draws are."""
    register_method("told", version=1)(_Told)
    register_method("silent", version=1)(_Silent)
    folder = tmp_path_factory.mktemp("laws")
    cache, store = Cache(folder / "cache"), Records(folder / "results")
    budget = get_budget("smoke")
    case, names = Case(PROBLEM, 1), ["told", "silent"]
    planned = plan([case], names, seed=0, budget=budget, records=store)
    first = planned.todo[0]
    ready = prepare(
        first.problem_entry, first.problem, first.terms, budget, cache, Silent(), {"tv@1"}
    )
    made = {cell.method_entry.name: run_cell(ready, cell) for cell in planned.todo}
    assert [made[name]["status"] for name in names] == ["ok", "ok"], made
    cells = {cell.method_entry.name: cell for cell in planned.todo}
    return SimpleNamespace(records=made, ready=ready, cells=cells, cache=cache)


def _page(ran, tmp_path, **changed) -> str:
    store = Records(tmp_path / "store")
    for record in ran.records.values():
        store.put(record | changed)
    return build(store, cache=ran.cache.root)


def _labels(text: str) -> list[str]:
    return re.findall(r'<svg[^>]*aria-label="([^"]*)"', text)


# ---------------------------------------------------------------- what a run keeps


def test_a_record_has_the_distance_in_the_course_of_training(ran) -> None:
    record = ran.records["told"]
    validate(record)
    assert [step["share"] for step in record["training"]] == pytest.approx([1 / 3, 2 / 3, 1])
    law = np.exp(ran.cache.get("merged", merged_key(record))[0]["log_probs"])
    truth = np.exp(ran.ready.reference.log_probs)
    expected = [0.5 * np.abs(c * law + (1 - c) / SIZE - truth).sum() for c in COURSE]
    assert [step["tv"] for step in record["training"]] == pytest.approx(expected, abs=1e-12)
    assert expected[-1] == pytest.approx(record["metrics"]["tv@1"]["value"], abs=1e-12)
    assert not {"laws", "log_probs", "client_log_probs"} & record["info"].keys()
    assert {"training", "client_laws"}.isdisjoint(ran.records["silent"])


def test_laws_of_clients_are_kept_beside_the_true_ones(ran) -> None:
    record, ready = ran.records["told"], ran.ready
    cached = Cached(record, ran.cache)
    rewards = ready.problem.log_rewards(ready.data, ready.split(0))
    true = cached.true_client_laws(0)
    np.testing.assert_allclose(true, np.exp(log_softmax(rewards, axis=1)), atol=1e-12)
    learned = cached.client_laws(record)
    expected = np.exp(log_softmax(0.9 * rewards, axis=1))
    np.testing.assert_allclose(learned, expected, rtol=1e-5)  # kept in float32
    assert cached.client_laws(ran.records["silent"]) is None


def test_laws_of_very_many_objects_are_not_kept(ran, monkeypatch) -> None:
    monkeypatch.setattr(dncbench.running.cells, "_MOST_OBJECTS", SIZE - 1)
    again = run_cell(ran.ready, ran.cells["told"])
    assert again["status"] == "ok"
    assert "client_laws" not in again
    assert again["training"] == ran.records["told"]["training"]


# ---------------------------------------------------------------- the page


def test_the_page_shows_laws_clients_and_maps(ran, tmp_path) -> None:
    text = _page(ran, tmp_path)
    tv = {name: record["metrics"]["tv@1"]["value"] for name, record in ran.records.items()}
    dots = "Learned against true probability of every object: "
    labels = _labels(text)
    for name in ("told", "silent"):
        assert f"{dots}{name}, total variation {tv[name]:.3g}" in labels
        assert f"Probability of every cell: {name}" in labels
    assert "Probability of every cell: the truth" in labels
    assert sum(label.startswith(f"{dots}told, client ") for label in labels) == 4
    assert not any(label.startswith(f"{dots}silent, client ") for label in labels)
    assert "silent<br>" in text
    assert f"told<br>tv {tv['told']:.3g}</figcaption>" in text
    assert f"silent<br>tv {tv['silent']:.3g} (of draws)</figcaption>" in text
    assert f"Every one of the {SIZE} objects is drawn" in text
    assert "Draws against the truth" not in text  # smooth densities of what is not smooth
    assert "not shown" not in text


@pytest.mark.parametrize(
    ("load", "foot", "said"),
    [
        (0.0, "seconds: slowest client + merge", "dealt evenly over its training"),
        (1.0, "share of the merge&#39;s training", "because every run was beside other work"),
    ],
)
def test_training_is_against_seconds_where_a_run_was_alone(ran, tmp_path, load, foot, said) -> None:
    text = _page(ran, tmp_path, other_load_cores=load)
    first, *_, last = [step["tv"] for step in ran.records["told"]["training"]]
    wanted = f"Total variation as merges are trained: told {first:.3g} to {last:.3g}"
    assert wanted in _labels(text)
    assert foot in text
    assert said in text


@pytest.mark.parametrize(
    ("kind", "method", "what"),
    [("merged", "silent", "laws of silent"), ("client-laws", "told", "client by client: told")],
)
@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_what_the_cache_lost_is_said_with_the_command(
    ran, tmp_path, kind, method, what, damage, capsys
) -> None:
    record = ran.records[method]
    arrays, info = ran.cache.get(kind, merged_key(record))
    try:
        if damage == "lost":
            ran.cache.path(kind, merged_key(record)).unlink()
        else:
            ran.cache.put(kind, merged_key(record), {n: a[::-1] for n, a in arrays.items()}, info)
        text = _page(ran, tmp_path)
    finally:
        ran.cache.put(kind, merged_key(record), arrays, info)
    (said,) = re.findall(rf"{what}: not in the cache, made anew by: ([^<;]*)", unescape(text))
    assert ("is damaged" in capsys.readouterr().err) == (damage == "changed")
    words = shlex.split(said)
    given = run.make_context("run", words[2:]).params
    assert given["force"]
    assert (given["problems"], given["methods"]) == ((PROBLEM,), (method,))
    planned = plan(
        [Case(PROBLEM, given["splits"])],
        given["methods"],
        seed=given["seed"],
        budget=get_budget(given["budget_name"]),
        records=Records(tmp_path / "none"),
    )
    assert [cell.identity.to_json() for cell in planned.todo] == [record["identity"]]


def test_a_reference_without_a_law_shows_none(ran, tmp_path, monkeypatch) -> None:
    bare = SimpleNamespace(log_probs=None, checks=[], embedded=ran.ready.reference.embedded)
    monkeypatch.setattr(Cached, "reference", bare)
    text = _page(ran, tmp_path)
    assert "laws: the true probabilities of all objects are not known" in text
    assert "Merged laws against the truth" not in text


# ---------------------------------------------------------------- dots


def _some(size: int, seed: int = 0) -> np.ndarray:
    return np.exp(log_softmax(3.0 * np.random.default_rng(seed).standard_normal(size)))


def test_a_law_that_is_the_true_one_is_on_the_diagonal() -> None:
    truth = _some(500)
    ((found,),) = clients(truth[None], {"m": truth[None]}).values()
    assert found.tv == 0.0
    x, y = found.places.T
    low = found.axes.down(found.axes.low)
    assert np.abs((low - y) - x).max() <= 1  # rounded to whole units
    assert x.min() >= 0
    assert x.max() <= SIDE


def test_what_is_outside_is_at_the_edge_and_no_object_is_lost() -> None:
    truth = np.array([0.5, 0.4, 0.1 - 1e-20, 1e-20])
    law = np.array([0.6, 0.4, 0.0, 1e-9])
    ((found,),) = clients(truth[None], {"m": law[None]}).values()
    assert found.axes.high - found.axes.low == pytest.approx(1.06 * DECADES)
    places = found.places.tolist()
    assert len(places) == 4
    assert places[0][0] == 0  # 1e-20 is below twelve decades
    assert max(y for _, y in places) == round(found.axes.height)  # and 0 below everything
    assert found.tv == pytest.approx(0.5 * (0.1 + 0.0 + 0.1 + 1e-9))


def test_objects_at_one_place_are_one_dot_and_the_drawing_stays_small() -> None:
    truth, noise = _some(50_000), np.random.default_rng(1).standard_normal(50_000)
    law = truth * np.exp(noise)
    axes = Axes(-14.0, -1.0, -17.0, -0.5)
    found = cloud(axes, truth, law / law.sum())
    assert len(np.unique(found.places, axis=0)) == len(found.places)
    drawn = str(law_figures.dots(found, "m"))
    assert len(drawn) < 12_000
    # The path, followed, stands at every place and nowhere else.
    (path,) = re.findall(r'class="dots" d="M0 0([^"]*)"', drawn)
    at, stood = np.zeros(2, int), []
    for dx, dy, run_of in re.findall(r"m(-?\d+) ?(-?\d+)v(\d+)", path):
        at = at + np.array([int(dx), int(dy)])
        stood += [(at[0], at[1] + i) for i in range(int(run_of) + 1)]
        at = at + np.array([0, int(run_of)])
    assert sorted(stood) == sorted(map(tuple, found.places.tolist()))


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (-4.2, -0.5, ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"]),
        (-2.4, -1.6, ["5·10⁻³", "10⁻²", "2·10⁻²"]),
        (-13.0, -0.5, ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³"]),
        (-3.1, -1.6, ["10⁻³", "3·10⁻³", "10⁻²"]),
        (-4.4, -3.9, ["5·10⁻⁵", "10⁻⁴"]),
    ],
)
def test_ticks_are_round_probabilities(low, high, texts) -> None:
    assert list(map(law_figures._power, law_figures._decades(low, high))) == texts


# ---------------------------------------------------------------- maps


def _lattice(columns: int, rows: int) -> np.ndarray:
    """In no particular order."""
    points = np.array(list(itertools.product(range(columns), range(rows))), dtype=float)
    return np.random.default_rng(2).permutation(points)


def test_a_lattice_has_maps_whose_first_coordinate_goes_across() -> None:
    points = _lattice(3, 4) * [0.1, 7.0] + [2.0, -1.0]
    truth = np.where((points == [2.2, -1.0]).all(1), 0.56, 0.04)  # last column, lowest row
    found = maps(points, ("a", "b"), truth, {"m": np.full(12, 1 / 12)})
    assert found is not None
    assert found.ranges == ((2.0, pytest.approx(2.2)), (-1.0, 20.0))
    assert found.levels[""].shape == (3, 4)
    assert found.levels[""][2, 0] == LEVELS
    assert np.sort(found.levels[""].ravel()).tolist() == [1] * 11 + [LEVELS]
    drawn = str(law_figures.cells(found, ""))
    assert f'<path class="m{LEVELS}" d="M2 3h1v1h-1z"/>' in drawn  # SVG counts from above
    assert "Probability of every cell: the truth" in drawn


def test_probabilities_above_the_largest_true_one_have_the_last_colour() -> None:
    points = _lattice(2, 2)
    found = maps(points, ("a", "b"), np.full(4, 0.25), {"m": np.array([0.9, 0.1, 0.0, 0.0])})
    assert found is not None
    assert sorted(found.levels["m"].ravel().tolist()) == [0, 0, 4, LEVELS]
    assert "0.25 or more" in str(law_figures.scale(found))


@pytest.mark.parametrize(
    "points",
    [
        _lattice(3, 3)[:-1],
        np.vstack([_lattice(3, 3)[:-1], _lattice(3, 3)[:1]]),
        np.column_stack([_lattice(3, 3), np.arange(9.0)]),
        np.column_stack([np.arange(9.0), np.zeros(9)]),
        np.arange(9.0)[:, None],
    ],
    ids=["a hole", "twice", "three", "flat", "one"],
)
def test_what_is_no_full_lattice_has_no_maps(points) -> None:
    law = np.full(len(points), 1 / len(points))
    assert maps(points, tuple("abc"[: points.shape[1]]), law, {"m": law}) is None


def test_at_most_twelve_maps_are_drawn_and_the_others_are_named() -> None:
    law = np.full(4, 0.25)
    merged = {f"m{i}": law for i in range(14)}
    found = maps(_lattice(2, 2), ("a", "b"), law, merged)
    assert found is not None
    assert len(found.levels) == 12
    assert found.left_out == ["m11", "m12", "m13"]


# ---------------------------------------------------------------- training


def test_curves_of_training_share_their_axes_and_zero_can_be_drawn() -> None:
    lines = [Training("a", [0.5, 0.05], [1.0, 2.0]), Training("b", [0.4, 0.0], [2.0, 4.0])]
    drawn = str(law_figures.training(lines, True, {"a": 0, "b": 1}))
    assert "a 0.5 to 0.05, b 0.4 to 0" in drawn
    paths = re.findall(r'class="series shown c\d d0" d="M(\d+) (\d+)l(-?\d+) ?(-?\d+)"', drawn)
    (ax, ay, adx, ady), (bx, by, bdx, bdy) = ([int(n) for n in path] for path in paths)
    assert ax + adx == bx  # 2 s, half of all
    assert bx + bdx == 2 * bx
    assert ay < by < ay + ady < by + bdy  # smaller is further down
