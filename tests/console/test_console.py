"""The console in a real browser, in front of a real gateway and pretend clouds: the numbers that /metrics has, in two
languages, two themes and two widths, with nothing that a keyboard or a screen reader cannot use."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from gateway.testing.processes import Clouds, Gateway

HERE = Path(__file__).parent
KEY = "sk-admin-1"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
KEYS = {
    "ARK_KEY": "sk-ark-pretend",
    "DEEPSEEK_KEY": "sk-deepseek-pretend",
    "ACME_KEY": "sk-acme-1",
    "SLOW_KEY": "sk-slow-1",
}
PATIENT = {"max_wait: 2s": "max_wait: 50s", "first_token_timeout: 2s": "first_token_timeout: 50s"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "these tests need Chromium: `make browser` installs Debian's as root"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def clouds() -> Iterator[Clouds]:
    process = Clouds(HERE.parent / "e2e" / "fleet.yaml")
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="module")
def gateway(clouds: Clouds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that waits for slow clouds, so that the figures stand still."""
    text = (HERE.parent / "e2e" / "gateway.yaml").read_text("utf-8")
    for old, new in PATIENT.items():
        assert old in text
        text = text.replace(old, new)
    document = tmp_path_factory.mktemp("console") / "patient.yaml"
    document.write_text(text)
    process = Gateway(document, clouds, env=KEYS)
    yield process
    assert process.stop() == 0
    assert "Traceback" not in "".join(process.lines)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may not say anything to the browser's console, nor leave this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en", color_scheme="light")
    opened = context.new_page()
    said: list[str] = []
    asked: set[str] = set()

    def note(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and "401" not in message.text:
            said.append(message.text)

    opened.on("console", note)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.add(re.sub(r"^(http://127\.0\.0\.1):.*", r"\1", request.url)))
    yield opened
    context.close()
    assert said == []
    assert asked == {"http://127.0.0.1"}


def ask(gateway: Gateway, **fields: Any) -> int:
    body = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    answer = httpx.post(
        f"{gateway.base}/chat/completions", json=body, headers={"authorization": "Bearer sk-acme-1"}, timeout=60
    )
    return answer.status_code


def metric(gateway: Gateway, name: str) -> dict[str, float]:
    """A metric by the value of its first label."""
    text = httpx.get(f"{gateway.url}/metrics").text
    return {label: float(value) for label, value in re.findall(rf'^{name}{{\w+="([^"]*)"}} (\S+)$', text, re.MULTILINE)}


def test_the_page_shows_what_metrics_say_under_load(page: Page, gateway: Gateway, clouds: Clouds) -> None:
    clouds.set("own", fail="slow", drag=2000)
    clouds.set("ark", fail="slow", drag=2000)
    clouds.set("deepseek", fail="slow", drag=2000)
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, gateway, max_tokens=4) for _ in range(16)]
        page.goto(f"{gateway.url}/console")
        expect(page.locator("#board")).to_be_visible()
        expect(page.locator("[data-metric='waiting']")).not_to_have_text("0")
        in_flight = metric(gateway, "spillgate_in_flight")
        assert sum(in_flight.values()) > 0
        for account, value in in_flight.items():
            expect(page.locator(f"[data-account='{account}']")).to_have_text(f"{value:g}")
        expect(page.locator("[data-metric='in-flight']")).to_have_text(f"{sum(in_flight.values()):g}")
        for class_, value in metric(gateway, "spillgate_waiting_by_class").items():
            row = page.locator("#classes tr", has_text=class_)
            expect(row.locator("td")).to_have_text(f"{value:g}")
        clouds.reset()
        assert {answer.result() for answer in asked} <= {200, 429}
    refused = metric(gateway, "spillgate_refused_total")
    for reason, value in refused.items():
        expect(page.locator("#refusals tr", has_text=reason).first.locator("td")).to_have_text(f"{value:g}")
    for id_ in ("flow", "ttft", "tokens"):
        expect(page.locator(f"#{id_} canvas").first).to_be_visible()
        expect(page.locator(f"#{id_}")).to_have_attribute("aria-label", re.compile(r"\d"))


