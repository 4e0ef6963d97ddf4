"""The page to draw on, in a real browser: a digit drawn with the mouse is answered on the page."""

import shutil
import sys
from urllib.parse import urlsplit

import pytest

from mnist_adder.__main__ import main
from mnist_adder.runs import load_pretrained

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def url():
    pytest.importorskip("gradio", reason="no gradio: pip install 'mnist-adder[demo]'")
    from mnist_adder import demo

    blocks = demo.launch(load_pretrained(), block=False)
    yield blocks.local_url
    blocks.close()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser")
    if not CHROMIUM:
        pytest.skip("no Chromium in PATH")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_drawing(browser, url, width):
    from playwright.sync_api import expect

    page = browser.new_page(viewport={"width": width, "height": 900})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    canvas = page.locator("#sketch canvas").first
    canvas.wait_for()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.25
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + box["height"] / 2, steps=10)
    page.mouse.up()
    answers = [page.locator(f"#{name} [data-testid='label-output-value']") for name in ("digit", "sum")]
    expect(answers[0]).to_have_text("1")
    for number in (5, 8):  # the first is the page's own
        page.locator("#number label", has_text=str(number)).click()
        expect(answers[1]).to_have_text(str(1 + number))
    page.locator("#seen img").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert {urlsplit(address).hostname for address in asked if address.startswith(("http", "ws"))} == {
        "127.0.0.1"
    }
    page.get_by_text("Clear").click()
    answers[0].wait_for(state="hidden")
    page.locator("#sketch img").nth(3).click()
    expect(answers[0]).to_have_text("3")
    page.close()


def test_without_gradio(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "mnist_adder.demo", raising=False)
    assert main(["demo"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "mnist-adder[demo]" in error
