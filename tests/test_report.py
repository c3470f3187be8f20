"""The report: its data, and the one file that they become."""

import json
import re
import shlex
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from handmade import failed, record
from report_pages import ENVIRONMENT, HOSTILE, handmade_page, report_records
from scipy import stats

from dncbench import densities, experiment
from dncbench.budget import get as get_budget
from dncbench.cli import main
from dncbench.cli.running import run
from dncbench.leaderboard import boards
from dncbench.report import Summary, features, floors, pareto
from dncbench.report.cells import command, rank_text
from dncbench.report.grouping import groups
from dncbench.report.kept import Kept
from dncbench.report.overlays import WIDTH, contours, overlays, telling
from dncbench.report.overview_figure import svg
from dncbench.report.page import distinguishing_terms, page
from dncbench.report.render import embedded, html
from dncbench.store import Records

VOID = {"meta", "link", "input", "wbr", "br", "img"}
LOADING = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class _Reader(HTMLParser):
    """Checks that elements close in order; keeps attributes and texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def having(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def shown():
    made = handmade_page()
    text = html(made)
    reader = _Reader(text)
    data = json.loads(next(t for tag, t in reader.texts if tag == "script" and t.startswith("{")))
    return SimpleNamespace(page=made, text=text, reader=reader, data=data)


def _cell(data, section, method):
    (found,) = [c for c in data["sections"][section]["cells"] if c["method"] == method]
    return found


# ---------------------------------------------------------------- the file


def test_every_element_closes_and_ids_are_used_once(shown):
    ids = [attributes["id"] for _, attributes in shown.reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"] for a in shown.reader.having("a")}
    assert {f"#{name}" for name in ("overview", "which", "problems", "reading")} <= links
    assert {link[1:] for link in links} <= set(ids)


def test_nothing_is_loaded(shown):
    for tag, attributes in shown.reader.elements:
        for name in LOADING & attributes.keys():
            assert attributes[name].startswith(("#", "data:")), (tag, name, attributes[name])
    (policy,) = [m["content"] for m in shown.reader.having("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    (style,) = [text for tag, text in shown.reader.texts if tag == "style"]
    assert "url(" not in style
    assert "@import" not in style
    # The source of the data is said, as text.
    assert "https://example.org" in shown.text


def test_every_cell_is_there_whatever_became_of_it(shown):
    cells = {
        attributes["data-cell"]
        for attributes in shown.reader.having("button")
        if "data-cell" in attributes
    }
    methods = shown.page.methods
    assert cells == {f"{s},{m}" for s in range(2) for m in range(len(methods))}
    assert set(methods) == {r["identity"]["method"]["label"] for r in report_records()}
    broken = _cell(shown.data, 0, "broken")
    assert (broken["state"], broken["status"]) == ("failed", "failed")
    assert broken["splits"] == ["split 0: failed; ValueError: no luck"]
    apart = _cell(shown.data, 0, "apart")
    assert apart["splits"] == ["split 0: not applicable; three dimensions at most"]
    partly = _cell(shown.data, 0, "partly")
    assert partly["status"] == "1 failed, 1 ok of 2 splits"
    assert partly["splits"] == [
        "split 0: the tails are heavy",
        "split 1: failed; ValueError: singular",
    ]
    shaky = _cell(shown.data, 0, "shaky")
    assert shaky["unreliable"]
    assert shaky["splits"] == ["split 0: unreliable; R-hat of the merge 1.4"]
    absent = _cell(shown.data, 1, "wild")
    assert absent["state"] == "no record"
    assert (
        absent["command"] == "dncbench run --problem other --method wild --splits 1 --budget smoke"
    )


def test_the_page_opens_with_who_reaches_the_floor(shown):
    assert shown.page.leaders == [("good", 1)]
    assert shown.page.unreached == 1
    said = " ".join(" ".join(text for _, text in shown.reader.texts).split())
    assert (
        "as good as perfect draws, in all headline metrics: good (1 of 2). "
        "On 1 of 2 no merge gets there." in said
    )


def test_terms_that_all_problems_share_are_not_repeated():
    made = page(groups([record("a"), record("a", seed=7)]), [Kept(), Kept()])
    assert distinguishing_terms(made) == ["seed 0", "seed 7"]
    assert distinguishing_terms(page(groups([record("a")]), [Kept()])) == [""]


def test_a_cell_says_where_it_comes_from(shown):
    good = _cell(shown.data, 0, "good")
    assert good["command"] == "dncbench run --problem made --method good --splits 3 --budget smoke"
    (place,) = good["environments"]
    assert dict(shown.data["environments"][place]) == {
        "commit": "0123456789ab",
        "python": "3.11",
        "packages": "numpy 2.0",
    }
    assert good["created"] == "2024-01-01"
    assert ["peak memory of the process", "300 MiB"] in good["facts"]
    figures = {line[0]: line[1:] for line in good["figures"]}
    assert figures["mah@1"] == ["0.560 (0.010)*°", "0.0058", "0.5 ± 0.1", "1.1", "1"]


def test_labels_and_reasons_are_text_whatever_they_hold():
    text = html(handmade_page(HOSTILE, [Summary(HOSTILE, HOSTILE, [HOSTILE], [[HOSTILE]])]))
    reader = _Reader(text)
    assert len(reader.having("script")) == 2
    scripts = [text for tag, text in reader.texts if tag == "script"]
    assert not any("alert(" in text for text in scripts if not text.startswith("{"))
    assert HOSTILE not in text
    data = json.loads(next(text for text in scripts if text.startswith("{")))
    assert f"named[x={HOSTILE}]" in {cell["method"] for cell in data["sections"][0]["cells"]}


def test_json_in_the_page_cannot_end_its_element():
    value = {"a": "</script><!-- & \u2028", "b": [1.5, None]}
    text = embedded(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded(float("nan"))


def test_the_same_records_give_the_same_bytes(shown):
    assert html(handmade_page()) == shown.text


def test_a_summary_is_shown_as_given():
    made = html(
        handmade_page(
            summaries=[Summary("Ranks", "by split", ["method", "rank"], [["good", "1-2"]], ["one"])]
        )
    )
    assert "<h2>Ranks</h2>" in made
    assert '<th scope="row">good</th><td>1-2</td>' in made
    assert "<li>one</li>" in made


def test_learning_curves_are_drawn_where_there_are_any(shown):
    assert [section.curves for section in shown.page.sections] == [
        {},
        {"learner": [3.0, 1.0, 0.5, 0.4]},
    ]
    assert shown.text.count("Loss of learner over its training") == 1
    assert shown.text.count("<h4>Learning curves</h4>") == 1


def test_thirty_problems_and_twenty_methods_stay_below_five_megabytes():
    methods = [f"method-{m}[setting=value]" for m in range(20)]
    ids = [f"metric-{m}@1" for m in range(11)] + ["mah@1", "iad@1", "skew@1"]
    found = groups(
        [
            record(
                name, 0, dict.fromkeys(ids, 1.0), problem=f"problem-{p}", environment=ENVIRONMENT
            )
            for p in range(30)
            for name in methods
        ]
    )
    assert len(found) == 30
    rng = np.random.default_rng(7)
    truth = rng.standard_normal((4000, 4))
    merged = {
        name: rng.standard_normal((4000, 4)) * (1 + 0.02 * m) for m, name in enumerate(methods)
    }
    marginals, pair = overlays(truth, merged, ("a", "b", "c", "d"))
    assert len(marginals) == 3
    assert all(len(overlay.lines) == 20 for overlay in [*marginals, pair])
    text = html(page(found, [Kept(marginals=marginals, pair=pair)] * 30))
    assert text.count('class="series ') >= 30 * 20 * 4
    assert len(text.encode()) < 5_000_000


# ---------------------------------------------------------------- colours


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one, other):
    low, high = sorted([_luminance(one), _luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_aa_asks_for(shown, theme):
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", shown.text)
    colours = {name: values[theme] for name, *values in pairs}
    for name in ("text", "muted", "accent", "warning"):
        for ground in ("page", "panel"):
            assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for level in range(len(floors.LEVEL_NAMES)):
        assert _contrast(colours[f"level-{level}"], colours[f"on-level-{level}"]) >= 4.5, level
    lines = [name for name in colours if name.startswith("series-")]
    assert len(lines) == 8
    for name in lines:  # lines are no text
        assert _contrast(colours[name], colours["page"]) >= 3.0, name


# ---------------------------------------------------------------- heights


@pytest.mark.parametrize(
    ("value", "multiple", "level"),
    [
        (0.5, 1.0, 0),
        (0.69, 1.38, 0),
        (0.71, 1.42, 1),
        (1.4, 2.8, 1),
        (1.6, 3.2, 2),
        (500.0, 1000, 5),
    ],
)
def test_height_is_the_multiple_of_the_floor(value, multiple, level):
    """The floor is 0.5 with sd 0.1: at the floor is up to 0.7."""
    (board,) = boards([record("m", 0, {"mah@1": value})])
    found = floors.height(board, board.rows[0], "mah@1")
    assert found.multiple == pytest.approx(multiple)
    assert found.level == level


def test_worst_needs_every_headline_metric():
    (board,) = boards(
        [record("m", 0, {"mah@1": 0.5, "iad@1": 4.0}), record("n", 0, {"mah@1": 0.5})]
    )
    heights = {row.method: floors.height(board, row, floors.WORST) for row in board.rows}
    assert heights["m"] == floors.Height(8.0, 2)
    assert heights["n"] is None


def test_no_height_without_a_figure_or_over_a_floor_of_zero():
    (board,) = boards([failed("m"), record("n", 0, {"mah@1": 1.0}, floor=(0.0, 0.0))])
    for row in board.rows:
        assert floors.height(board, row, "mah@1") is None


@pytest.mark.parametrize(
    ("multiple", "text"),
    [(1.0, "1.0"), (9.94, "9.9"), (9.96, "10"), (994.0, "994"), (996.0, "1.0k"), (2.5e6, "2.5M")],
)
def test_multiples_have_two_digits_or_more(multiple, text):
    assert floors.multiple_text(floors.Height(multiple, 0)) == text


def test_methods_are_ordered_by_rank_and_a_missing_figure_is_a_last_place():
    rare = [record("rare", 0, {"mah@1": 0.4})]
    common = [
        record(m, 0, {"mah@1": v}, problem=p) for p in "ab" for m, v in (("x", 1.0), ("y", 2.0))
    ]
    reference = [record("oracle", 0, {"mah@1": 0.5}, problem="a", track="reference")]
    found = boards([*rare, *common, *reference])
    assert floors.best_first(found) == ["x", "y", "rare", "oracle"]


# ---------------------------------------------------------------- accuracy against time


def test_front_holds_what_nothing_reliable_beats_in_both():
    (board,) = [b for b in boards(report_records()) if b.problem == "made"]
    points = {p.method: p for p in pareto.points(board, "mah@1")}
    assert "oracle" not in points
    assert {"broken", "apart"}.isdisjoint(points)
    assert [name for name, p in points.items() if p.front] == ["quick", "good"]
    assert points["quick"].seconds == pytest.approx(0.002)
    assert points["shaky"].unreliable


def test_methods_timed_beside_other_work_have_no_seconds():
    (board,) = boards([record("a"), record("b", other_load_cores=1.0), failed("c")])
    assert [p.method for p in pareto.points(board, "mah@1")] == ["a"]
    assert pareto.untimed(board) == ["b"]


# ---------------------------------------------------------------- features


def test_skewness_and_spread_are_measured():
    """A chi-squared(4) marginal has skewness sqrt(2); its standard error here is below 0.04."""
    rng = np.random.default_rng(1)
    theta = np.stack([rng.standard_normal(40_000), rng.chisquare(4, 40_000)], axis=1)
    assert features.largest_skew(theta) == pytest.approx(2**0.5, abs=0.12)
    assert features.largest_skew(theta) == pytest.approx(np.abs(stats.skew(theta)).max())
    shards = rng.standard_normal((3, 20_000, 2)) + np.array([-2.0, 0.0, 2.0])[:, None, None]
    assert features.heterogeneity(shards) == pytest.approx(2.0, abs=0.05)
    assert features.heterogeneity(shards[:1]) is None


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ({}, ["not known"] * 6),
        (
            {
                "dim": 5,
                "shards": 5,
                "skew": 0.3,
                "modes": 6,
                "heterogeneity": 3.1,
                "constrained": True,
            },
            ["1 to 5", "5 to 10", "0.25 to 0.75", "several", "above 3: far apart", "yes"],
        ),
        (
            {
                "dim": 21,
                "shards": 4,
                "skew": 0.1,
                "modes": 1,
                "heterogeneity": 1.0,
                "constrained": False,
            },
            ["above 20", "2 to 4", "below 0.25: near Gaussian", "one", "below 1.5: alike", "no"],
        ),
    ],
)
def test_problems_fall_into_classes(values, classes):
    found = features.Features(**values)
    assert [features.answer(found, question)[0] for question in features.QUESTIONS] == classes


# ---------------------------------------------------------------- drawings


def test_marginal_density_is_that_of_the_draws():
    """20 000 normal draws: a bin's standard error is about 0.005, smoothing lowers the top 1 %."""
    draws = np.random.default_rng(2).standard_normal(20_000)
    width = densities.bandwidth(draws)
    assert width == pytest.approx(0.9 * 20_000**-0.2, rel=0.05)
    found = densities.marginal(draws, -4.0, 4.0, 80, width)
    centres = np.linspace(-3.95, 3.95, 80)
    assert np.abs(found - stats.norm.pdf(centres)).max() < 0.025
    half = densities.marginal(draws, 0.0, 4.0, 40, width)
    assert half.sum() * 0.1 == pytest.approx(0.5, abs=0.03)  # what lies outside counts


