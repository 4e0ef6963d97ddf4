"""Take the README's picture of page/index.html, with a 3 drawn on it, in a headless Chromium.

python benchmarks/page_picture.py images/page.png
"""

import math
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PAGE = Path(__file__).parents[1] / "page" / "index.html"


def arc(
    x: float, y: float, width: float, height: float, first: int, last: int
) -> list[tuple[float, float]]:
    """Return points of an arc, clockwise from one angle to another in degrees; 0 is its top."""
    angles = [math.radians(angle) for angle in range(first, last, 5)]
    return [(x + width * math.sin(angle), y - height * math.cos(angle)) for angle in angles]


# In shares of the canvas's sides.
THREE = [*arc(0.48, 0.33, 0.16, 0.15, -65, 180), *arc(0.48, 0.65, 0.19, 0.17, 0, 250)]


def main(path: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit(f"{path} is not drawn: there is no Chromium in PATH")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 680})
        page.goto(PAGE.as_uri())
        box = page.locator("#drawing").bounding_box()
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in THREE]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points:
            page.mouse.move(*point)
        page.mouse.up()
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
