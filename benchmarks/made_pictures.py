"""Pictures to try `predict` with: MNIST's digits as people might send them, and other things.

Each function draws what is random with a NumPy generator, `draw`.
"""

import io

import numpy as np
import skimage.data
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from skimage.morphology import skeletonize
from sklearn.datasets import load_sample_images

Random = np.random.Generator


def enlarge(image: Image.Image, draw: Random) -> Image.Image:
    side = int(draw.integers(170, 201))
    return image.resize((side, side), Image.Resampling.BICUBIC)


def inverted(image: Image.Image, draw: Random) -> Image.Image:
    return Image.fromarray(255 - np.asarray(enlarge(image, draw)))


def off_centre(image: Image.Image, draw: Random) -> Image.Image:
    image = enlarge(image, draw)
    canvas = Image.new("L", (480, 360))
    left = int(draw.integers(0, canvas.width - image.width))
    top = int(draw.integers(0, canvas.height - image.height))
    canvas.paste(image, (left, top))
    return canvas


def write(ink: np.ndarray, paper: float, pen: float) -> Image.Image:
    """Ink, 0…255, as a pen of one grey on paper of another."""
    return Image.fromarray(np.uint8(paper + (pen - paper) * (ink / 255)))


def sheet(image: Image.Image, draw: Random, paper: int = 220, pen: int = 50) -> Image.Image:
    """A digit of 120–160 pixels on a sheet of 200×200."""
    side = int(draw.integers(140, 181))
    canvas = Image.new("L", (200, 200))
    left = int(draw.integers(0, 201 - side))
    top = int(draw.integers(0, 201 - side))
    canvas.paste(image.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return write(np.asarray(canvas, float), paper, pen)


def grey(image: Image.Image, draw: Random) -> Image.Image:
    return write(np.asarray(enlarge(image, draw), float), int(draw.integers(100, 200)), 20)


def shadow(image: Image.Image, draw: Random, hard: bool = False) -> Image.Image:
    """A page, dark on light, half as bright on one of its four sides as on the other."""
    page = np.asarray(inverted(off_centre(image, draw), draw), float)
    light = np.linspace(0.5, 1, len(page))
    if hard:
        light = np.where(light < 0.75, 0.5, 1)
    light = np.rot90(np.tile(light, (len(page), 1)), draw.integers(4))
    return Image.fromarray(np.uint8(page * light))


def everything(image: Image.Image, draw: Random) -> Image.Image:
    """Pencil on a larger grey page, in soft light from one side, with a camera's noise."""
    page = np.asarray(shadow(image, draw), float) / 255
    page = 210 * (0.45 + 0.55 * page) + draw.normal(0, 6, page.shape)
    return as_jpeg(Image.fromarray(np.uint8(page.clip(0, 255))).convert("RGB"))


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG")
    return Image.open(file)


def rectangle(image: Image.Image, draw: Random, inset: int, width: int) -> Image.Image:
    page = sheet(image, draw, 255, 0).resize((200 - 2 * inset - 8,) * 2)
    canvas = Image.new("L", (200, 200), 255)
    canvas.paste(page, (inset + 4, inset + 4))
    corners = (inset, inset, 199 - inset, 199 - inset)
    ImageDraw.Draw(canvas).rectangle(corners, outline=0, width=width)
    return canvas


def axes(image: Image.Image, draw: Random) -> Image.Image:
    """As a plot shows it: a frame with ticks."""
    canvas = rectangle(image, draw, 15, 2)
    pen = ImageDraw.Draw(canvas)
    for place in range(30, 190, 25):
        pen.line((place, 185, place, 191), 0, 2)
        pen.line((8, place, 14, place), 0, 2)
    return canvas


def strip(image: Image.Image, draw: Random) -> Image.Image:
    widths = np.zeros(4, int)
    widths[draw.integers(4)] = draw.integers(4, 30)
    page = np.pad(sheet(image, draw), widths.reshape(2, 2), constant_values=60)
    return Image.fromarray(page)


def on_table(image: Image.Image, draw: Random) -> Image.Image:
    table = Image.new("L", (300, 300), 60)
    place = draw.integers(10, 91, 2)
    table.paste(sheet(image, draw), (int(place[0]), int(place[1])))
    return table


def specks(image: Image.Image, draw: Random, count: int = 4) -> Image.Image:
    page = np.array(sheet(image, draw, 150, 50))
    for top, left in draw.integers(5, 190, (count, 2)):
        page[top : top + 3, left : left + 3] = 255
    return Image.fromarray(page)


def coloured(image: Image.Image, draw: Random) -> Image.Image:
    """Teal on yellow-green, with 0.5 % of the pixels black or white."""
    ink = np.asarray(sheet(image, draw, 0, 255), float)[:, :, None] / 255
    page = np.array([154, 205, 50]) * (1 - ink) + np.array([0, 128, 128]) * ink
    dirt = draw.random((200, 200)) < 0.005
    page[dirt] = 255 * draw.integers(0, 2, (dirt.sum(), 1))
    return Image.fromarray(np.uint8(page))


def lilac(image: Image.Image, draw: Random) -> Image.Image:
    """The middle line of the strokes, one pixel wide, in a faint colour."""
    strokes = np.asarray(sheet(image, draw, 0, 255)) > 127
    line = skeletonize(strokes)[:, :, None]
    return Image.fromarray(np.uint8(np.where(line, (225, 190, 251), 255)))


def bold(image: Image.Image, draw: Random) -> Image.Image:
    """Strokes so bold that they cover 60 % of a tight crop."""
    page = enlarge(image, draw)
    for _ in range(30):
        crop = page.crop(page.point(lambda value: 255 * (value > 127)).getbbox())
        if np.mean(np.asarray(crop) > 127) >= 0.6:
            break
        page = page.filter(ImageFilter.MaxFilter(3))
    return Image.fromarray(255 - np.asarray(crop))


def bold_on_a_page(image: Image.Image, draw: Random) -> Image.Image:
    """The same strokes with paper around: what of `bold` can be read at all."""
    crop = bold(image, draw)
    canvas = Image.new("L", (crop.width + 120, crop.height + 120), 255)
    canvas.paste(crop, (60, 60))
    return canvas


def underlined(image: Image.Image, draw: Random) -> Image.Image:
    page = sheet(image, draw)
    canvas = Image.new("L", (200, 240), 220)
    canvas.paste(page)
    bottom = (np.asarray(page) < 150).any(1).nonzero()[0][-1]
    height = int(bottom + draw.integers(12, 25))
    ImageDraw.Draw(canvas).line((20, height, 180, height + int(draw.integers(-4, 5))), 50, 7)
    return canvas


def neighbour(image: Image.Image, draw: Random) -> Image.Image:
    """A stroke of the next digit reaches into the picture."""
    canvas = Image.new("L", (240, 200), 220)
    canvas.paste(sheet(image, draw))
    top = int(draw.integers(20, 100))
    shape = (215, top, 275, top + int(draw.integers(50, 90)))
    ImageDraw.Draw(canvas).ellipse(shape, outline=50, width=12)
    return canvas


def white_piece(image: Image.Image, draw: Random) -> Image.Image:
    """A piece of white paper lies at an edge of the grey page."""
    canvas = Image.new("L", (240, 200), 150)
    canvas.paste(sheet(image, draw, 150))
    top = int(draw.integers(0, 140))
    ImageDraw.Draw(canvas).rectangle((int(draw.integers(205, 225)), top, 240, top + 60), 255)
    return canvas


def two(image: Image.Image, other: Image.Image, draw: Random) -> Image.Image:
    canvas = Image.new("L", (340, 200), 220)
    canvas.paste(sheet(image, draw))
    canvas.paste(sheet(other, draw).resize((140, 140)), (200, int(draw.integers(0, 61))))
    return canvas


PLAIN = {
    "28×28": lambda image, draw: image,
    "enlarged to 170–200 pixels": enlarge,
    "… and dark on light": inverted,
    "… and off-centre on 480×360": off_centre,
    "… and on grey paper": grey,
    "… and as JPEG": lambda image, draw: as_jpeg(inverted(image, draw)),
    "page with a soft shadow to half": shadow,
    "page with a hard shadow to half": lambda image, draw: shadow(image, draw, True),
    "pencil, grey page, soft shadow, noise, JPEG": everything,
}
SPOILED = {
    "a 1-px black border": lambda image, draw: rectangle(image, draw, 0, 1),
    "a box around the digit": lambda image, draw: rectangle(image, draw, 20, 3),
    "a plot's frame with ticks": axes,
    "a dark strip along one side": strip,
    "the sheet lies on a darker table": on_table,
    "grey paper with 4 white specks": specks,
    "grey paper with 8 white specks": lambda image, draw: specks(image, draw, 8),
    "teal pen on yellow-green, 0.5 % specks": coloured,
    "lilac on white, 1 px wide": lilac,
    "bold strokes, tight crop, 60 % ink": bold,
    "… and the same strokes on a page": bold_on_a_page,
    "underlined": underlined,
    "a stroke of the neighbour": neighbour,
    "a white piece at the edge": white_piece,
}


def texture(draw: Random) -> Image.Image:
    """Noise of some coarseness, stripes, or checks."""
    kind = draw.integers(3)
    y, x = np.mgrid[:200, :200]
    if kind == 0:
        cells = int(draw.integers(3, 40))
        noise = Image.fromarray(np.uint8(draw.integers(0, 256, (cells, cells))))
        return noise.resize((200, 200), Image.Resampling.BICUBIC)
    angle = draw.uniform(0, np.pi)
    along = np.sin((x * np.cos(angle) + y * np.sin(angle)) / draw.uniform(3, 20))
    across = np.sin((y * np.cos(angle) - x * np.sin(angle)) / draw.uniform(3, 20))
    wave = along if kind == 1 else along * across
    return Image.fromarray(np.uint8(127 + 120 * wave))


def letter(draw: Random) -> Image.Image:
    """A letter that looks like no digit, in one of matplotlib's fonts."""
    fonts = [
        "DejaVuSans",
        "DejaVuSerif-Italic",
        "DejaVuSans-Bold",
        "STIXGeneral",
        "cmtt10",
        "cmr10",
    ]
    name = f"{get_data_path()}/fonts/ttf/{fonts[draw.integers(len(fonts))]}.ttf"
    text = LETTERS[draw.integers(len(LETTERS))]
    canvas = Image.new("L", (200, 200), 255)
    font = ImageFont.truetype(name, int(draw.integers(90, 170)))
    ImageDraw.Draw(canvas).text((100, 100), text, 0, font, "mm")
    return canvas


def scribble(draw: Random) -> Image.Image:
    """A pen that wanders about."""
    canvas = Image.new("L", (200, 200), 255)
    turns = draw.normal(0, draw.uniform(0.1, 0.9), int(draw.integers(40, 200))).cumsum()
    steps = draw.uniform(4, 12) * np.stack([np.cos(turns), np.sin(turns)], 1)
    path = 100 + (steps.cumsum(0) - steps.cumsum(0).mean(0))
    points = [(float(x), float(y)) for x, y in path.clip(10, 190)]
    ImageDraw.Draw(canvas).line(points, 0, int(draw.integers(4, 12)), "curve")
    return canvas


def natural(draw: Random) -> Image.Image:
    """A square cut out of a photograph that scikit-image or scikit-learn ships."""
    photos = [getattr(skimage.data, name) for name in PHOTOS]
    index = int(draw.integers(len(photos) + 2))
    photo = (
        photos[index]() if index < len(photos) else load_sample_images().images[index - len(photos)]
    )
    image = Image.fromarray(np.uint8(photo))
    side = int(draw.integers(100, min(image.size)))
    left = int(draw.integers(0, image.width - side + 1))
    top = int(draw.integers(0, image.height - side + 1))
    return image.crop((left, top, left + side, top + side))


LETTERS = "ACDEFGHJKLMNPQRTUVWXYadefhkmnprtuvwxy"  # without B I O S Z b c g i j l o q s z
PHOTOS = ["astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "moon"]
PHOTOS += ["page", "text", "rocket", "horse"]
OTHER_THINGS = {
    "textures": texture,
    "letters": letter,
    "scribbles": scribble,
    "photographs": natural,
}
