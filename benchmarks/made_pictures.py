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

Picture = Image.Image
Random = np.random.Generator


def blank(width: int, height: int, brightness: int = 0) -> Picture:
    return Image.new("L", (width, height), brightness)


def resized(image: Picture, side: int) -> Picture:
    return image.resize((side, side), Image.Resampling.BICUBIC)


def pixels_of(image: Picture) -> np.ndarray:
    return np.asarray(image, float)


def as_picture(pixels: np.ndarray) -> Picture:
    return Image.fromarray(np.uint8(pixels))


def as_jpeg(image: Picture) -> Picture:
    file = io.BytesIO()
    image.save(file, "JPEG")
    return Image.open(file)


def whole(draw: Random, low: int, end: int) -> int:
    """Draw a whole number, `low` or more and below `end`."""
    return int(draw.integers(low, end))


# Plain pages.


def enlarge(image: Picture, draw: Random) -> Picture:
    return resized(image, whole(draw, 170, 201))


def inverted(image: Picture, draw: Random) -> Picture:
    return as_picture(255 - pixels_of(enlarge(image, draw)))


def off_centre(image: Picture, draw: Random) -> Picture:
    image = enlarge(image, draw)
    canvas = blank(480, 360)
    left = whole(draw, 0, canvas.width - image.width)
    top = whole(draw, 0, canvas.height - image.height)
    canvas.paste(image, (left, top))
    return canvas


def write(ink: np.ndarray, paper: float, pen: float) -> Picture:
    """Ink, 0…255, as a pen of one grey on paper of another."""
    return as_picture(paper + (pen - paper) * (ink / 255))


def sheet(image: Picture, draw: Random, paper: int = 220, pen: int = 50) -> Picture:
    """A digit of 120–160 pixels on a sheet of 200×200."""
    side = whole(draw, 140, 181)
    canvas = blank(200, 200)
    left = whole(draw, 0, 201 - side)
    top = whole(draw, 0, 201 - side)
    canvas.paste(resized(image, side), (left, top))
    return write(pixels_of(canvas), paper, pen)


def grey(image: Picture, draw: Random) -> Picture:
    ink = pixels_of(enlarge(image, draw))
    paper = whole(draw, 100, 200)
    return write(ink, paper, pen=20)


def shadow(image: Picture, draw: Random, hard: bool = False) -> Picture:
    """A page, dark on light, half as bright on one of its four sides as on the other."""
    page = pixels_of(inverted(off_centre(image, draw), draw))
    light = np.linspace(0.5, 1, len(page))
    if hard:
        light = np.where(light < 0.75, 0.5, 1)
    light = np.tile(light, (len(page), 1))
    turns = draw.integers(4)
    return as_picture(page * np.rot90(light, turns))


def hard_shadow(image: Picture, draw: Random) -> Picture:
    return shadow(image, draw, hard=True)


def dark_jpeg(image: Picture, draw: Random) -> Picture:
    return as_jpeg(inverted(image, draw))


def everything(image: Picture, draw: Random) -> Picture:
    """Pencil on a larger grey page, in soft light from one side, with a camera's noise."""
    page = pixels_of(shadow(image, draw)) / 255
    noise = draw.normal(0, 6, page.shape)
    page = 210 * (0.45 + 0.55 * page) + noise
    return as_jpeg(as_picture(page.clip(0, 255)).convert("RGB"))


# Pages with other things on them.


def rectangle(image: Picture, draw: Random, inset: int, width: int) -> Picture:
    page = resized(sheet(image, draw, 255, 0), 192 - 2 * inset)
    canvas = blank(200, 200, 255)
    canvas.paste(page, (inset + 4, inset + 4))
    end = 199 - inset
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((inset, inset, end, end), outline=0, width=width)
    return canvas


def border(image: Picture, draw: Random) -> Picture:
    return rectangle(image, draw, inset=0, width=1)


def box(image: Picture, draw: Random) -> Picture:
    return rectangle(image, draw, inset=20, width=3)


def axes(image: Picture, draw: Random) -> Picture:
    """As a plot shows it: a frame with ticks."""
    canvas = rectangle(image, draw, inset=15, width=2)
    pen = ImageDraw.Draw(canvas)
    for tick in range(30, 190, 25):
        pen.line((tick, 185, tick, 191), 0, 2)
        pen.line((8, tick, 14, tick), 0, 2)
    return canvas


