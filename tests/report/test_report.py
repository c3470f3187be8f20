"""The report: the one file that its data become."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from handmade import record
from report_pages import ENVIRONMENT, HOSTILE, handmade_page, report_records

from dncbench.boards.leaderboard import boards
from dncbench.cli import main
from dncbench.report import SummaryTable, floors
from dncbench.report.grouping import groups
from dncbench.report.kept import Kept
from dncbench.report.overlays import overlays
from dncbench.report.overview_figure import svg
from dncbench.report.page import distinguishing_terms, page
from dncbench.report.render import embedded, html
from dncbench.storage.records import Records

VOID = {"meta", "link", "input", "wbr", "br", "img"}
ASV_PAGE = "asv-html/index.html"
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
    assert {link[1:] for link in links - {ASV_PAGE}} <= set(ids)


def test_nothing_is_loaded(shown):
    for tag, attributes in shown.reader.elements:
        for name in LOADING & attributes.keys():
            followed = tag == "a" and attributes[name] == ASV_PAGE
            assert followed or attributes[name].startswith(("#", "data:")), (tag, name)
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


def test_a_method_of_other_draws_is_not_asked_to_be_run():
    of_objects = record("walker", problem="cells")
    of_objects["identity"]["space"] = "codes"
    made = page(groups([record("mean"), of_objects]), [Kept(), Kept()])
    states = {
        section.title: {cell.method: cell.state for cell in section.cells}
        for section in made.sections
    }
    (points,) = states.keys() - {"cells"}
    assert states[points] == {"mean": "scored", "walker": "not applicable"}
    assert states["cells"] == {"mean": "not applicable", "walker": "scored"}
    assert [cell.command for section in made.sections for cell in section.cells].count("") == 2


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
    assert ["memory of its largest program", "300 MiB"] in good["facts"]
    figures = {line[0]: line[1:] for line in good["figures"]}
    learner = _cell(shown.data, 1, "learner")["facts"]
    assert ["rank correlation of the log densities (smallest)", "0.876"] in learner
    # Most methods of the page have fewer than three splits: no ranks.
    assert figures["mah@1"] == ["0.560 (0.010)°", "0.0058", "0.5 ± 0.1", "1.1", ""]


def test_labels_and_reasons_are_text_whatever_they_hold():
    text = html(handmade_page(HOSTILE, [SummaryTable(HOSTILE, HOSTILE, [HOSTILE], [[HOSTILE]])]))
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
            summaries=[
                SummaryTable("Ranks", "by split", ["method", "rank"], [["good", "1-2"]], ["one"])
            ]
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
                name.partition("[")[0],
                values=dict.fromkeys(ids, 1.0),
                problem=f"problem-{p}",
                label=name,
                environment=ENVIRONMENT,
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
