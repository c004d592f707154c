"""The pages in a real browser, opened from disk: drawn, silent, offline, and as wide as a phone."""

import importlib.util
import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.comparison import compare
from search.convergence_curves import convergence
from search.report import write_comparison, write_convergence, write_index, write_report
from search.report.page import MAX_BYTES

pytestmark = pytest.mark.slow

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Each page with the least number of figures that it must have.
FIGURES = {"report.html": 36, "comparison.html": 10, "convergence.html": 6, "protocols/report.html": 22}
PAGES = tuple(FIGURES)
DESKTOP, PHONE = (1280, 900), (390, 844)

# Runs before anything of the page, and so hears of every script, style and image that the policy turned away.
LISTEN = (
    "window.refused = []; document.addEventListener('securitypolicyviolation', e => refused.push(e.violatedDirective))"
)


def _sample_sweeps(name: str = "conftest.py") -> Any:
    # Test modules cannot import each other; the sweeps are those of the report's own tests.
    path = Path(__file__).parents[1] / "search" / name
    spec = importlib.util.spec_from_file_location("sample_sweeps", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


full_sweep = _sample_sweeps().full_sweep


@pytest.fixture(scope="module")
def folder(full_sweep: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the pages of a large sweep, and the report of a small one that all protocols measured."""
    folder = tmp_path_factory.mktemp("pages")
    write_report(full_sweep.store, full_sweep.name, folder)
    write_comparison(compare(full_sweep.store, [full_sweep.name]), folder)
    write_convergence(convergence(full_sweep.store, [full_sweep.name]), folder)
    writer = _sample_sweeps().start_sweep(folder / "store")
    for cell, score in zip(writer.studies, (0.3, 0.25), strict=True):
        writer.trial(cell, score)
    writer.add("protocols", _sample_sweeps("test_protocol_report.py").protocol_rows(writer))
    write_report(writer.store, writer.name, folder / "protocols")
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a sweep of 1,500 trials in 30 cells on two data sets; a finished one has 30 epochs."""
    sample = _sample_sweeps()
    writer = sample.start_sweep(
        tmp_path_factory.mktemp("large"),
        name="large",
        data={"names": ["baby", "sports"], "root": "/data"},
        axes={
            "model": ["vbpr", "freedom", "bm3"],
            "update": ["descent", "mirror_gradient", "sam", "bsam", "bsam_plus"],
        },
        space={"preset": "extended", "tune": ["model", "update", "optimizer"]},
        search={"sampler": "random", "trials": 50, "seeds": [999], "scheduler": {"kind": "asha"}},
    )
    for cell, study in writer.studies.items():
        for place in range(50):
            status, epochs = {7: ("pruned", 6), 9: ("diverged", 2)}.get(place % 10, ("finished", 30))
            point = study.space.suggest(sample.RandomPoints(writer.rng))
            score = None if status == "diverged" else sample.quality(point) + 0.003 * writer.rng.normal()
            writer.trial(cell, score, status=status, epochs=epochs, point=point, worker=f"node-{place % 4}:{place}")
    return writer


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a headless Chromium with a fresh profile that logs its console and its requests."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})
    yield driver
    driver.quit()


def show(browser: Any, page: Path, size: tuple[int, int], *, dark: bool = False) -> None:
    """Open the page at this size and wait until every figure is drawn."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    end = time.monotonic() + 60
    while browser.execute_script("return [...document.querySelectorAll('.plot')].some(plot => !plot.dataset.drawn)"):
        assert time.monotonic() < end, f"not all figures were drawn: {browser.get_log('browser')}"
        time.sleep(0.1)


def requests(browser: Any) -> set[str]:
    """Return the addresses that the page itself asked for since it was opened; data: ones lie in the page."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    addresses = {each["request"]["url"] for each in sent if each["documentURL"].startswith("file:")}
    return {address for address in addresses if not address.startswith("data:")}


def quiet(browser: Any, page: Path) -> list[str]:
    """Return what the page said or did that it must not, since it was opened."""
    said = [entry["message"] for entry in browser.get_log("browser")]
    return [*said, *browser.execute_script("return window.refused"), *(requests(browser) - {page.as_uri()})]


def traces(browser: Any) -> list[int]:
    """Return how many traces each figure shows."""
    found: list[int] = browser.execute_script(
        "return [...document.querySelectorAll('.plot')]"
        ".map(plot => plot.querySelectorAll('.scatterlayer .trace, .violinlayer .trace').length)"
    )
    return found


def test_a_sweep_of_1500_trials_opens_small_silent_and_whole(browser: Any, large: Any, tmp_path: Path) -> None:
    began = time.process_time()
    page = write_report(large.store, large.name, tmp_path)
    written = time.process_time() - began
    assert "1,500 trials in 30 cells" in page.read_text(encoding="utf-8")
    assert page.stat().st_size <= MAX_BYTES
    began = time.monotonic()
    show(browser, page, DESKTOP)
    drawn = traces(browser)
    assert len(drawn) > 100 and all(drawn)
    assert quiet(browser, page) == []
    opened = browser.execute_script("return performance.getEntriesByType('navigation')[0].domComplete") / 1000
    print(
        f"\n1,500 trials: {page.stat().st_size / 1e6:.1f} MB, written in {written:.1f} s of CPU time; opened after "
        f"{opened:.1f} s, the last of {len(drawn)} figures drawn after {time.monotonic() - began:.1f} s"
    )


def test_what_was_not_drawn_yet_is_drawn_before_it_is_printed(browser: Any, large: Any, tmp_path: Path) -> None:
    page = write_report(large.store, large.name, tmp_path)
    browser.get(page.as_uri())
    left = browser.execute_script("return [...document.querySelectorAll('.plot')].filter(p => !p.dataset.drawn).length")
    assert left > 0
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert all(traces(browser))


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_figures_are_as_wide_as_a_sheet_in_print_and_as_the_page_afterwards(
    browser: Any, folder: Path, size: tuple[int, int]
) -> None:
    show(browser, folder / "report.html", size)
    widths = "return [...document.querySelectorAll('.plot')].map(p => [p.querySelector('.main-svg').clientWidth, "
    before = browser.execute_script(f"{widths} p.clientWidth])")
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    in_print = browser.execute_script(f"{widths} 0])")
    assert {width for width, _ in in_print} == {225, 340, 700}
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    end = time.monotonic() + 30
    while browser.execute_script(f"{widths} p.clientWidth])") != before:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_index_leads_to_a_report_and_stays_within_a_phone(browser: Any, full_sweep: Any, tmp_path: Path) -> None:
    write_report(full_sweep.store, full_sweep.name, tmp_path / full_sweep.name)
    page = write_index(full_sweep.store, tmp_path)
    show(browser, page, PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    assert quiet(browser, page) == []
    browser.execute_script("document.querySelector('tbody a').click()")
    end = time.monotonic() + 30
    while browser.execute_script("return document.querySelector('h1').textContent") != f"Sweep {full_sweep.name}":
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_keyboard_reaches_the_results_first_and_shows_where_it_is(browser: Any, folder: Path) -> None:
    show(browser, folder / "report.html", DESKTOP)
    tab = webdriver.common.keys.Keys.TAB
    focused = "const e = document.activeElement, b = e.getBoundingClientRect(), s = getComputedStyle(e);"
    seen = []
    for _ in range(20):
        webdriver.ActionChains(browser).send_keys(tab).perform()
        seen.append(
            browser.execute_script(
                f"{focused} return [e.tagName, e.textContent.trim(), b.left >= 0 && b.width > 0, s.outlineStyle]"
            )
        )
    assert seen[0][:2] == ["A", "Skip to the results"]
    assert {"A", "DIV", "PRE"} <= {each[0] for each in seen}
    assert all(on_screen and outline != "none" for _, _, on_screen, outline in seen)


@pytest.mark.parametrize("name", PAGES)
def test_every_table_and_figure_has_a_name_and_every_heading_its_place(browser: Any, folder: Path, name: str) -> None:
    show(browser, folder / name, DESKTOP)
    count = "return document.querySelectorAll(arguments[0]).length"
    tables = browser.execute_script(count, "table")
    assert tables == browser.execute_script(count, "table > caption:first-child")
    assert browser.execute_script(count, "thead th:not([scope=col]), tbody th:not([scope=row])") == 0
    assert browser.execute_script(count, ".plot:not([role=img][aria-label])") == 0
    lost = (
        "return [...document.querySelectorAll('[aria-describedby]')]"
        ".filter(e => !document.getElementById(e.getAttribute('aria-describedby'))).length"
    )
    assert browser.execute_script(lost) == 0
    twice = (
        "const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
        "return ids.filter((id, place) => ids.indexOf(id) != place && !document.getElementById(id).closest('svg'))"
    )
    assert browser.execute_script(twice) == []
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1, h2, h3, h4')].map(heading => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_is_drawn_without_a_word_on_the_console(browser: Any, folder: Path, name: str) -> None:
    show(browser, folder / name, DESKTOP)
    drawn = traces(browser)
    assert len(drawn) >= FIGURES[name] and all(drawn)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.refused") == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_but_itself(browser: Any, folder: Path, name: str) -> None:
    show(browser, folder / name, DESKTOP)
    assert requests(browser) == {(folder / name).as_uri()}


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_scrolls_tables_but_never_the_page_sideways(browser: Any, folder: Path, name: str) -> None:
    show(browser, folder / name, PHONE)
    page, inner, tables = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth, "
        "[...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)]"
    )
    assert page <= inner == PHONE[0]
    assert tables
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.plot .main-svg')].map(svg => svg.clientWidth)"
    )
    assert widths and all(200 < width <= PHONE[0] for width in widths)


@pytest.mark.parametrize("name", PAGES)
def test_figures_follow_the_colour_scheme(browser: Any, folder: Path, name: str) -> None:
    colours = []
    for dark in (False, True):
        show(browser, folder / name, DESKTOP, dark=dark)
        colours.append(
            browser.execute_script(
                "return [getComputedStyle(document.body).color, "
                "getComputedStyle(document.querySelector('.plot text.xtitle')).fill]"
            )
        )
    for text, axis in colours:
        assert text == axis
    assert colours[0] != colours[1]


def test_protocols_are_drawn_as_lines_violins_and_maps_beside_their_tables(browser: Any, folder: Path) -> None:
    show(browser, folder / "protocols" / "report.html", DESKTOP)
    parts = {"robustness": ".errorbar", "generalisation": ".violinlayer path.violin", "landscape": ".contourlevel path"}
    for identity, part in parts.items():
        section = f"document.getElementById('{identity}').closest('section')"
        assert browser.execute_script(f"return {section}.querySelectorAll('{part}').length") >= 2
        assert browser.execute_script(f"return {section}.querySelectorAll('tbody tr').length") >= 2
        assert browser.execute_script(f"return {section}.querySelectorAll('.plot[role=img][aria-label]').length") >= 1
    colours = "return [...document.querySelectorAll('#landscape ~ figure .heatmapcoloring image')].length"
    assert browser.execute_script(colours) == 2


@pytest.mark.parametrize(("size", "columns"), [(DESKTOP, 3), (PHONE, 1)])
def test_panels_of_one_figure_stand_side_by_side_or_below_each_other(
    browser: Any, folder: Path, size: tuple[int, int], columns: int
) -> None:
    show(browser, folder / "convergence.html", size)
    places = browser.execute_script(
        "return [...document.querySelector('figure.panels').querySelectorAll('.plot')].map(plot => plot.offsetLeft)"
    )
    assert len(places) == 3 and len(set(places)) == columns


def test_what_is_printed_is_black_on_white_even_from_a_dark_screen(browser: Any, folder: Path) -> None:
    show(browser, folder / "report.html", DESKTOP, dark=True)
    browser.execute_script(
        "window.printed = []; window.addEventListener('beforeprint', () => printed.push("
        "getComputedStyle(document.querySelector('.plot text.xtitle')).fill))"
    )
    browser.execute_cdp_cmd("Page.printToPDF", {})
    assert browser.execute_script("return window.printed") == ["rgb(0, 0, 0)"]


def test_names_that_look_like_markup_run_nothing(browser: Any, tmp_path: Path) -> None:
    evil = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
    sample = _sample_sweeps()
    writer = sample.start_sweep(tmp_path / "store", stored={"name": evil})
    for place in range(3):
        writer.trial("lfm2k/vbpr/plain/sam/adam", 0.2 + 0.01 * place, trial=f"{evil}{place}", update=evil, model=evil)
    page = write_report(writer.store, writer.name, tmp_path)
    show(browser, page, DESKTOP)
    assert browser.execute_script("return window.ran") is None
    assert browser.execute_script("return document.images.length") == 0
    assert browser.execute_script("return document.querySelector('h1').textContent") == f"Sweep {evil}"
    assert browser.get_log("browser") == []
    assert requests(browser) == {page.as_uri()}