def test_telling_coordinates_are_the_misplaced_the_misshapen_and_the_skewed():
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((5000, 5))
    truth[:, 4] = rng.exponential(size=5000)
    moved = truth + np.array([0.0, 0.0, 2.0, 0.0, 0.0])
    wide = truth * np.array([1.0, 3.0, 1.0, 1.0, 1.0])
    assert telling(truth, [moved, moved, wide * 1.0 + (moved - truth)])[0] == 2
    assert telling(truth, [wide + (moved - truth)] * 2) == [2, 1, 4]
    assert telling(truth[:, :1], [moved[:, :1]]) == [0]
    assert telling(truth, [])[0] == 4


def test_contours_enclose_the_mass_they_name():
    """The region of 95 % of a standard normal pair has radius sqrt(-2 log 0.05) = 2.448."""
    draws = np.random.default_rng(4).standard_normal((20_000, 2))
    box = np.array([-4.0, -4.0]), np.array([4.0, 4.0])
    lines = contours(draws, box)
    longest = np.array(max(lines, key=len), dtype=float)
    radius = np.linalg.norm(longest / WIDTH * 8 - 4, axis=1).mean()
    assert radius == pytest.approx(2.448, abs=0.12)


def test_the_first_coordinate_goes_across_and_the_second_up():
    rng = np.random.default_rng(5)
    truth = rng.standard_normal((4000, 2))
    shifted = truth + np.array([1.0, 0.0])
    _, pair = overlays(truth, {"m": shifted}, ("a", "b"))
    assert pair.names == ("a", "b")
    middle = [
        np.mean([p for line in lines for p in line], axis=0)
        for lines in (pair.reference, pair.lines["m"])
    ]
    assert middle[1][0] > middle[0][0] + 20
    assert abs(middle[1][1] - middle[0][1]) < 10


