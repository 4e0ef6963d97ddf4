"""The page to draw on: it computes what PyTorch computes, in a real browser without a network."""

import base64
import html
import io
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import HAS_MNIST, MNIST_DIR
from PIL import Image
from torch import nn

import build_page
from mnist_adder import InputError, Split, load_data, load_pretrained, to_mnist
from mnist_adder.data import normalise
from mnist_adder.models import AdderMLP, AdderNet, ExactAdderNet, NumberLineNet
from mnist_adder.page import page_html, show_page, write_page
from published import Cascade

# Pixels from the top of the whole page.
CANVAS_TOP = "document.querySelector('#drawing').getBoundingClientRect().top + scrollY"
# All digits get the same score.
DOUBT = "() => { network.cnn.at(-1).bias.fill(0); network.cnn.at(-1).weight.fill(0); }"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def settled(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """A network whose BatchNorms have seen images, and have random factors, some negative."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    model.train()
    for number in range(10):
        model(normalise(images[:, None]), torch.eye(10)[[number]].expand(len(images), 10))
    return model.eval()


@pytest.fixture(scope="module")
def data() -> Split:
    """MNIST's test images where they are on this machine, else the bundled ones."""
    return load_data("mnist" if HAS_MNIST else "digits", MNIST_DIR).test


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium in PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser, path: Path, **options) -> Iterator:
    """The page in a browser without a network; it must ask for nothing and report no error."""
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url))
    page.goto(path.absolute().as_uri())
    yield page
    context.close()
    assert [text for text in trouble if not text.startswith("data:image/png")] == [
        path.absolute().as_uri()
    ]


@pytest.fixture
def page(browser):
    with opened(browser, build_page.FOLDER / "index.html") as page:
        yield page


def agree(page, model: nn.Module, images: torch.Tensor) -> None:
    """Compare all 29 outputs of the page's network with PyTorch's."""
    numbers = torch.arange(len(images)) % 10
    pairs = [
        [image.flatten().tolist(), int(number)]
        for image, number in zip(images, numbers, strict=True)
    ]
    answers = page.evaluate(
        "pairs => pairs.map(([pixels, number]) => adder.run(pixels, number))", pairs
    )
    found = torch.tensor([answer["log_probs"] + answer["logits"] for answer in answers])
    with torch.no_grad():
        expected = torch.cat(model(normalise(images[:, None]), torch.eye(10)[numbers]), 1)
    assert found.shape == (len(images), 29)
    assert torch.equal(found.isinf(), expected.isinf())
    finite = expected.isfinite()
    assert (found[finite] - expected[finite]).abs().max() <= 1e-4


def test_the_shipped_network_agrees_with_pytorch(page, data):
    agree(page, load_pretrained(), data.images[:500])


def in_bfloat16() -> AdderNet:
    """A network whose weights are bfloat16, which the page holds in half the space."""
    return AdderNet().bfloat16().float()


def one_activation() -> AdderNet:
    """A network in which the same layer stands twice."""
    relu = nn.ReLU()
    layers = (nn.Flatten(), nn.Linear(784, 20), relu, nn.Linear(20, 20), relu, nn.Linear(20, 10))
    return AdderNet(nn.Sequential(*layers))


@pytest.mark.parametrize(
    "make", [AdderNet, NumberLineNet, ExactAdderNet, Cascade, in_bfloat16, one_activation]
)
def test_every_network_of_such_layers_agrees_with_pytorch(browser, data, tmp_path, make):
    torch.manual_seed(0)
    model = settled(make(), data.images[:100])
    model.to(memory_format=torch.channels_last)
    write_page(tmp_path / "page.html", model)
    with opened(browser, tmp_path / "page.html") as page:
        agree(page, model, data.images[:40])


def as_url(image: torch.Tensor) -> str:
    """A picture, black on white, as a data URL."""
    file = io.BytesIO()
    Image.fromarray(255 - image.numpy()).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


COLOURS = """() => {
    const style = getComputedStyle(document.body);
    return [style.backgroundColor, style.color];
}"""
SHOW = """async url => {
    const picture = new Image();
    picture.src = url;
    await picture.decode();
    adder.draw(picture);
    return adder.pixels();
}"""


