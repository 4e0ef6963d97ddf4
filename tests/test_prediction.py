"""One's own handwriting: every kind of picture is read alike, and what cannot be read is said in one line."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from mnist_adder import runs
from mnist_adder.__main__ import main
from mnist_adder.data import InputError
from mnist_adder.evaluation import evaluate
from mnist_adder.models import build
from mnist_adder.prediction import predict, read_image, to_mnist
from mnist_adder.recipes import RECIPES
from mnist_adder.training import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    """The folder of a short run on the bundled digits."""
    recipe = replace(RECIPES["exact-adder"], digits_epochs=8, batch_size=32)
    fitted = fit(recipe, digits, bar=False)
    folder = tmp_path_factory.mktemp("run")
    facts = {"seed": 0, "validate": None, "device": "cpu"}
    runs.save_run(folder, recipe, digits, fitted, evaluate(fitted.model, digits.test), **facts)
    return folder


@pytest.fixture(scope="module")
def model(run):
    return runs.read_run(run).model


def picture(image, side=190):
    """A digit of the data set as a picture, dark on light."""
    return Image.fromarray(255 - image.numpy()).resize((side, side), Image.Resampling.BICUBIC)


def file_of(image, kind="PNG", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def on_clear(image):
    """The ink alone, white, on nothing."""
    clear = Image.new("RGBA", image.size, (255, 255, 255, 0))
    clear.putalpha(Image.fromarray(255 - np.asarray(image)))
    return clear


def on_page(image):
    page = Image.new("L", (500, 360), 255)
    page.paste(image, (290, 20))
    return page


def shaded(image):
    light = np.linspace(0.5, 1, image.width)
    return Image.fromarray(np.uint8(np.asarray(image) * light))


KINDS = {
    "png": file_of,
    "jpeg": lambda image: file_of(image, "JPEG"),
    "bmp": lambda image: file_of(image, "BMP"),
    "gif": lambda image: file_of(image, "GIF"),
    "palette": lambda image: file_of(image.convert("P")),
    "bilevel": lambda image: file_of(image.convert("1", dither=Image.Dither.NONE)),
    "16 bits": lambda image: file_of(Image.fromarray(np.asarray(image).astype(np.uint16) * 100)),
    "cmyk": lambda image: file_of(image.convert("CMYK"), "JPEG"),
    "red on blue": lambda image: file_of(
        Image.merge("RGB", [Image.fromarray(255 - np.asarray(image)), Image.new("L", image.size), image])
    ),
    "light on dark": lambda image: file_of(Image.fromarray(255 - np.asarray(image))),
    "white on clear": lambda image: file_of(on_clear(image)),
    "black on clear": lambda image: file_of(
        Image.merge("LA", [Image.new("L", image.size), on_clear(image).getchannel("A")])
    ),
    "grey paper": lambda image: file_of(image.point(lambda value: 40 + value // 3)),
    "on a page": lambda image: file_of(on_page(image)),
    "shaded": lambda image: file_of(shaded(on_page(image))),
    "turned by exif": lambda image: file_of(
        image.transpose(Image.Transpose.ROTATE_90),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
    "28 pixels": lambda image: file_of(image.resize((28, 28))),
    "12 megapixels": lambda image: file_of(image.resize((3500, 3500)), "JPEG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind(digits, kind):
    for image in digits.test.images[:4]:
        plain = to_mnist(picture(image)).float()
        seen = to_mnist(read_image(KINDS[kind](picture(image)))).float()
        alike = torch.corrcoef(torch.stack([plain.flatten(), seen.flatten()]))[0, 1]
        assert alike > 0.85, kind


def test_an_image_laid_out_as_mnist_does_stays_as_it_is(digits):
    for image in digits.test.images[:50]:
        for given in (image, 255 - image):
            assert torch.corrcoef(torch.stack([to_mnist(given), image]).flatten(1).float())[0, 1] > 0.95


def test_thin_strokes_are_thickened():
    page = Image.new("L", (400, 400), 255)
    page.paste(0, (200, 50, 203, 350))  # three pixels wide and 300 high
    seen = to_mnist(page)
    assert ((seen > 128).sum(1).max() >= 1) and (seen.sum() / 255 > 20)


def test_dirt_is_not_ink(digits):
    page = on_page(picture(digits.test.images[0]))
    clean = to_mnist(page)
    page.paste(0, (10, 330, 14, 334))
    assert (to_mnist(page).float() - clean.float()).abs().mean() < 1


def test_ink_survives_much_dirt(digits):
    page = np.array(on_page(picture(digits.test.images[0])))
    page[200:350:12, 10:250:12] = 0
    page[201:350:12, 10:250:12] = 0
    assert to_mnist(page).any()


def test_a_phones_jpeg_of_several_pictures(digits):
    image = picture(digits.test.images[0])
    several = file_of(image, "MPO", save_all=True, append_images=[image])
    assert read_image(several).size == image.size


def test_answers(model, digits, tmp_path):
    """Right on almost all, the sum with the digit, and the same however the image is handed over."""
    right = 0
    for image, digit in zip(digits.test.images[:60], digits.test.digits[:60].tolist(), strict=True):
        answer = predict(model, picture(image), 7)
        right += (answer.digit, answer.sum) == (digit, digit + 7)
    assert right >= 54
    assert len(answer.digit_probabilities) == 10
    assert len(answer.sum_probabilities) == 19
    assert sum(answer.digit_probabilities) == pytest.approx(1, abs=1e-5)
    assert sum(answer.sum_probabilities) == pytest.approx(1, abs=1e-5)
    path = tmp_path / "digit.png"
    path.write_bytes(file_of(picture(image)))
    for given in (
        path,
        str(path),
        path.read_bytes(),
        np.asarray(picture(image)),
        np.asarray(picture(image)) / 255,
    ):
        assert predict(model, given, 7)[:2] == answer[:2]


@pytest.mark.parametrize("number", [10, -1, 2.5, "3", None, True])
def test_a_number_that_is_none(model, number):
    with pytest.raises(InputError, match="number must be a whole number from 0 to 9"):
        predict(model, np.zeros((28, 28), np.uint8), number)


def test_uniform_probabilities_warn(digits):
    model = build("adder").eval()
    for parameter in model.parameters():
        parameter.data.zero_()
    with pytest.warns(UserWarning, match="nearly uniform"):
        predict(model, digits.test.images[0], 3)


def animation(kind):
    frames = [Image.new("L", (40, 40), shade) for shade in (0, 255)]
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:])


def huge():
    """The first bytes of a PNG of 20,000×20,000 pixels: there is nothing to decode."""
    file = io.BytesIO()
    PngImagePlugin.putchunk(file, b"IHDR", (20_000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + file.getvalue() + file_of(Image.new("L", (9, 9)))[33:]


BAD = {
    "no such file": (None, "no such file"),
    "empty": (b"", "not a PNG, JPEG, BMP or GIF"),
    "text": (b"a digit, honestly", "not a PNG, JPEG, BMP or GIF"),
    "tiff": (file_of(Image.new("L", (40, 40)), "TIFF"), "not a PNG, JPEG, BMP or GIF"),
    "truncated png": (file_of(Image.effect_noise((90, 90), 50))[:-3000], "truncated or damaged"),
    "truncated jpeg": (file_of(Image.effect_noise((90, 90), 50), "JPEG")[:-3000], "truncated"),
    "1×1": (file_of(Image.new("L", (1, 1))), "too small"),
    "20,000×20,000": (huge(), "more than .* pixels: make it smaller"),
    "animated gif": (animation("GIF"), "animated"),
    "animated png": (animation("PNG"), "animated"),
    "blank": (file_of(Image.new("RGB", (300, 200), "white")), "no ink"),
    "noisy and blank": (file_of(Image.effect_noise((300, 200), 9), "JPEG"), "no ink"),
    "nothing at all": (file_of(Image.new("RGBA", (90, 90))), "no ink"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures(model, tmp_path, name, recwarn):
    content, reason = BAD[name]
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as refusal:
        predict(model, path, 3)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)
    assert not recwarn


def test_a_folder_is_no_picture(model, tmp_path):
    with pytest.raises(InputError, match="is a directory"):
        predict(model, tmp_path, 3)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4, 5), np.uint8), np.array("x")])
def test_arrays_that_are_no_picture(array):
    with pytest.raises(InputError, match=r"not an image|no ink"):
        to_mnist(array)


def test_command(run, digits, tmp_path, monkeypatch, capfd):
    """Bad pictures are named on standard error; the others are answered, in the order given."""
    monkeypatch.chdir(tmp_path)
    with open("good.png", "wb") as file:
        file.write(file_of(picture(digits.test.images[0])))
    with open("text.png", "w") as file:
        file.write("text")
    names = ["text.png", "good.png", "nosuch.png"]
    assert main(["predict", *names, "--number", "4", "--json", "--model", str(run)]) == 2
    out, err = capfd.readouterr()
    answers = json.loads(out)
    assert [answer["image"] for answer in answers] == names
    assert [set(answer) for answer in answers[::2]] == [{"image", "error"}] * 2
    keys = ["image", "number", "digit", "sum", "digit_probabilities", "sum_probabilities"]
    assert list(answers[1]) == keys
    assert answers[1]["number"] == 4
    assert [line.split(": ")[2] for line in err.splitlines()] == ["text.png", "nosuch.png"]
    assert main(["predict", "good.png", "--number", "4", "--model", str(run)]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[1].split()[:3] == ["good.png", "4", str(answers[1]["digit"])]
    assert not err


def test_standard_input(run, digits):
    command = [sys.executable, "-m", "mnist_adder", "predict", "-", "--number", "0", "--json", "--model", run]
    done = subprocess.run(
        command, input=file_of(picture(digits.test.images[0])), capture_output=True, check=True
    )
    assert json.loads(done.stdout)[0]["image"] == "-"
    done = subprocess.run(command, input=b"", capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode() == "mnist-adder: error: -: not a PNG, JPEG, BMP or GIF image\n"


@pytest.mark.parametrize("number", ["10", "x", "-1", "²", ""])
def test_command_refuses_other_numbers(number, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["predict", "a.png", f"--number={number}"])
    assert exit.value.code == 2
    assert "is not a whole number from 0 to 9" in capsys.readouterr().err


@pytest.mark.skipif(not runs.PRETRAINED.is_file(), reason="the package has no weights yet: make weights")
def test_pretrained(digits):
    model = runs.load_pretrained()
    right = [
        predict(model, picture(image), 5).digit == digit
        for image, digit in zip(digits.test.images[:100], digits.test.digits[:100].tolist(), strict=True)
    ]
    assert np.mean(right) > 0.9  # they were trained on MNIST, and these are coarser scans


def test_missing_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "PRETRAINED", tmp_path / "nosuch.safetensors")
    with pytest.raises(InputError, match=r"is missing.*--model"):
        runs.load_pretrained()