def test_draws_outside_the_drawing_have_no_line():
    truth = np.random.default_rng(6).standard_normal((1000, 2))
    marginals, pair = overlays(truth, {"far": truth + 100.0}, ("a", "b"))
    assert pair.lines["far"] == []
    assert all(overlay.lines["far"] == [] for overlay in marginals)


# ---------------------------------------------------------------- commands and ranks


@pytest.mark.parametrize(
    ("case", "method", "options"),
    [
        (experiment.Case("toy-logistic", 2), "consensus", {"seed": 3}),
        (experiment.Case("skewed-gamma", 1, "dirichlet:0.5", "natural"), "swiss", {"seed": 0}),
        (
            experiment.Case("logistic-100d[dataset=3,prior_precision=5.0]", 1),
            "consensus[weights=shard]",
            {"seed": 0},
        ),
        (experiment.Case("banana", 1), "flow[score_weight=0.3]", {"seed": 0, "correct": "psis"}),
        (experiment.published("toy-logistic"), "score-regression[rounds=2]", {"seed": 0}),
    ],
)
def test_the_command_of_a_cell_plans_that_very_cell(tmp_path, case, method, options):
    planned = experiment.plan(
        [case], [method], budget=get_budget("smoke"), records=Records(tmp_path), **options
    )
    identity = planned.todo[-1].identity
    words = shlex.split(command(identity, case.splits))
    assert words[:2] == ["dncbench", "run"]
    given = run.make_context("run", words[2:]).params
    again = experiment.plan(
        [
            experiment.Case(name, given["splits"], given["scheme"], given["space"])
            for name in given["problems"]
        ],
        given["methods"],
        budget=get_budget(given["budget_name"]),
        records=Records(tmp_path),
        seed=given["seed"],
        correct=given["correct"],
    )
    assert [cell.identity for cell in again.todo] == [cell.identity for cell in planned.todo]


