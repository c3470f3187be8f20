"""The report in a real browser: Chromium, driven by selenium.

Collected only where both are there: ``apt-get install chromium chromium-driver`` on Debian, and
selenium of the test extra. Everything is on this machine; the pages are files.
"""

import json
import shutil

import pytest
from report_pages import HOSTILE, handmade_page

from dncbench.report.render import html

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait
Select = pytest.importorskip("selenium.webdriver.support.select").Select
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs Debian's chromium and chromium-driver", allow_module_level=True)

OPTIONS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,900"),
    # Chromium's own requests, of which the closed network of a test machine refuses many.
    *("--no-first-run", "--disable-sync", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for option in [*OPTIONS, f"--user-data-dir={profile}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html(handmade_page(HOSTILE)), encoding="utf-8")
    return path


@pytest.fixture
def shown(browser, file):
    """The page, opened anew; afterwards nothing was complained of and nothing was asked for."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(file.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
        # The tab that Chromium starts with may still be loading parts of the browser itself.
        and not event["params"]["documentURL"].startswith(("chrome:", "chrome-untrusted:"))
    }
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}


def _column(browser, place):
    rows = browser.find_elements(By.CSS_SELECTOR, "#problem-0 .board tbody tr")
    return [
        r.find_elements(By.CSS_SELECTOR, "th, td")[place].text for r in rows if r.is_displayed()
    ]


def test_a_column_sorts_both_ways_and_what_has_no_figure_stays_last(shown):
    heading = shown.find_elements(By.CSS_SELECTOR, "#problem-0 .board thead th")[1]
    button = heading.find_element(By.TAG_NAME, "button")
    for direction, sign in (("ascending", 1), ("descending", -1)):
        button.send_keys(Keys.ENTER)
        assert heading.get_attribute("aria-sort") == direction
        texts = [text.split()[0] for text in _column(shown, 1)]
        figures = [sign * float(text.rstrip("*°?")) for text in texts if text != "-"]
        assert len(figures) == 7
        assert figures == sorted(figures)
        assert texts[-2:] == ["-", "-"]
    floor = shown.find_element(By.CSS_SELECTOR, "#problem-0 .board tfoot")
    assert "noise floor" in floor.text


def test_rows_are_filtered_by_track_and_by_text(shown):
    track = Select(shown.find_element(By.CSS_SELECTOR, "#problem-0 .track"))
    track.select_by_visible_text("draws + scores")
    assert _column(shown, 0) == ["wild"]
    track.select_by_visible_text("all")
    shown.find_element(By.CSS_SELECTOR, "#problem-0 .filter").send_keys("OO")
    assert _column(shown, 0) == ["good"]
    assert shown.find_element(By.CSS_SELECTOR, "#problem-0 .shown").text == "1 of 9 methods"


def test_the_drawing_of_a_study_is_unpacked(shown):
    drawn = shown.find_element(By.CSS_SELECTOR, "img.growth")
    Wait(shown, 10).until(lambda _: drawn.get_property("naturalWidth") == 9)


def test_a_cell_opens_and_closes_by_keyboard(shown):
    cell = next(
        button
        for button in shown.find_elements(By.CSS_SELECTOR, ".heat [data-cell]")
        if button.get_attribute("title").startswith("broken on made")
    )
    assert cell.text == "failed"
    shown.execute_script("arguments[0].focus()", cell)
    cell.send_keys(Keys.ENTER)
    dialog = shown.find_element(By.ID, "detail")
    assert dialog.is_displayed()
    assert f"ValueError: no luck {HOSTILE}" in dialog.text
    assert "dncbench run --problem made --method broken" in dialog.text
    shown.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert shown.switch_to.active_element == cell


def test_the_first_tab_is_a_link_past_the_navigation(shown):
    shown.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    link = shown.switch_to.active_element
    assert link.get_attribute("href").endswith("#overview")
    assert link.rect["x"] >= 0  # seen once it has the focus
    outline = link.value_of_css_property("outline-style")
    assert outline != "none"


def test_the_theme_changes_and_is_remembered(shown):
    def ground():
        return shown.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")

    button = shown.find_element(By.ID, "theme")
    before = ground()
    button.click()
    after = ground()
    assert after != before
    shown.refresh()
    assert ground() == after
    shown.find_element(By.ID, "theme").click()
    assert ground() == before


def test_another_metric_repaints_the_overview(shown):
    def text():
        buttons = shown.find_elements(By.CSS_SELECTOR, ".heat [data-cell]")
        return {b.get_attribute("title").split(":")[0]: b.text for b in buttons}

    worst = text()
    assert worst["good on made"] == "1.1°"
    assert worst["wild on made"] == "120"
    assert worst["shaky on made"] == "2.4?"
    assert worst["partly on made"] == "2.4!"
    assert worst["apart on made"] == "n/a"
    assert worst["wild on other"] == "none"
    Select(shown.find_element(By.ID, "metric")).select_by_visible_text("mah")
    assert text()["wild on made"] == "4.0"


def test_methods_are_ranked_on_the_problems_that_are_like_mine(shown):
    def ranked():
        rows = shown.find_elements(By.CSS_SELECTOR, "#ranking tbody tr")
        return [
            [entry.text for entry in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in rows
        ]

    first = ranked()[0]
    assert first[0] == "good"
    assert first[2:5] == ["1 of 2", "1 of 2", "6.0"]
    large = next(s for s in shown.find_elements(By.CSS_SELECTOR, "[data-question]"))
    Select(large).select_by_visible_text("above 20")
    assert "1 of 2 problems are like yours: other." in shown.find_element(By.ID, "matching").text
    rows = {row[0]: row for row in ranked()}
    assert rows["good"][2:5] == ["0 of 1", "0 of 1", "6.0"]
    assert rows["wild"][2:] == ["0 of 1", "0 of 1", "-", "1 no record"]
    assert "oracle" not in rows


def test_methods_are_drawn_over_the_reference_as_chosen(shown):
    boxes = shown.find_elements(By.CSS_SELECTOR, "#problem-0 .series-choice input")
    box = next(box for box in boxes if not box.is_selected())
    path = f'#problem-0 .drawings [data-series="{box.get_attribute("value")}"]'
    paths = shown.find_elements(By.CSS_SELECTOR, path)
    assert len(paths) == 4
    assert {p.value_of_css_property("visibility") for p in paths} == {"hidden"}
    box.send_keys(Keys.SPACE)
    assert {p.value_of_css_property("visibility") for p in paths} == {"visible"}


def test_laws_of_clients_open_and_lines_of_training_are_seen(shown):
    part = shown.find_element(By.CSS_SELECTOR, "#problem-1 details.clients")
    dots = part.find_elements(By.CSS_SELECTOR, ".dots")
    assert len(dots) == 2
    assert not dots[0].is_displayed()
    part.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert all(dot.is_displayed() for dot in dots)
    lines = shown.find_elements(By.CSS_SELECTOR, "#problem-1 svg .series")
    assert {line.value_of_css_property("visibility") for line in lines} == {"visible"}
    grounds = shown.find_elements(By.CSS_SELECTOR, "#problem-1 .map .m0, #problem-1 .map .m10")
    colours = {ground.value_of_css_property("fill") for ground in grounds}
    assert len(colours) == 2
    assert "none" not in colours


@pytest.mark.parametrize("width", [390, 900, 1400])
def test_the_page_is_never_wider_than_the_screen(shown, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
