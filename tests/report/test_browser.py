"""The report in a real browser, headless: no error, everything drawn, every control works, at every width."""

from __future__ import annotations

import base64
import shutil
import time
from importlib import resources

import pytest

from vigmm.report import write_report
from vigmm.report.page.parts import number

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-dev-shm-usage",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DESKTOP, PHONE = (1280, 900), (375, 812)


@pytest.fixture(scope="module")
def report(tmp_path_factory, made_run):
    """The whole report, with a diagnosis, of a run of three columns with hostile names."""
    run = made_run(tmp_path_factory.mktemp("browser"), dim=3, num=3)
    return write_report(run, num_draws=64).path


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    binary, service = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or service is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = Options()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(service))
    yield made
    made.quit()


def opened(driver, report, *, size=DESKTOP, scheme="light"):
    """A freshly opened page of some size, on a system of some colour scheme."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # Without motion a click does not miss what is still moving.
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    media = {"features": [{"name": name, "value": value} for name, value in wishes.items()]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(report.as_uri())
    driver.execute_script("localStorage.clear()")
    driver.refresh()
    wait(driver, "return document.documentElement.dataset.ready === 'true'")
    wait(driver, "return document.querySelectorAll('[data-plot=pairs] canvas').length === 1")
    return driver


@pytest.fixture
def page(driver, report):
    return opened(driver, report)


def wait(driver, script, *arguments):
    return WebDriverWait(driver, 10).until(lambda d: d.execute_script(script, *arguments))


def test_there_is_no_error_and_no_request(driver, report):
    driver.get_log("browser"), driver.get_log("performance")
    opened(driver, report)
    time.sleep(0.5)
    assert driver.get_log("browser") == []
    asked = {
        entry["message"].split('"url":"')[1].split('"')[0]
        for entry in driver.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    }
    assert {address for address in asked if not address.startswith("data:")} == {report.as_uri()}
    with pytest.raises(Exception, match="no such alert"):
        _ = driver.switch_to.alert.text
    assert "alert(1)" in driver.find_element(By.ID, "profile").text


def test_everything_is_drawn(page):
    drawn = page.execute_script(
        """
        return [...document.querySelectorAll('[data-plot]:not([data-plot=overview])')].map((figure) => {
          const shapes = [...figure.querySelectorAll('svg path, svg rect, svg circle')];
          const box = figure.querySelector('svg').getBoundingClientRect();
          const visible = shapes.filter((one) => one.getBBox().width > 0).length;
          return [figure.dataset.plot, box.width, box.height, visible,
            shapes.some((one) => /NaN|Infinity|undefined/.test(one.outerHTML))];
        });
        """
    )
    assert sorted(name for name, *_ in drawn) == ["certainty", "pairs", "strip", "trace", "trace", "tree"]
    for name, width, height, shapes, broken in drawn:
        assert width > 300, name
        assert height > 60, name
        assert shapes >= 2, name
        assert not broken, name
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-plot=pairs] .ellipse")) == 3
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-plot=tree] .branch")) == 2
    assert len(page.find_elements(By.CSS_SELECTOR, "#focus .mine")) == 3
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-histogram] .all")) == 3


INK = """
  const canvas = document.querySelector('[data-plot=pairs] canvas');
  const bytes = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = {};
  for (let i = 0; i < bytes.length; i += 4) {
    if (bytes[i + 3] < 120) continue;
    const key = [bytes[i], bytes[i + 1], bytes[i + 2]].map((v) => v >> 5).join();
    seen[key] = (seen[key] || 0) + 1;
  }
  return seen;
