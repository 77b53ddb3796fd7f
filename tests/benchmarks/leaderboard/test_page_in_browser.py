"""The page in headless Chromium, driven over its DevTools pipe: sorting, filters, links, no error, no request."""

import json
import os
import select
import shutil
import subprocess
import sys
import time

import pytest

from benchmarks.leaderboard.html_page import page
from ddoq.storage.files import write_json

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome"),
]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]
# Chromium listens on descriptor 3 and speaks on 4.
LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3); os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
EVIL = "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"


class Browser:
    """A tab, what it complained of and what it asked for."""

    def __init__(self, profile):
        theirs, self.out = os.pipe()
        self.source, mine = os.pipe()
        command = [sys.executable, "-c", LAUNCH, str(theirs), str(mine), BROWSER, *FLAGS]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"],
            pass_fds=(theirs, mine),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(mine)
        self.pending, self.last, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.last:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def receive(self):
        deadline = time.monotonic() + 60
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.source], [], [], deadline - time.monotonic())
            assert ready, "the browser does not answer"
            part = os.read(self.source, 1 << 16)
            assert part, "the browser has ended"
            self.pending += part
        message, _, self.pending = self.pending.partition(b"\0")
        return json.loads(message)

    def open(self, path):
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def run(self, script):
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, code, text=""):
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if kind == "keyDown" and text else {}
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **extra,
            )

    def complaints(self):
        names = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event for event in self.events if event.get("method") in names]

    def requests(self):
        asked = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in asked]
        return [address for address in addresses if not address.startswith("data:")]

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(timeout=30)
        os.close(self.out)
        os.close(self.source)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def written(tmp_path, result_of):
    """A page with two datasets, two recipes, two label modes, a picture, and a name that is markup."""
    results = [
        result_of(method=m, student=s, ipc=i, seed=seed, top1=a + seed / 50)
        for m, a in (("ddoq", 0.5), ("random", 0.4), ("d4m", 0.45))
        for s in ("resnet18", "vit")
        for i in (1, 10)
        for seed in (0, 1)
        if (m, s) != ("d4m", "vit")
    ]
    results += [
        result_of(data={"name": "cifar10"}, ipc=50),
        result_of(recipe_label="hard", recipe={"labels": "hard"}),
        result_of(method=EVIL, student=EVIL, top1=0.1),
    ]
    distilled = tmp_path / "distilled" / "set"
    write_json(distilled / "metadata.json", {"fingerprint": "ddoq-0"})
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(distilled / "images.png")
    path = tmp_path / "page.html"
    path.write_text(page(results, tmp_path), encoding="utf-8")
    return path


TABLE = "[...document.querySelectorAll('section.table')].at(-1).querySelector('table')"
ROWS = f"[...{TABLE}.tBodies[0].rows].map(row => row.cells[0].textContent.slice(0, 8))"
SHOWN = (
    "[...document.querySelectorAll('section.table')].filter(t => t.checkVisibility())"
    ".map(t => t.querySelector('h3').textContent)"
)


def choose(name, value):
    return (
        f"{{ const s = document.forms[0].elements['{name}']; s.value = '{value}'; "
        "s.dispatchEvent(new Event('change', {bubbles: true})); }"
    )


def test_it_loads_without_complaints_requests_or_foreign_scripts(browser, written):
    browser.open(written)
    assert browser.run("window.pwned ?? null") is None
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelector('.sheet img').naturalWidth") == 40
    # A script of someone else's is stopped even where it gets into the page.
    browser.run(
        "{ const s = document.createElement('script'); s.textContent = 'window.pwned = 2'; document.body.append(s); }"
    )
    assert browser.run("window.pwned ?? null") is None
    browser.open(written)
    assert browser.complaints() == []
    assert browser.requests() == [written.as_uri()]