def test_rank_intervals_are_shown_where_the_board_has_them():
    assert rank_text(SimpleNamespace(rank=None)) == ""
    assert rank_text(SimpleNamespace(rank=(2, 4))) == "2-4"
    assert rank_text(SimpleNamespace(rank=(1, 1))) == "1"


def test_groups_leave_stale_records_and_other_problems_out():
    old = record("a", 0, method_version=1)
    new = record("a", 1, method_version=2)
    other = record("a", 0, problem="other", method_version=2)
    found = groups([old, new, other])
    assert [group.board.problem for group in found] == ["made", "other"]
    assert found[0].records == {"a": [new]}
    assert [group.board.problem for group in groups([new, other], ["other"])] == ["other"]


# ---------------------------------------------------------------- the overview figure


def test_overview_figure_shows_every_method_and_is_the_same_every_time():
    found = boards(report_records())
    text = svg(found)
    assert svg(boards(report_records())) == text
    for method in floors.best_first(found):
        assert f">{method}</text>" in text
    assert ">2 without</text>" in text  # of the methods without a figure on either board
    assert len(text.encode()) < 60_000


# ---------------------------------------------------------------- the command


def _report(*arguments):
    return CliRunner().invoke(main, ["report", *(str(argument) for argument in arguments)])


def test_without_records_the_command_says_what_to_do(tmp_path):
    done = _report("--results", tmp_path)
    assert done.exit_code == 2
    assert "no records in" in done.stderr
    assert "make some with: dncbench run" in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_records_of_another_budget_are_none(tmp_path):
    Records(tmp_path).put(record("a"))
    done = _report("--results", tmp_path, "--budget", "paper")
    assert done.exit_code == 2
    assert "dncbench run --budget paper" in done.stderr


def test_an_unknown_problem_gets_suggestions(tmp_path):
    Records(tmp_path).put(record("a"))
    done = _report("--results", tmp_path, "--problem", "spambas")
    assert done.exit_code == 2
    assert "did you mean spambase" in done.stderr


def test_problems_that_are_not_registered_are_reported_from_their_records(tmp_path):
    for each in report_records():
        Records(tmp_path).put(each)
    target = tmp_path / "page.html"
    done = _report("--results", tmp_path, "--output", target, "--no-draws")
    assert done.exit_code == 0, done.output
    assert f"written to {target}" in done.stdout
    text = target.read_text(encoding="utf-8")
    _Reader(text)
    assert "no problem is called &#39;made&#39;" in text
