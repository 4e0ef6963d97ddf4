"""Takes the README's picture of the page to draw on, with a digit drawn on it, in a headless Chromium.

python benchmarks/screenshot.py images/demo.png
"""

import shutil
import sys

from playwright.sync_api import sync_playwright

from mnist_adder import demo, load_pretrained

SEVEN = ((0.3, 0.25), (0.7, 0.25), (0.45, 0.8))  # of the canvas's sides


def main(path: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit(f"{path} is not drawn: there is no Chromium in PATH")
    page_served = demo.launch(load_pretrained(), block=False)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 730})
        page.goto(page_served.local_url)
        canvas = page.locator("#sketch canvas").first
        canvas.wait_for()
        box = canvas.bounding_box()
        for place, (x, y) in enumerate(SEVEN):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=10)
            if not place:
                page.mouse.down()
        page.mouse.up()
        page.locator("#seen img").wait_for()
        page.wait_for_timeout(1000)  # for the last answer, and the bars to have grown
        page.screenshot(path=path)
        browser.close()
    page_served.close()


if __name__ == "__main__":
    main(sys.argv[1])
