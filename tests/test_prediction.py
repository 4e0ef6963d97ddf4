"""Pictures of every kind are read alike, and a picture that cannot be read gives one clear line."""

import copy
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refusal
from PIL import Image, ImageDraw, ImageOps, PngImagePlugin
from torch import nn

from mnist_adder.__main__ import main
from mnist_adder.prediction import evidence_of, explain, predict, read_image, to_mnist, views
from mnist_adder.runs import load_pretrained
from mnist_adder.sources import mnist_layout


@pytest.fixture(scope="module")
def model():
    return load_pretrained()


def picture(image, side=190):
    """A digit of the data set as a picture, dark on light."""
    return Image.fromarray(255 - image.numpy()).resize((side, side), Image.Resampling.BICUBIC)


def file_of(image, kind="PNG", **settings):
    """The bytes of the image's file."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def on_clear(image):
    """White ink on a transparent background."""
    clear = Image.new("RGBA", image.size, (255, 255, 255, 0))
    clear.putalpha(ImageOps.invert(image))
    return clear


def on_page(image):
    page = Image.new("L", (500, 360), 255)
    page.paste(image, (290, 20))
    return page


def shaded(image):
    light = np.linspace(0.5, 1, image.width)
    return Image.fromarray(np.uint8(np.asarray(image) * light))


def red_on_blue(image):
    return Image.merge("RGB", [ImageOps.invert(image), Image.new("L", image.size), image])


def black_on_clear(image):
    return Image.merge("LA", [Image.new("L", image.size), ImageOps.invert(image)])


TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
MODES = {
    "palette": lambda image: image.convert("P"),
    "bilevel": lambda image: image.convert("1", dither=Image.Dither.NONE),
    "16 bits": lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 100),
    "red on blue": red_on_blue,
    "light on dark": ImageOps.invert,
    "white on clear": on_clear,
    "black on clear": black_on_clear,
    "grey paper": lambda image: image.point(lambda value: 40 + value // 3),
    "on a page": on_page,
    "shaded": lambda image: shaded(on_page(image)),
    "28 pixels": lambda image: image.resize((28, 28)),
    "12 megapixels": lambda image: image.resize((3500, 3500)),
}


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_kind(digits, mode):
    for image in digits.test.images[:2]:
        pixels = to_mnist(read_image(file_of(MODES[mode](picture(image)))))
        assert similarity(pixels, to_mnist(picture(image))) > 0.85


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "GIF", "WEBP"])
def test_files_of_every_kind(digits, kind):
    image = picture(digits.test.images[0])
    assert similarity(to_mnist(read_image(file_of(image, kind))), to_mnist(image)) > 0.95


def test_a_picture_is_turned_as_its_exif_data_says(digits):
    image = picture(digits.test.images[0])
    content = file_of(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=TURNED)
    for turned in (read_image(content), Image.open(io.BytesIO(content))):
        assert similarity(to_mnist(turned), to_mnist(image)) > 0.95


def similarity(first, second):
    """The correlation of two images' pixels."""
    return torch.corrcoef(torch.stack([first, second]).flatten(1).float())[0, 1]


def test_an_image_in_mnist_layout_stays_as_it_is(digits):
    for image in digits.test.images[:50]:
        for light_or_dark in (image, 255 - image):
            assert similarity(to_mnist(light_or_dark), image) > 0.85


def test_a_clean_canvas_is_laid_out_as_mnist_does():
    """The page in a browser does only this, and must see the same."""
    ink = torch.from_numpy(np.array(seven(20))).float()
    difference = to_mnist(seven(20)).float() - mnist_layout(1 - ink / 255).float()
    assert difference.abs().max() <= 2


def seven(pen=12):
    page = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(page).line((60, 40, 140, 40, 90, 160), 0, pen, "curve")
    return page


