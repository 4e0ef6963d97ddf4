"""Takes the README's picture of the page to draw on, with a digit drawn on it, in a headless Chromium.

python benchmarks/screenshot.py images/demo.png
"""

import math
import shutil
import sys

from playwright.sync_api import sync_playwright

from mnist_adder import demo, load_pretrained

# A 3 as two arcs of points (x, y), in shares of the canvas's sides.
THREE = [
    (0.48 + width * math.sin(math.radians(angle)), middle - height * math.cos(math.radians(angle)))
    for width, height, middle, angles in ((0.16, 0.13, 0.33, (-65, 180)), (0.19, 0.16, 0.62, (0, 245)))
    for angle in range(*angles, 5)
]


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
        for place, (x, y) in enumerate(THREE):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if not place:
                page.mouse.down()
        page.mouse.up()
        page.locator("#pixels img").wait_for()
        page.wait_for_timeout(1000)  # for the last answer, and the bars to have grown
        page.screenshot(path=path)
        browser.close()
    page_served.close()


if __name__ == "__main__":
    main(sys.argv[1])
