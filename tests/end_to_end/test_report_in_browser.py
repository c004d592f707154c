"""The pages in a real browser, opened from disk: drawn, silent, offline, and as wide as a phone."""

import importlib.util
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.comparison import compare
from search.convergence_curves import convergence
from search.report import write_comparison, write_convergence, write_report

pytestmark = pytest.mark.slow

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Each page with the least number of figures that it must have.
FIGURES = {"report.html": 10, "comparison.html": 10, "convergence.html": 6, "protocols/report.html": 17}
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


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_is_drawn_without_a_word_on_the_console(browser: Any, folder: Path, name: str) -> None:
    show(browser, folder / name, DESKTOP)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.plot')]"
        ".map(plot => plot.querySelectorAll('.scatterlayer .trace, .violinlayer .trace').length)"
    )
    assert len(drawn) >= FIGURES[name] and all(traces > 0 for traces in drawn)
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