"""


def test_pairs_can_be_chosen(page):
    def label():
        return page.find_element(By.CSS_SELECTOR, "[data-plot=pairs] .plot").get_attribute("aria-label")

    colours = page.execute_script(INK)
    assert sum(count > 50 for count in colours.values()) >= 3, (
        "rows are drawn in the colours of three clusters"
    )
    across, up = (Select(page.find_element(By.ID, name)) for name in ("pair-x", "pair-y"))
    names = [option.text for option in across.options]
    assert len(names) == 3
    # At first the two columns that tell the clusters apart best.
    across.select_by_index(0)
    up.select_by_index(1)
    wait(
        page,
        "return document.querySelector('[data-plot=pairs] .plot').ariaLabel.startsWith(arguments[0])",
        f"{names[0]} and {names[1]}: 3 clusters.",
    )
    before = label()
    up.select_by_index(2)
    wait(page, "return document.querySelector('[data-plot=pairs] .plot').ariaLabel !== arguments[0]", before)
    assert label().startswith(f"{names[0]} and {names[2]}: 3 clusters.")
    page.find_element(By.ID, "pair-swap").click()
    wait(page, "return document.getElementById('pair-x').value === '2'")
    # A column against itself shows nothing: the other one gives way.
    across.select_by_index(0)
    assert up.first_selected_option.text != names[0]
    page.find_element(By.ID, "pair-ellipses").click()
    wait(page, "return document.querySelectorAll('[data-plot=pairs] .ellipse').length === 0")


def test_all_pairs_are_buttons(page):
    figure = page.find_element(By.CSS_SELECTOR, "[data-plot=overview]")
    page.execute_script("arguments[0].scrollIntoView()", figure)
    blank = "return [...document.querySelectorAll('.thumb canvas')].filter((one) => one.width === 300).length"
    wait(page, f"{blank} === 0")
    small = page.find_elements(By.CSS_SELECTOR, ".thumb")
    assert len(small) == 3
    colours = page.execute_script(INK.replace("[data-plot=pairs] canvas", ".thumb canvas"))
    assert sum(count > 5 for count in colours.values()) >= 3
    assert [one.get_attribute("aria-pressed") for one in small].count("true") == 1
    other = next(one for one in small if one.get_attribute("aria-pressed") == "false")
    other.send_keys(Keys.ENTER)
    assert other.get_attribute("aria-pressed") == "true"
    shown = [page.find_element(By.ID, name).get_attribute("value") for name in ("pair-x", "pair-y")]
    assert shown == [other.get_attribute("data-i"), other.get_attribute("data-j")]
    # However the pair is chosen, its button says so.
    page.find_element(By.ID, "pair-swap").send_keys(Keys.ENTER)
    assert other.get_attribute("aria-pressed") == "true"


def test_a_chosen_cluster_is_marked_everywhere(page):
    def marked(selector):
        return {node.get_attribute("data-cluster") for node in page.find_elements(By.CSS_SELECTOR, selector)}

    before = page.execute_script(INK)
    Select(page.find_element(By.ID, "choice")).select_by_index(2)
    number = page.find_element(By.ID, "choice").get_attribute("value")
    wait(
        page,
        "return document.querySelector('#focus .name').textContent === `Cluster ${arguments[0]}`",
        number,
    )
    wait(page, "return document.querySelectorAll('.ellipse.on').length === 1")
    for selector in ("#sizes tr.on", "#profile tr.on", ".ellipse.on", ".leaf.on", ".mark.on", ".chip.on"):
        assert marked(selector) == {number}, selector
    pressed = "#sizes .chip[aria-pressed=true]"
    assert marked(pressed) == {number}
    wait(page, "return document.querySelectorAll('[data-histogram] .mine').length === 3")
    assert page.execute_script(INK) != before
    # The same button, by the keyboard, lets it go; Escape does too.
    chip = page.find_element(By.CSS_SELECTOR, pressed)
    chip.send_keys(Keys.ENTER)
    assert marked("#sizes tr.on") == set()
    chip.send_keys(Keys.SPACE)
    assert marked("#sizes tr.on") == {number}
    chip.send_keys(Keys.ESCAPE)
    assert marked("#sizes tr.on") == set()
    page.find_element(By.ID, "focus-next").click()
    assert len(marked("#sizes tr.on")) == 1
    page.find_element(By.CSS_SELECTOR, "[data-plot=tree] .leaf").click()
    assert len(marked("#sizes tr.on")) == 1


def test_tables_sort(page):
    def column(index):
        rows = page.find_elements(By.CSS_SELECTOR, "#sizes tbody tr")
        return [row.find_elements(By.CSS_SELECTOR, "th, td")[index].text for row in rows]

    heads = page.find_elements(By.CSS_SELECTOR, "#sizes thead th")
    names = [head.text.strip() for head in heads]
    at = next(i for i, name in enumerate(names) if name.startswith("Rows assigned"))
    button = heads[at].find_element(By.TAG_NAME, "button")
    button.click()
    assert heads[at].get_attribute("aria-sort") == "descending"
    counts = [int(text) for text in column(at)]
    assert counts == sorted(counts, reverse=True)
    button.send_keys(Keys.ENTER)
    assert heads[at].get_attribute("aria-sort") == "ascending"
    assert [int(text) for text in column(at)] == sorted(counts)
    heads[0].find_element(By.TAG_NAME, "button").click()
    assert heads[at].get_attribute("aria-sort") == "none"
    assert column(0) == sorted(column(0))


def test_the_profile_shows_other_numbers(page):
    def cell():
        return page.find_element(By.CSS_SELECTOR, "#profile tbody td").text

    assert " ± " in cell()
    page.find_element(By.CSS_SELECTOR, "input[name=profile][value=difference]").click()
    assert cell()[0] in "+−0"
    page.find_element(By.CSS_SELECTOR, "input[name=profile][value=overlap]").click()
    assert cell().endswith("%")


def test_groups_of_the_tree(page):
    slider = page.find_element(By.ID, "groups")
    slider.send_keys(Keys.HOME)
    assert page.find_element(By.ID, "groups-words").text.startswith("One group")
    assert len(page.find_elements(By.CSS_SELECTOR, ".branch.inside")) == 2
    slider.send_keys(Keys.END)
    assert page.find_element(By.ID, "groups-words").text.startswith("3 groups")
    assert page.find_elements(By.CSS_SELECTOR, ".branch.inside") == []


def test_plots_are_read_by_keyboard(page):
    trace = page.find_element(By.CSS_SELECTOR, "[data-plot=trace] .plot")
    last = trace.get_attribute("aria-valuetext")
    assert last.startswith("Pass ")
    trace.send_keys(Keys.HOME)
    assert trace.get_attribute("aria-valuenow") == "0"
    assert trace.get_attribute("aria-valuetext") != last
    readout = page.find_element(By.CSS_SELECTOR, "[data-plot=trace] .readout")
    assert readout.text == trace.get_attribute("aria-valuetext")
    pairs = page.find_element(By.CSS_SELECTOR, "[data-plot=pairs] .plot")
    pairs.send_keys(Keys.ARROW_LEFT)
    told = page.find_element(By.CSS_SELECTOR, "[data-plot=pairs] .readout").text
    assert "rows" in told
    assert " to " in told


def test_the_keyboard_reaches_everything(page):
    """From the skip link on, in the order of the page, and the focus can be seen."""
    page.execute_script("document.body.focus()")
    reached = []
    for _ in range(150):
        page.switch_to.active_element.send_keys(Keys.TAB)
        node = page.execute_script(
            "const a = document.activeElement; const s = getComputedStyle(a);"
            "return [a.id || a.className || a.tagName, s.outlineStyle, a.closest('.switch') !== null]"
        )
        if node[0] == "BODY":
            break
        reached.append(node)
    names = [name for name, *_ in reached]
    assert names[0] == "skip"
    for name in ("choice", "theme", "focus-next", "pair-x", "pair-y", "pair-swap", "groups", "copy"):
        assert name in names, name
    assert all(outline != "none" or switch for _, outline, switch in reached)


CONTRASTS = """
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const solid = (colour, under) => {   // whatever notation a colour has, as it ends up on what is under it
    canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) layers.unshift(getComputedStyle(one).backgroundColor);
    return layers.reduce((under, layer) => `rgb(${solid(layer, under).join()})`, 'rgb(255,255,255)');
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest('script, .hidden, option')) continue;
    const ground = behind(node);
    const style = getComputedStyle(node);
    const ink = node.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const [a, b] = [light(solid(ink, ground)), light(channels(ground))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, node.tagName, text.data.trim().slice(0, 40)]);
  }
  return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("chosen", [False, True])
