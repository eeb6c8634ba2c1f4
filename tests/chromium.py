"""Headless Chromium for the tests that look at pages; `NEEDED` marks them."""

import shutil
from contextlib import contextmanager

import pytest

from tests.conftest import HANG_SECONDS

PROGRAMS = ("chromium", "chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
NEEDED = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)), reason="chromium is not here: apt-get install chromium chromium-driver"
    ),
]


@contextmanager
def open_browser(profile, size):
    """Chromium with a new profile in the folder `profile`, `size` (width, height), and what it says on its console."""
    from selenium import webdriver

    chromium, driver = map(shutil.which, PROGRAMS)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def wait(browser, script):
    """Waits until the script's value is true, and returns it."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, HANG_SECONDS, poll_frequency=0.05).until(
        lambda b: b.execute_script(f"return {script}")
    )