def test_headers_sort_and_say_so(browser, written):
    browser.open(written)
    header = f"[...{TABLE}.tHead.rows[0].cells].find(c => c.textContent === 'vit')"
    assert browser.run(f"{header}.getAttribute('aria-sort')") is None
    browser.run(f"{header}.querySelector('button').click()")
    assert browser.run(f"{header}.getAttribute('aria-sort')") == "descending"
    assert browser.run(ROWS)[:2] == ["ddoq", "random"]
    browser.run(f"{header}.querySelector('button').click()")
    assert browser.run(f"{header}.getAttribute('aria-sort')") == "ascending"
    assert browser.run(ROWS)[:2] == ["random", "ddoq"]  # what was not run stays last
    first = f"{TABLE}.tHead.rows[0].cells[0]"
    browser.run(f"{first}.querySelector('button').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.run(f"{first}.getAttribute('aria-sort')") == "ascending"
    assert browser.run(ROWS) == ["<script>", "d4m", "ddoq", "random"]
    assert browser.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_filters_hide_what_does_not_match(browser, written):
    browser.open(written)
    everything = browser.run(SHOWN)
    assert len(everything) == 4
    browser.run(choose("ipc", "1"))
    assert browser.run(SHOWN) == ["toy, 1 image per class"]
    assert browser.run("document.getElementById('shown').textContent") == "1 of 4 tables shown."
    ipcs = "[...document.querySelectorAll('tr[data-ipc]')].filter(t => t.checkVisibility()).map(t => t.dataset.ipc)"
    assert set(browser.run(ipcs)) == {"1"}
    browser.run(choose("dataset", "cifar10"))
    assert browser.run(SHOWN) == []
    assert (
        browser.run("document.getElementById('shown').textContent") == "No table has all of this."
    )
    browser.run(choose("ipc", "50"))
    assert browser.run(SHOWN) == ["cifar10, 50 images per class"]
    published = "[...document.querySelectorAll('details.numbers')].filter(d => !d.hidden).map(d => d.dataset.dataset)"
    assert browser.run(published) == ["cifar10"]
    browser.run("document.forms[0].reset(); new Promise(done => setTimeout(done, 50))")
    assert browser.run(SHOWN) == everything
    browser.run(choose("labels", "hard"))
    assert browser.run(SHOWN) == ["toy, 10 images per class"]
    browser.run(choose("labels", "") + choose("recipe", "unified"))
    assert len(browser.run(SHOWN)) == 3
    assert browser.complaints() == []


def test_a_row_opens_its_configuration_and_a_picture_grows(browser, written):
    browser.open(written)
    browser.run("[...document.querySelectorAll('a')].find(a => a.textContent === 'show').click()")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert browser.run("document.activeElement.tagName") == "PRE"
    assert browser.run("document.activeElement.checkVisibility()") is True
    assert browser.run("JSON.parse(document.activeElement.textContent).results.length") == 1
    browser.run("document.querySelector('.sheet button').click()")
    assert (
        browser.run("document.querySelector('.sheet button').getAttribute('aria-pressed')")
        == "true"
    )


@pytest.mark.parametrize("width", [320, 390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_and_is_readable_in_both_schemes(browser, written, width, scheme):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 1000}
    browser.call("Emulation.setDeviceMetricsOverride", **metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=features)
    browser.open(written)
    assert browser.run("document.documentElement.scrollWidth") <= width
    worst = browser.run(
        """(() => {
          const parse = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (e) => {
            for (; e; e = e.parentElement) {
              const color = parse(getComputedStyle(e).backgroundColor);
              if (color.length === 3 || color[3] > 0) return color;
            }
          };
          const ratios = [...document.querySelectorAll("td, th, p, a, li, caption, h1, h2, .key, .axis text")]
            .map((e) => {
              const style = getComputedStyle(e);
              const ink = light(parse(e.closest("svg") ? style.fill : style.color));
              const paper = light(behind(e));
              return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
            });
          return Math.min(...ratios);
        })()"""
    )
    assert worst >= 4.5  # WCAG 2.2, AA


def test_tables_are_there_without_scripts(browser, written):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(written)
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
        assert len(browser.run(SHOWN)) == 4
        assert browser.run("document.querySelectorAll('table button').length") == 0
        assert browser.run("document.getElementById('filters').checkVisibility()") is False
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
