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
    x: float,
    y: float,
    width: float,
    height: float,
    first: int,
    last: int,
) -> list[tuple[float, float]]:
    """Return points of an arc, clockwise from one angle to another in degrees; 0 is its top."""
    points = []
    for degrees in range(first, last, 5):
        angle = math.radians(degrees)
        right = width * math.sin(angle)
        up = height * math.cos(angle)
        points.append((x + right, y - up))
    return points


# In shares of the canvas's sides.
UPPER = arc(0.48, 0.33, 0.16, 0.15, -65, 180)
LOWER = arc(0.48, 0.65, 0.19, 0.17, 0, 250)
THREE = UPPER + LOWER


def main(path: str) -> None:
    """Take the picture, where there is Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit(f"{path} is not drawn: there is no Chromium in PATH")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 680})
        page.goto(PAGE.as_uri())
        box = page.locator("#drawing").bounding_box()
        for index, (x, y) in enumerate(THREE):
            left = box["x"] + x * box["width"]
            top = box["y"] + y * box["height"]
            page.mouse.move(left, top)
            if index == 0:
                page.mouse.down()
        page.mouse.up()
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