def strip(image: Picture, draw: Random) -> Picture:
    widths = np.zeros(4, int)
    widths[draw.integers(4)] = draw.integers(4, 30)
    page = sheet(image, draw)
    padded = np.pad(page, widths.reshape(2, 2), constant_values=60)
    return Image.fromarray(padded)


def on_table(image: Picture, draw: Random) -> Picture:
    table = blank(300, 300, 60)
    left, top = draw.integers(10, 91, 2).tolist()
    table.paste(sheet(image, draw), (left, top))
    return table


def specks(image: Picture, draw: Random, count: int = 4) -> Picture:
    page = np.array(sheet(image, draw, 150, 50))
    for top, left in draw.integers(5, 190, (count, 2)):
        page[top : top + 3, left : left + 3] = 255
    return Image.fromarray(page)


def more_specks(image: Picture, draw: Random) -> Picture:
    return specks(image, draw, count=8)


def coloured(image: Picture, draw: Random) -> Picture:
    """Teal on yellow-green, with 0.5 % of the pixels black or white."""
    paper = np.array([154, 205, 50])
    teal = np.array([0, 128, 128])
    strokes = pixels_of(sheet(image, draw, 0, 255)) / 255
    ink = strokes[:, :, None]
    page = paper * (1 - ink) + teal * ink
    dirt = draw.random((200, 200)) < 0.005
    white = draw.integers(0, 2, (dirt.sum(), 1))
    page[dirt] = 255 * white
    return as_picture(page)


def lilac(image: Picture, draw: Random) -> Picture:
    """The middle line of the strokes, one pixel wide, in a faint colour."""
    strokes = pixels_of(sheet(image, draw, 0, 255)) > 127
    line = skeletonize(strokes)[:, :, None]
    return as_picture(np.where(line, (225, 190, 251), 255))


def bold(image: Picture, draw: Random) -> Picture:
    """Strokes so bold that they cover 60 % of a tight crop."""
    page = enlarge(image, draw)
    for _ in range(30):
        strokes = page.point(lambda value: 255 * (value > 127))
        crop = page.crop(strokes.getbbox())
        covered = np.mean(pixels_of(crop) > 127)
        if covered >= 0.6:
            break
        page = page.filter(ImageFilter.MaxFilter(3))
    return as_picture(255 - pixels_of(crop))


def bold_on_a_page(image: Picture, draw: Random) -> Picture:
    """The same strokes with paper around: what of `bold` can be read at all."""
    crop = bold(image, draw)
    canvas = blank(crop.width + 120, crop.height + 120, 255)
    canvas.paste(crop, (60, 60))
    return canvas


def underlined(image: Picture, draw: Random) -> Picture:
    page = sheet(image, draw)
    canvas = blank(200, 240, 220)
    canvas.paste(page)
    written = (pixels_of(page) < 150).any(1)
    left = written.nonzero()[0][-1] + whole(draw, 12, 25)  # the line's height at its ends
    right = left + whole(draw, -4, 5)
    pen = ImageDraw.Draw(canvas)
    pen.line((20, left, 180, right), 50, 7)
    return canvas


def neighbour(image: Picture, draw: Random) -> Picture:
    """A stroke of the next digit reaches into the picture."""
    canvas = blank(240, 200, 220)
    canvas.paste(sheet(image, draw))
    top = whole(draw, 20, 100)
    bottom = top + whole(draw, 50, 90)
    pen = ImageDraw.Draw(canvas)
    pen.ellipse((215, top, 275, bottom), outline=50, width=12)
    return canvas


def white_piece(image: Picture, draw: Random) -> Picture:
    """A piece of white paper lies at an edge of the grey page."""
    canvas = blank(240, 200, 150)
    canvas.paste(sheet(image, draw, 150))
    top = whole(draw, 0, 140)
    left = whole(draw, 205, 225)
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((left, top, 240, top + 60), 255)
    return canvas


def two(image: Picture, other: Picture, draw: Random) -> Picture:
    canvas = blank(340, 200, 220)
    canvas.paste(sheet(image, draw))
    second = resized(sheet(other, draw), 140)
    canvas.paste(second, (200, whole(draw, 0, 61)))
    return canvas