def test_every_text_can_be_read(driver, report, scheme, chosen):
    """WCAG AA: 4.5 to 1, computed for every text on the page, on the background that it really has."""
    opened(driver, report, scheme=scheme)
    for details in driver.find_elements(By.TAG_NAME, "summary"):
        details.click()
    if chosen:
        Select(driver.find_element(By.ID, "choice")).select_by_index(1)
        wait(driver, "return document.querySelectorAll('.ellipse.on').length === 1")
    found = [one for one in driver.execute_script(CONTRASTS) if one[1] != "text" or chosen is False]
    assert len(found) > 300
    tags = [one for one in found if one[0] < 4.5]
    assert tags == []


def test_themes(driver, report):
    def ground():
        return driver.execute_script("return getComputedStyle(document.body).backgroundColor")

    def painted():
        wait(driver, "return document.querySelectorAll('[data-plot=pairs] canvas').length === 1")
        return driver.execute_script("return document.querySelector('[data-plot=pairs] canvas').toDataURL()")

    opened(driver, report, scheme="dark")
    dark = ground()
    # Rows of other clusters are then drawn in a grey of the theme.
    Select(driver.find_element(By.ID, "choice")).select_by_index(1)
    wait(driver, "return document.querySelectorAll('.ellipse.on').length === 1")
    before = painted()
    button = driver.find_element(By.ID, "theme")
    assert button.accessible_name == "Colours: as the system"
    button.send_keys(Keys.ENTER)
    assert button.accessible_name == "Colours: light"
    assert ground() != dark
    time.sleep(0.5)
    assert painted() != before, "the canvas is painted anew"
    button.click()
    assert button.accessible_name == "Colours: dark"
    assert ground() == dark
    driver.refresh()
    assert driver.execute_script("return document.documentElement.dataset.theme") == "dark", (
        "it is remembered"
    )