def test_a_click_leads_to_the_waterfall_of_a_request(page: Page, gateway: Gateway) -> None:
    for _ in range(3):
        assert ask(gateway, max_tokens=4) == 200
    assert ask(gateway, model="nothing") == 404
    page.goto(f"{gateway.url}/console")
    rows = page.locator("#requests tr")
    expect(rows.filter(has_text="200").first).to_be_visible()
    page.locator("#filter").fill("404")
    expect(rows).to_have_count(1)
    page.locator("#filter").fill("")
    rows.filter(has_text="200").first.locator("button").click()
    expect(page.locator("#one")).to_be_visible()
    name = page.locator("#one-name").text_content()
    told = httpx.get(f"{gateway.url}/traces/{name}").json()
    names = page.locator("#spans .name").all_text_contents()
    assert [found.split(" · ")[0] for found in names] == spans(told["root"])
    assert Axe().run(page).violations_count == 0
    page.keyboard.press("Escape")
    expect(page.locator("#one")).not_to_be_visible()
    page.locator("h1").click()
    page.get_by_role("button", name="Slowest").click()
    expect(rows.first).to_be_visible()


def spans(span: dict[str, Any]) -> list[str]:
    return [name for part in span.get("spans", []) for name in (part["name"], *spans(part))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_is_usable_by_everybody(browser: Browser, gateway: Gateway, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, locale="en", color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{gateway.url}/console")
    expect(page.locator("#board")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the screen"
    context.close()


def test_keyboard_language_and_theme(page: Page, gateway: Gateway) -> None:
    page.goto(f"{gateway.url}/console")
    expect(page.locator("#board")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for id_ in ("pause", "language", "theme"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == id_
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#h-fleet")).to_have_text("算力水库")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    words = page.evaluate(
        "import('/console/words.js').then(() => [...document.querySelectorAll('[data-word]')].map(e => e.textContent))"
    )
    assert all(words)
    page.reload()
    expect(page.locator("#h-fleet")).to_have_text("算力水库")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.locator("#pause").click()
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")


def test_both_languages_have_the_same_words() -> None:
    text = (Path(__file__).parents[2] / "gateway" / "edge" / "page" / "words.js").read_text("utf-8")
    english, chinese = (set(re.findall(r"(\w+): \"", part)) for part in text.split("\n  zh: {"))
    assert english == chinese


def test_the_admin_key_opens_it_and_nothing_else_does(page: Page, clouds: Clouds) -> None:
    process = Gateway(HERE.parent / "e2e" / "gateway.yaml", clouds, env={**KEYS, "SPILLGATE_ADMIN_KEY": KEY})
    try:
        page.goto(f"{process.url}/console")
        expect(page.locator("#locked")).to_be_visible()
        page.locator("#key").fill("sk-wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#wrong")).to_have_text("This key opens nothing here.")
        page.locator("#key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#board")).to_be_visible()
        assert KEY not in page.content()
        assert httpx.get(f"{process.url}/console/feed").status_code == 401
    finally:
        assert process.stop() == 0


def test_a_gateway_that_is_gone_is_told(browser: Browser, clouds: Clouds) -> None:
    context = browser.new_context(locale="en")
    page = context.new_page()
    process = Gateway(HERE.parent / "e2e" / "gateway.yaml", clouds, env=KEYS)
    page.goto(f"{process.url}/console")
    expect(page.locator("#state")).to_have_text("Ready")
    assert process.stop() == 0
    expect(page.locator("#state")).to_have_text("No answer from the gateway")
    context.close()


def test_only_the_parts_of_the_page_are_served(gateway: Gateway) -> None:
    page = httpx.get(f"{gateway.url}/console")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    again = httpx.get(f"{gateway.url}/console", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in ("nothing.js", "..%2Fconsole.py", "echarts.LICENSE"):
        assert httpx.get(f"{gateway.url}/console/{path}").status_code == 404