def sheet(image):
    """A digit of about 140 pixels in the middle of a sheet of 240×240, pen 50 on paper 220."""
    page = Image.new("L", (240, 240), 220)
    page.paste(picture(image).point(lambda value: 50 + value * 170 // 255), (25, 25))
    return page


def drawn(shape, width=0, colour=0, kind="rectangle"):
    """Return a function that draws over a sheet."""

    def spoil(page):
        getattr(ImageDraw.Draw(page), kind)(shape, colour, width=width)
        return page

    return spoil


def boxed(page):
    ImageDraw.Draw(page).rectangle((8, 8, 231, 231), outline=0, width=3)
    return page


def on_table(page):
    table = Image.new("L", (360, 360), 60)
    table.paste(page, (70, 50))
    return table


def turned_on_table(page):
    return page.rotate(8, Image.Resampling.BICUBIC, expand=True, fillcolor=60)


def with_specks(page):
    page = page.point(lambda value: value * 150 // 220)
    for corner in ((30, 30), (200, 30), (30, 200), (200, 200)):
        page.paste(255, (*corner, corner[0] + 3, corner[1] + 3))
    return page


def in_colours(page):
    """Teal on yellow-green: one of the three channels is lighter where the ink is."""
    ink = (220 - np.asarray(page, float)[:, :, None]) / 170
    mixed = np.array([154, 205, 50]) * (1 - ink) + np.array([0, 128, 128]) * ink
    return Image.fromarray(np.uint8(mixed.clip(0, 255)))


SPOILED = {
    "border": lambda page: ImageOps.expand(page, 1, 0),
    "box": boxed,
    "strip": drawn((0, 0, 14, 239), colour=60),
    "table": on_table,
    "turned on the table": turned_on_table,
    "specks": with_specks,
    "dirt": drawn((10, 220, 14, 224)),
    "colours": in_colours,
    "underline": drawn((20, 226, 220, 229), 6, 50, "line"),
    "neighbour": drawn((228, 60, 239, 110), colour=50),
    "white piece": lambda page: drawn((215, 20, 239, 70), colour=255)(with_specks(page)),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_not_the_digit(digits, name):
    least = 0.85 if name.startswith("turned") else 0.9
    for image in digits.test.images[:4]:
        assert similarity(to_mnist(SPOILED[name](sheet(image))), to_mnist(sheet(image))) > least


def test_a_bold_digit_in_a_tight_crop_is_not_its_paper():
    """More than half of the picture is ink."""
    page = Image.new("L", (120, 150), 255)
    ImageDraw.Draw(page).line((0, 26, 94, 26, 40, 150), 0, 52)  # a 7
    page = page.rotate(-15, fillcolor=255, center=(60, 75)).crop((0, 20, 120, 140))
    assert np.mean(np.asarray(page) < 128) > 0.5
    margins = ImageOps.expand(page, 60, 255)
    assert similarity(to_mnist(page), to_mnist(margins)) > 0.99


def test_faint_thin_colour_is_ink():
    page = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(page).line((60, 40, 140, 40, 90, 160), (225, 190, 251), 1)
    assert similarity(to_mnist(page), to_mnist(seven())) > 0.75


def test_several_digits_are_counted(digits):
    page = Image.new("L", (480, 240), 220)
    for place in range(2):
        page.paste(sheet(digits.test.images[place]), (240 * place, 0))
    assert "shows 2 digits: cut out one" in refusal(to_mnist, page)
    assert "digits found: 2" in explain(page).axes[1].get_title()


def test_the_steps_are_drawn(digits):
    figure = explain(file_of(boxed(sheet(digits.test.images[0]))))
    found = np.array(figure.axes[1].images[0].get_array())
    box = (found[120] == found[8, 8]).all(1)  # The box has one colour, the digit others.
    assert box.sum() >= 4
    seen = np.array(figure.axes[2].images[0].get_array())
    assert (seen == to_mnist(boxed(sheet(digits.test.images[0]))).numpy()).all()


def test_a_phones_jpeg_of_several_pictures(digits):
    image = picture(digits.test.images[0])
    several = file_of(image, "MPO", save_all=True, append_images=[image])
    assert read_image(several).size == image.size


def test_heic(digits, monkeypatch):
    """A phone's HEIC is read where pillow-heif is installed, and else the line says what to do."""
    image = picture(digits.test.images[0])
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    content = file_of(image, "HEIF")
    assert similarity(to_mnist(read_image(content)), to_mnist(image)) > 0.95
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "for HEIC, install pillow-heif" in refusal(read_image, content)


def test_predictions(model, digits, tmp_path):
    """They are mostly right, and every form of the same image gives the same answer."""
    right = 0
    for image, digit in zip(digits.test.images[:60], digits.test.digits[:60].tolist(), strict=True):
        answer = predict(model, picture(image), 7, evidence=0)
        right += (answer.digit, answer.sum) == (digit, digit + 7)
    assert right >= 54
    assert len(answer.digit_probabilities) == 10
    assert len(answer.sum_probabilities) == 19
    assert sum(answer.digit_probabilities) == pytest.approx(1, abs=1e-5)
    assert sum(answer.sum_probabilities) == pytest.approx(1, abs=1e-5)
    assert similarity(answer.pixels, image) > 0.95
    path = tmp_path / "digit.png"
    path.write_bytes(file_of(picture(image)))
    array = np.asarray(picture(image))
    for form in (str(path), path.read_bytes(), array, array / 255, array.astype(np.uint16) * 257):
        assert predict(model, form, 7, evidence=0)[:2] == answer[:2]


def test_any_module_can_predict(digits):
    """A network needs only the two inputs and the two outputs; it may have no parameters."""

    class NineAndLast(nn.Module):
        def forward(self, image, number):
            assert image.shape == (1, 1, 28, 28) and number.argmax(1) == 4
            return (torch.eye(10)[9:] + 1e-9).log(), 99 * torch.eye(19)[18:]

    assert predict(NineAndLast(), digits.test.images[0], 4)[:2] == (9, 18)


def test_a_network_in_training_mode_answers_as_after_it_and_stays_as_it_is(digits):
    network = load_pretrained()
    image = digits.test.images[0]
    expected = predict(network, image, 3)
    before = copy.deepcopy(network.state_dict())
    answer = predict(network.train(), image, 3)
    assert answer.digit_probabilities == expected.digit_probabilities
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("number", [10, -1, 2.5, "3", None, True])
def test_numbers_outside_0_to_9(model, number):
    message = refusal(predict, model, np.zeros((28, 28), np.uint8), number)
    assert "number must be a whole number from 0 to 9" in message


def constant_model(value):
    """A network whose weights all have the same value."""
    model = load_pretrained()
    for parameter in model.parameters():
        parameter.data.fill_(value)
    return model


def test_what_the_network_cannot_tell_is_not_sure(digits, tmp_path):
    path = tmp_path / "digit.png"
    path.write_bytes(file_of(picture(digits.test.images[0])))
    images = ((digits.test.images[0], ""), (path, f"{path}: "), (str(path), f"{path}: "))
    for image, prefix in images:
        with pytest.warns(UserWarning, match=f"^{re.escape(prefix)}this does not look like"):
            assert not predict(constant_model(0), image, 3).sure


def test_evidence():
    """It is the raw score of the best digit above the mean, whatever was added to all ten."""
    scores = torch.tensor([[9.0, *[0.0] * 8, 1.0], [0.5] * 10])
    assert evidence_of([scores.log_softmax(1)]).tolist() == pytest.approx([8, 0], abs=1e-5)
    unsteady = [scores.log_softmax(1), scores.flip(1).log_softmax(1)]
    assert evidence_of(unsteady)[0] < 5
    assert [view.shape for view in views(torch.ones(2, 28, 28, dtype=torch.uint8))] == [
        (2, 28, 28)
    ] * 3


def test_nan_weights(digits):
    message = refusal(predict, constant_model(torch.nan), digits.test.images[0], 3)
    assert "the network's answer is NaN or infinite" in message


def animation(kind):
    frames = [Image.new("L", (40, 40), shade) for shade in (0, 255)]
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:])


def huge(side):
    """A PNG whose header announces side×side pixels, and which holds none."""
    file = io.BytesIO()
    PngImagePlugin.putchunk(file, b"IHDR", side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + file.getvalue() + file_of(Image.new("L", (9, 9)))[33:]


def noisy_page(dtype, brightness):
    """A blank page [200, 300] whose noise is 2 % of its brightness."""
    noise = np.random.default_rng(0).uniform(0.98, 1, (200, 300))
    return (brightness * noise).astype(dtype)


BAD = {
    "no such file": (None, "no such file"),
    "empty": (b"", "not a PNG, JPEG, BMP, GIF or WebP"),
    "text": (b"a digit, honestly", "not a PNG, JPEG, BMP, GIF or WebP"),
    "tiff": (file_of(Image.new("L", (40, 40)), "TIFF"), "not a PNG, JPEG, BMP, GIF or WebP"),
    "truncated png": (file_of(Image.effect_noise((90, 90), 50))[:-3000], "truncated or damaged"),
    "truncated jpeg": (file_of(Image.effect_noise((90, 90), 50), "JPEG")[:-3000], "truncated"),
    "1×1": (file_of(Image.new("L", (1, 1))), "too small"),
    # Pillow alone warns of the first of these sizes and refuses the second.
    "9,600×9,600": (huge(9600), "pixels: make it smaller"),
    "20,000×20,000": (huge(20_000), "pixels: make it smaller"),
    "animated gif": (animation("GIF"), "animated"),
    "animated png": (animation("PNG"), "animated"),
    "blank": (file_of(Image.new("RGB", (300, 200), "white")), "no ink"),
    "noisy and blank": (file_of(Image.effect_noise((300, 200), 9), "JPEG"), "no ink"),
    "transparent": (file_of(Image.new("RGBA", (90, 90))), "no ink"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures(model, tmp_path, name, recwarn):
    content, reason = BAD[name]
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    message = refusal(predict, model, path, 3)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert not recwarn


def test_a_folder_and_no_bytes_are_no_picture(model, tmp_path):
    assert "is a directory" in refusal(predict, model, tmp_path, 3)
    assert "it is empty" in refusal(predict, model, b"", 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 4, 5), np.uint8),
        np.zeros((0, 0)),
        np.array("x"),
        np.eye(9) - 0.5,
        np.eye(9) * 70_000,
        np.where(np.eye(9), 1, np.nan),
    ],
)
def test_arrays_that_are_no_image(array):
    assert "not an image" in refusal(to_mnist, array)


@pytest.mark.parametrize(("dtype", "brightness"), [(np.uint16, 60_000), (float, 0.9), (float, 250)])
def test_blank_arrays(dtype, brightness):
    """Noise does not become a digit, whatever the type of the values."""
    assert "no ink" in refusal(to_mnist, noisy_page(dtype, brightness))


def test_command(tmp_path, monkeypatch, capfd):
    """Bad pictures are named on standard error, and the answers keep the order of the pictures."""
    monkeypatch.chdir(tmp_path)
    Path("go\x1bod.png").write_bytes(file_of(seven()))
    Path("text.png").write_text("text")
    names = ["text.png", "go\x1bod.png", "nosuch.png"]
    assert main(["predict", *names, "--number", "4", "--json"]) == 2
    out, err = capfd.readouterr()
    answers = json.loads(out)
    assert [answer["image"] for answer in answers] == names
    assert [set(answer) for answer in answers[::2]] == [{"image", "error"}] * 2
    keys = ["image", "number", "digit", "sum", "digit_probabilities", "sum_probabilities", "sure"]
    assert list(answers[1]) == keys
    assert answers[1]["number"] == 4
    assert [line.split(": ")[2] for line in err.splitlines()] == ["text.png", "nosuch.png"]
    assert main(["predict", names[1], "--number", "4"]) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(r"go\\x1bod.png: digit 7 \(.+%\), number 4, sum 11 \(.+%\)\n", out)
    assert not err


def test_an_answer_is_printed_in_a_line(model):
    answer = predict(model, seven(), 5)
    assert repr(answer) == "Prediction(digit 7, sum 12, sure: True)"