def canvas_as_to_mnist(page) -> torch.Tensor:
    """What `to_mnist` makes of the canvas."""
    url = page.evaluate("document.getElementById('drawing').toDataURL()")
    return to_mnist(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_a_picture_is_laid_out_as_to_mnist_does(page, data, mnist_dir, count=20):
    model = load_pretrained()
    differences = []
    same = 0
    for image in data.images[:count]:
        pixels = torch.tensor(page.evaluate(SHOW, as_url(image)), dtype=torch.uint8).view(28, 28)
        expected = canvas_as_to_mnist(page)
        differences.append((pixels.float() - expected.float()).abs().mean().item())
        with torch.no_grad():
            log_probs = model(normalise(expected[None, None]), torch.eye(10)[[5]])[0]
        same += page.inner_text("#digit") == str(log_probs.argmax().item())
    assert np.mean(differences) <= 2
    assert same >= count - math.ceil(count / 200)


def arc(
    x: float, y: float, width: float, height: float, first: int, last: int
) -> list[tuple[float, float]]:
    """Points of an arc from one angle to another, in degrees; 0 is its top, 90 its right."""
    angles = np.radians(np.linspace(first, last, 12))
    return list(zip(x + width * np.sin(angles), y - height * np.cos(angles), strict=True))


# The strokes of each digit, in a box from (0, 0) to (1, 1).
STROKES = {
    0: [arc(0.5, 0.5, 0.33, 0.5, 0, -360)],
    1: [[(0.5, 0), (0.5, 1)]],
    2: [[*arc(0.5, 0.28, 0.3, 0.28, -80, 120), (0.15, 1), (0.85, 1)]],
    3: [[*arc(0.45, 0.25, 0.28, 0.25, -60, 180), *arc(0.45, 0.75, 0.33, 0.25, 0, 250)]],
    4: [[(0.3, 0), (0.15, 0.55), (0.85, 0.55)], [(0.7, 0.1), (0.65, 1)]],
    5: [[(0.8, 0), (0.3, 0), (0.25, 0.45), *arc(0.45, 0.68, 0.35, 0.3, -20, 240)]],
    6: [[(0.65, 0), (0.35, 0.4), *arc(0.5, 0.72, 0.28, 0.28, -80, -440)]],
    7: [[(0.15, 0.05), (0.8, 0), (0.45, 1)]],
    8: [
        [
            *arc(0.5, 0.25, 0.25, 0.25, 90, -180),
            *arc(0.5, 0.75, 0.3, 0.25, 0, 360),
            *arc(0.5, 0.25, 0.25, 0.25, 180, 90),
        ]
    ],
    9: [[*arc(0.5, 0.28, 0.26, 0.28, 80, -280), (0.72, 0.5), (0.6, 1)]],
}


def draw(page, strokes, size: float = 0.6, left: float = 0.2, top: float = 0.2) -> None:
    """Draw strokes with the mouse; sizes and places are shares of the canvas's side."""
    box = page.locator("#drawing").bounding_box()
    for stroke in strokes:
        points = [
            (
                box["x"] + (left + size * x) * box["width"],
                box["y"] + (top + size * y) * box["height"],
            )
            for x, y in stroke
        ]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


@pytest.mark.parametrize(
    ("size", "left", "top"), [(0.85, 0.08, 0.08), (0.55, 0.4, 0.1), (0.35, 0.08, 0.55)]
)
def test_strokes_of_any_size_and_place_are_read_and_added(page, size, left, top):
    page.check("#number [value='9']")
    wrong = []
    differences = []
    for digit, strokes in STROKES.items():
        page.click("#clear")
        draw(page, strokes, size, left, top)
        if (page.inner_text("#digit"), page.inner_text("#sum")) != (str(digit), str(digit + 9)):
            wrong.append((digit, page.inner_text("#digit"), page.inner_text("#sum")))
        pixels = torch.tensor(page.evaluate("adder.pixels()")).view(28, 28)
        differences.append((pixels - canvas_as_to_mnist(page).float()).abs().mean())
    assert not wrong
    assert np.mean(differences) <= 1


def test_clear_and_undo_take_back(page):
    assert page.inner_text("#digit") == "?"
    assert "Nothing is drawn" in page.inner_text("#note")
    draw(page, STROKES[1])
    alone = page.evaluate("adder.pixels()")
    draw(page, [[(0, 0), (1, 1)]])
    assert page.evaluate("adder.pixels()") != alone
    page.click("#undo")
    assert page.evaluate("adder.pixels()") == alone
    assert page.inner_text("#digit") == "1"
    page.click("#clear")
    page.click("#undo")
    assert page.evaluate("adder.pixels()") is None
    assert (page.inner_text("#digit"), page.inner_text("#sum")) == ("?", "?")


def test_each_finger_draws_a_stroke_of_its_own_and_the_right_button_none(browser):
    with opened(browser, build_page.FOLDER / "index.html", has_touch=True) as page:
        page.click("#drawing", button="right")
        assert page.evaluate("marks.length") == 0
        box = page.locator("#drawing").bounding_box()
        touch = page.context.new_cdp_session(page)
        for kind, count, down in (
            ("Start", 1, 0),
            ("Start", 2, 0),
            ("Move", 2, 9),
            ("Move", 2, 50),
        ):
            fingers = [
                {"id": finger, "x": box["x"] + 50 + 90 * finger, "y": box["y"] + 50 + down}
                for finger in range(count)
            ]
            event = {"type": f"touch{kind}", "touchPoints": fingers}
            touch.send("Input.dispatchTouchEvent", event)
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        strokes = page.evaluate("marks")
    assert len(strokes) == 2
    for stroke in strokes:
        assert len(stroke) >= 3
        assert len({x for x, _ in stroke}) == 1


def test_a_dot_is_no_sure_digit(page):
    page.click("#drawing")
    assert "Not sure" in page.inner_text("#note")


def test_a_scribble_gets_a_word_of_doubt(page):
    draw(page, STROKES[7])
    assert "It reads the digit 7" in page.inner_text("#note")
    page.evaluate(DOUBT)
    page.check("#number [value='3']")
    assert "Not sure" in page.inner_text("#note")


def test_a_long_note_does_not_move_the_canvas_under_the_pen(browser):
    size = {"width": 360, "height": 740}
    with opened(browser, build_page.FOLDER / "index.html", viewport=size) as page:
        tops = [page.evaluate(CANVAS_TOP)]
        draw(page, STROKES[7])
        tops.append(page.evaluate(CANVAS_TOP))
        page.evaluate(DOUBT)
        page.check("#number [value='3']")
        assert "Not sure" in page.inner_text("#note")
        tops.append(page.evaluate(CANVAS_TOP))
    assert tops == tops[:1] * 3


def test_keys_do_all_that_the_mouse_does(page):
    page.focus("#examples button:nth-child(5)")
    page.keyboard.press("Enter")
    assert page.inner_text("#digit") == "4"
    page.keyboard.press("8")
    assert page.inner_text("#sum") == "12"
    page.focus("#number :checked")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#sum") == "13"
    page.keyboard.press("Control+z")
    assert page.inner_text("#digit") == "?"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_the_dark(browser, scheme):
    size = {"width": 360, "height": 740}
    phone = {"viewport": size, "color_scheme": scheme, "has_touch": True, "is_mobile": True}
    with opened(browser, build_page.FOLDER / "index.html", **phone) as page:
        page.tap("#drawing")  # a finger draws
        assert page.evaluate("adder.pixels()") is not None
        page.click("#examples button:nth-child(3)")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.check("#compare")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        colours = page.evaluate(COLOURS)  # background and text, as "rgb(19, 22, 27)"
        brightness = [sum(map(int, re.findall(r"\d+", colour))) for colour in colours]
        assert (brightness[0] < brightness[1]) == (scheme == "dark")


def test_three_networks_show_who_adds(page):
    page.check("#compare")
    assert page.inner_text("#mlp .seen") == "19 of 19"
    assert int(page.inner_text("#mlp .unseen").split()[0]) <= 5
    assert page.inner_text("#line .unseen") == page.inner_text("#exact .unseen") == "81 of 81"
    assert page.locator("#mlp .shown").count() == 19
    digit, number = build_page.WITHHELD[-1]
    page.locator("#mlp .pairs button").nth(10 * digit + number).click()
    answers = [page.inner_text(f"#{name} output") for name in ("mlp", "line", "exact")]
    right = f"{digit} + {number} = {digit + number}"
    assert answers[0] != right
    assert answers[1:] == [right, right]
    assert f"number {number}" in page.text_content("#numberline")


def test_without_networks_to_compare_there_is_one_view(browser, tmp_path):
    write_page(tmp_path / "page.html", load_pretrained())
    with opened(browser, tmp_path / "page.html") as page:
        assert not page.is_visible("#compare")
        page.click("#examples button:nth-child(1)")
        assert page.inner_text("#sum") == "5"


def test_the_page_in_the_repository_is_the_one_that_the_package_writes(tmp_path):
    build_page.build(tmp_path / "index.html")
    content = (tmp_path / "index.html").read_bytes()
    assert content == (build_page.FOLDER / "index.html").read_bytes(), "build it again: make page"
    assert len(content) <= 600_000


def test_a_notebook_holds_the_whole_page():
    model = load_pretrained()
    frame = show_page(model)._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame).group(1)) == page_html(model)


class Wider(AdderNet):
    def features(self, image):
        return super().features(2 * image)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            AdderNet(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.GELU())),
            r"layer cnn\.2: GELU",
        ),
        (
            AdderNet(
                nn.Sequential(nn.Conv2d(1, 10, 28, dilation=1, padding="valid"), nn.Flatten())
            ),
            r"layer cnn\.0: Conv2d",
        ),
        (AdderNet(adder=nn.Bilinear(10, 10, 19)), "layer adder: Bilinear"),
        (AdderNet(nn.Sequential(nn.Flatten(1, 2), nn.Flatten(), nn.Linear(784, 10))), r"cnn\.0"),
        (AdderNet(adder=AdderMLP(sum_classes=82)), "it has not ten digits and 19 sums"),
        (Wider(), "Wider: it does more"),
        (nn.Linear(784, 10), "Linear: it has not both"),
    ],
)
def test_another_network_is_refused_and_the_old_page_stays(tmp_path, model, message):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(InputError, match=message) as error:
        write_page(path, model)
    assert "\n" not in str(error.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
