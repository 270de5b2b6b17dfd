"""The page as a person sees it: the command in a process of its own, real LSL, and Chromium."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time

import pylsl
import pytest

from fake_lab import FakeLab
from streamdetect.dashboard.theme import DARK, LIGHT
from streamdetect.sources.lsl_streams import resolve_stream

pytestmark = [
    pytest.mark.usefixtures("lsl"),
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="Chromium or its driver is not installed: apt-get install chromium chromium-driver",
    ),
]

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
CH_NAMES = ("Fz", "C3", "Cz", "C4", "Pz")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    resize(driver, 1280, 800)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def lab():
    with FakeLab("browser-lab", "browser-model", ch_names=CH_NAMES, bad={"Pz": (("flat",), True)}) as made:
        yield made


@pytest.fixture(scope="module")
def url(lab):
    with serve(lab) as shown:
        yield shown


@pytest.fixture
def page(url, browser):
    """The browser on a dashboard that shows the lab."""
    browser.get(url)
    wait_until(lambda: "running" in light(browser, "Monitor") and frames(browser) > 5)
    yield browser
    mistakes = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    browser.get("about:blank")
    assert mistakes == []


class serve:
    """Run ``streamdetect dashboard``; the value is the address that it prints first."""

    def __init__(self, lab, *options):
        self.arguments = ("--stream", lab.name, "--model-name", lab.model, "--port", "0", *options)

    def __enter__(self):
        command = [sys.executable, "-m", "streamdetect.cli.main", "dashboard", *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        url = self.process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), self.process.communicate()[1]
        return url

    def __exit__(self, *_):
        self.process.terminate()
        _, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 130, err
        assert "Traceback" not in err


def wait_until(is_true, timeout_s=30.0):
    from selenium.common.exceptions import WebDriverException

    deadline = time.monotonic() + timeout_s
    while True:
        is_late = time.monotonic() > deadline
        try:
            if is_true():
                return
        except WebDriverException:  # a page that loads anew loses the element that was asked about
            if is_late:
                raise
        assert not is_late, "it took too long"
        time.sleep(0.05)


def resize(browser, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def text(browser, selector):
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def light(browser, name):
    lines = browser.execute_script("return [...document.querySelectorAll('#lights li')].map(line => line.innerText)")
    return next((line for line in lines if name in line), "")


def frames(browser):
    return browser.execute_script("return window.dashboard.frames")


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def n_pixels(browser, selector, color):
    """Count the pixels of one colour that a part of the page shows."""
    from PIL import Image

    box = browser.execute_script(
        "const b = document.querySelector(arguments[0]).getBoundingClientRect(); "
        "return [b.left, b.top, b.right, b.bottom]",
        selector,
    )
    shown = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB").crop([round(side) for side in box])
    wanted = tuple(bytes.fromhex(color.removeprefix("#")))
    return sum(count for count, found in shown.getcolors(1 << 24) if found == wanted)


def test_an_injected_event_is_flagged_on_the_traces_and_the_probability(page, lab):
    color = LIGHT.events[1]
    assert n_pixels(page, "#traces", color) == 0
    lab.detect("LiftOff")
    wait_until(lambda: "LiftOff" in text(page, "#log"))
    wait_until(lambda: n_pixels(page, "#traces", color) > 300)  # a line from top to bottom
    assert n_pixels(page, "#probabilities", color) > 300
    assert text(page, "#events tbody tr:first-child").split()[0] == "HandStart"
    wait_until(lambda: text(page, "#events tbody tr:last-child").split()[2:] == ["0.60", "1"])


def test_a_bad_channel_is_marked_by_colour_and_word(page):
    assert "Pz flat (repaired)" in light(page, "Channels")
    assert n_pixels(page, "#traces", LIGHT.bad) > 300
    assert n_pixels(page, "#map", LIGHT.bad) > 10


def test_it_survives_a_reload_and_serves_two_tabs_at_once(page):
    page.refresh()
    wait_until(lambda: frames(page) > 5)
    first, url = page.current_window_handle, page.current_url
    page.switch_to.new_window("tab")
    page.get(url)
    wait_until(lambda: frames(page) > 5)
    wait_until(lambda: "running" in light(page, "Monitor"))
    page.close()
    page.switch_to.window(first)
    before = frames(page)
    wait_until(lambda: frames(page) > before + 5)


def test_a_pulled_cable_is_shown_until_it_is_back(page, lab):
    lab.cable_in = False
    wait_until(lambda: "No samples for 2 s: amplifier, cable or network?" in text(page, "#banner"))
    assert page.execute_script("return getComputedStyle(document.querySelector('#traces')).opacity") == "0.4"
    assert "Bad" in light(page, "Stream")
    lab.cable_in = True
    wait_until(lambda: not page.find_element("id", "banner").is_displayed())
    assert "OK" in light(page, "Stream")
    assert page.execute_script("return getComputedStyle(document.querySelector('#traces')).opacity") == "1"


def test_it_survives_a_stream_that_comes_back_with_other_channels(page, lab):
    assert text(page, "#channels") == "1–5 of 5"
    lab.stop_stream()
    wait_until(lambda: "the stream has left the network" in text(page, "#banner"))
    lab.start_stream(("O1", "Oz", "O2"))
    wait_until(lambda: text(page, "#channels") == "1–3 of 3")
    wait_until(lambda: "3 channels" in light(page, "Stream"))
    lab.detect("HandStart")
    wait_until(lambda: n_pixels(page, "#traces", LIGHT.events[0]) > 300)
    lab.stop_stream()
    lab.start_stream(CH_NAMES)
    wait_until(lambda: text(page, "#channels") == "1–5 of 5")


def test_a_key_or_the_form_sends_an_annotation_over_lsl(page, lab):
    inlet = pylsl.StreamInlet(resolve_stream(f"{lab.model}-annotations", 10.0).handle)
    inlet.open_stream(10.0)
    press(page, "3")
    assert inlet.pull_sample(10.0)[0] == ["3"]
    field = page.find_element("id", "note")
    field.send_keys("a cough, 2 m away\n")
    assert inlet.pull_sample(10.0)[0] == ["a cough, 2 m away"]
    page.execute_script("arguments[0].blur()", field)
    press(page, "a")
    sample, when = inlet.pull_sample(10.0)
    assert sample == ["a cough, 2 m away"]
    assert abs(when - pylsl.local_clock()) < 5.0
    wait_until(lambda: n_pixels(page, "#traces", LIGHT.annotation) > 100)
    wait_until(lambda: text(page, "#log").count("cough") == 2)


def test_all_can_be_done_with_the_keyboard(page):
    press(page, " ")
    wait_until(lambda: text(page, "#pause") == "Go on")
    assert "Paused" in text(page, "#banner")
    before = scale = text(page, "#scale")
    press(page, "+")
    wait_until(lambda: text(page, "#scale") != before)
    press(page, "-")
    wait_until(lambda: text(page, "#scale") == scale)
    press(page, " ")
    wait_until(lambda: text(page, "#pause") == "Pause")
    press(page, "d")
    wait_until(lambda: n_pixels(page, "#traces", DARK.background) > 10_000)
    press(page, "d")
    wait_until(lambda: n_pixels(page, "#traces", LIGHT.background) > 10_000)
    reached = []
    for _ in range(10):
        press(page, "\ue004")  # Tab
        reached.append(page.switch_to.active_element.get_attribute("id"))
    assert [name for name in reached if name][:7] == ["pause", "finer", "coarser", "previous", "next", "rows", "note"]


def test_it_fits_narrow_and_wide(page):
    for width, height in ((1280, 660), (1280, 800), (1920, 1080)):
        resize(page, width, height)
        wait_until(lambda width=width: page.execute_script("return innerWidth") == width)
        assert page.execute_script("return document.documentElement.scrollWidth") == width
        assert page.execute_script("return document.documentElement.scrollHeight") <= height
        drawn = page.execute_script("return document.querySelector('#traces').getBoundingClientRect().height")
        assert drawn > 0.4 * height
    resize(page, 1280, 800)


def test_it_follows_the_systems_choice_of_dark(page):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_script("localStorage.clear()")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    wait_until(lambda: n_pixels(page, "#traces", DARK.background) > 10_000)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    wait_until(lambda: n_pixels(page, "#traces", LIGHT.background) > 10_000)


def test_a_dashboard_that_ends_is_said_and_one_that_comes_back_is_found(lab, browser):
    with serve(lab) as url:
        browser.get(url)
        wait_until(lambda: frames(browser) > 5)
    wait_until(lambda: "The dashboard does not answer" in text(browser, "#banner"))
    port = url.rstrip("/").rpartition(":")[2]
    with serve(lab, "--port", port):
        wait_until(lambda: "running" in light(browser, "Monitor"))
        wait_until(lambda: not browser.find_element("id", "banner").is_displayed())
    browser.get_log("browser")  # the connections that were refused meanwhile