PLAIN = {
    "28×28": lambda image, draw: image,
    "enlarged to 170–200 pixels": enlarge,
    "… and dark on light": inverted,
    "… and off-centre on 480×360": off_centre,
    "… and on grey paper": grey,
    "… and as JPEG": dark_jpeg,
    "page whose light fades to a half": shadow,
    "page with half the light on one side": hard_shadow,
    "pencil, grey page, soft shadow, noise, JPEG": everything,
}
SPOILED = {
    "a 1-px black border": border,
    "a box around the digit": box,
    "a plot's frame with ticks": axes,
    "a dark strip along one side": strip,
    "the sheet lies on a darker table": on_table,
    "grey paper with 4 white specks": specks,
    "grey paper with 8 white specks": more_specks,
    "teal pen on yellow-green, 0.5 % specks": coloured,
    "lilac on white, 1 px wide": lilac,
    "bold strokes, tight crop, 60 % ink": bold,
    "… and the same strokes on a page": bold_on_a_page,
    "underlined": underlined,
    "a stroke of the neighbour": neighbour,
    "a white piece at the edge": white_piece,
}

# Other things than digits.

LETTERS = "ACDEFGHJKLMNPQRTUVWXYadefhkmnprtuvwxy"  # without B I O S Z b c g i j l o q s z
FONTS = (
    "DejaVuSans",
    "DejaVuSerif-Italic",
    "DejaVuSans-Bold",
    "STIXGeneral",
    "cmtt10",
    "cmr10",
)
PHOTOS = (
    "astronaut",
    "brick",
    "camera",
    "cat",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "moon",
    "page",
    "text",
    "rocket",
    "horse",
)


def texture(draw: Random) -> Picture:
    """Noise of some coarseness, stripes, or checks."""
    kind = draw.integers(3)
    if kind == 0:
        cells = whole(draw, 3, 40)
        noise = draw.integers(0, 256, (cells, cells))
        return resized(as_picture(noise), 200)
    y, x = np.mgrid[:200, :200]
    angle = draw.uniform(0, np.pi)
    cosine = np.cos(angle)
    sine = np.sin(angle)
    stripes = np.sin((x * cosine + y * sine) / draw.uniform(3, 20))
    across = np.sin((y * cosine - x * sine) / draw.uniform(3, 20))
    wave = stripes if kind == 1 else stripes * across
    return as_picture(127 + 120 * wave)


def letter(draw: Random) -> Picture:
    """A letter that looks like no digit, in one of matplotlib's fonts."""
    font_name = FONTS[draw.integers(len(FONTS))]
    text = LETTERS[draw.integers(len(LETTERS))]
    path = f"{get_data_path()}/fonts/ttf/{font_name}.ttf"
    font = ImageFont.truetype(path, whole(draw, 90, 170))
    canvas = blank(200, 200, 255)
    pen = ImageDraw.Draw(canvas)
    pen.text((100, 100), text, 0, font, "mm")
    return canvas


def scribble(draw: Random) -> Picture:
    """A pen that wanders about."""
    restlessness = draw.uniform(0.1, 0.9)
    turns = draw.normal(0, restlessness, whole(draw, 40, 200))
    angles = turns.cumsum()
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    steps = draw.uniform(4, 12) * directions
    path = steps.cumsum(0)
    path = 100 + (path - path.mean(0))
    points = [(float(x), float(y)) for x, y in path.clip(10, 190)]
    canvas = blank(200, 200, 255)
    pen = ImageDraw.Draw(canvas)
    pen.line(points, 0, whole(draw, 4, 12), "curve")
    return canvas


def natural(draw: Random) -> Picture:
    """A square cut out of a photograph that scikit-image or scikit-learn ships."""
    index = whole(draw, 0, len(PHOTOS) + 2)
    if index < len(PHOTOS):
        photo = getattr(skimage.data, PHOTOS[index])()
    else:
        photo = load_sample_images().images[index - len(PHOTOS)]
    image = as_picture(photo)
    side = whole(draw, 100, min(image.size))
    left = whole(draw, 0, image.width - side + 1)
    top = whole(draw, 0, image.height - side + 1)
    return image.crop((left, top, left + side, top + side))


OTHER_THINGS = {
    "textures": texture,
    "letters": letter,
    "scribbles": scribble,
    "photographs": natural,
}