TICKS = {
    # A run that has settled, and one about zero.
    (-2.19041, -2.1894, 5): "−2.1904 −2.1902 −2.1900 −2.1898 −2.1896 −2.1894",
    (-0.0003, 0.0004, 5): "−0.0002 0.0000 0.0002 0.0004",
    (0, 15_500, 5): "0 5,000 10,000 15,000",
    (1.6e9, 1.6e9 + 900, 5): "1,600,000,000 1,600,000,200 1,600,000,400 1,600,000,600 1,600,000,800",
    (1e7, 1e7 + 1.1, 3): "10,000,000.0 10,000,000.5 10,000,001.0",
    (-3e-9, 8e-9, 5): "−2e−9 0 2e−9 4e−9 6e−9 8e−9",
    (0, 1e15, 4): "0 2.0e14 4.0e14 6.0e14 8.0e14 1.0e15",
    # There is no number between these two.
    (1e16, 1e16 + 2, 5): "1.0000000000000000e16 1.0000000000000002e16",
    (5, 5, 3): "5",
}


def test_ticks_are_told_to_the_digit_in_which_they_differ(driver):
    script = (resources.files("vigmm.report") / "assets" / "numbers.js").read_text(encoding="utf-8")
    script += "const all = ticks(...arguments); return all.map((one) => tickText(one, all)).join(' ');"
    assert {given: driver.execute_script(script, *given) for given in TICKS} == TICKS


def test_numbers_are_those_of_the_tables(driver):
    """Made here or by Python, a number reads the same."""
    script = (resources.files("vigmm.report") / "assets" / "numbers.js").read_text(encoding="utf-8")
    values = [-459_070.5, 1234.56, 999.96, 0.0, -0.0, 12.3456, -3_208_627.9, 0.00042, None]
    told = driver.execute_script(script + "return arguments[0].map((one) => number(one, 7))", values)
    assert told == [number(value, 7) for value in values]


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_texts_of_an_axis_differ_and_stand_apart(driver, report, size):
    opened(driver, report, size=size)
    found = driver.execute_script(
        """
        return [...document.querySelectorAll('[data-plot] svg')].flatMap((picture) =>
          ['end', 'middle'].map((anchor) => {
            const texts = [...picture.querySelectorAll(`.axes text[text-anchor=${anchor}]:not(.label)`)];
            const boxes = texts.map((one) => one.getBoundingClientRect());
            const frame = picture.getBoundingClientRect();
            const clash = boxes.some((a, i) => boxes.slice(i + 1).some((b) =>
              a.left < b.right && b.left < a.right && a.top < b.bottom - 3 && b.top < a.bottom - 3));
            const out = boxes.some((one) => one.left < frame.left - 1 || one.right > frame.right + 1);
            return [texts.map((one) => one.textContent), clash, out];
          }));
        """
    )
    found = [one for one in found if one[0]]
    assert len(found) >= 6
    for texts, clash, out in found:
        assert len(set(texts)) == len(texts) >= 2, texts
        assert not clash, texts
        assert not out, texts


@pytest.mark.parametrize("size", [PHONE, (320, 640), (768, 1024), DESKTOP])
def test_no_width_makes_the_page_scroll_sideways(driver, report, size):
    opened(driver, report, size=size)
    for details in driver.find_elements(By.TAG_NAME, "summary"):
        driver.execute_script("arguments[0].click()", details)
    time.sleep(0.5)
    wide, across = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= across == size[0]
    sticking_out = driver.execute_script(
        """
        return [...document.querySelectorAll('main *')].filter((node) =>
          !node.closest('.frame, pre, .plot, .hidden') && node.getBoundingClientRect().right > innerWidth + 1)
          .map((node) => node.outerHTML.slice(0, 120));
        """
    )
    assert sticking_out == []
    plot = driver.find_element(By.CSS_SELECTOR, "[data-plot=pairs] canvas")
    assert plot.size["width"] > size[0] / 2


def test_a_screenshot_is_not_blank(page):
    picture = base64.b64decode(page.get_screenshot_as_base64())
    assert len(picture) > 30_000
