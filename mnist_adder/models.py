"""The networks: ours, and the three published ones. All take ``(image, number)``.

Each is a `TwoInputNet`: `features` turns the images into features, once, and `combine` lets a number meet
them. The two are apart so that evaluation can show every image all ten numbers and run the CNN only once.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import DIGITS, MEAN, NUMBERS, STD, SUMS


class TwoInputNet(nn.Module):
    """A network with two inputs, an image and a number, and two outputs, the digit and the sum."""

    memory_format = torch.channels_last  # the layout in which its convolutions are fastest, see `build`

    def features(self, image: Tensor) -> Tensor:
        """``float32 [B, 1, 28, 28]`` to ``float32 [B, F]``: all that is learned from the image alone."""
        raise NotImplementedError

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, F]`` and the one-hot ``[B, 10]`` to the two outputs, as `forward` returns them."""
        raise NotImplementedError

    def forward(self, image: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Read the digit and add the number.

        Args:
            image: float32 [B, 1, 28, 28], normalised.
            number: float32 [B, 10], one-hot.

        Returns:
            digit_log_probabilities [B, 10] and sum_scores [B, 19].

        Raises:
            ValueError: another shape or dtype. Values are not looked at: that would wait for the device.
        """
        for name, tensor, shape in (
            ("image", image, (1, 28, 28)),
            ("number", number, (NUMBERS,)),
        ):
            if tensor.dtype != torch.float32 or tensor.shape[1:] != shape or not len(tensor):
                wanted = ", ".join(map(str, ("B", *shape)))
                raise ValueError(
                    f"{name} must be float32 [{wanted}], B at least 1, not "
                    f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
                )
        if len(image) != len(number):
            raise ValueError(f"{len(image)} images came with {len(number)} numbers")
        return self.combine(self.features(image), number)


def conv_block(inputs: int, outputs: int, *, kernel: int = 3, padding: int = 1) -> list[nn.Module]:
    """Convolution, BatchNorm, ReLU; no bias, since BatchNorm brings its own."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def pooled_block(inputs: int, outputs: int, *, padding: int = 1) -> list[nn.Module]:
    """`conv_block` with a 2×2 max-pool straight after the convolution, so that the rest has a quarter to do."""
    conv, *rest = conv_block(inputs, outputs, padding=padding)
    return [conv, nn.MaxPool2d(2), *rest]


class DigitCNN(nn.Sequential):
    """``[B, 1, 28, 28]`` to ten digit scores ``[B, 10]``."""

    def __init__(self) -> None:
        super().__init__(
            *pooled_block(1, 16),  # [B, 16, 14, 14]
            *conv_block(16, 16),
            *pooled_block(16, 16),  # [B, 16, 7, 7]
            *conv_block(16, 32),
            *pooled_block(32, 32, padding=0),  # [B, 32, 2, 2]
            nn.Flatten(),
            nn.Linear(128, DIGITS),
        )


class WideCNN(nn.Sequential):
    """Three times the weights of `DigitCNN` and a convolution less: as quick, and it learns in fewer epochs."""

    def __init__(self) -> None:
        super().__init__(
            *pooled_block(1, 16),  # [B, 16, 14, 14]
            *pooled_block(16, 32),  # [B, 32, 7, 7]
            *conv_block(32, 64),
            *pooled_block(64, 64, padding=0),  # [B, 64, 2, 2]
            nn.Flatten(),
            nn.Linear(256, DIGITS),
        )


class AdderMLP(nn.Module):
    """Ten values for the digit and the one-hot number to nineteen sum scores ``[B, 19]``.

    BatchNorm lets it learn to add within the first epoch.

    Args:
        hidden: widths of the hidden layers.
        dropout: after each of them.
    """

    def __init__(self, hidden: tuple[int, ...] = (32,), dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = DIGITS + NUMBERS
        for outputs in hidden:
            layers += [nn.Linear(width, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = outputs
        self.layers = nn.Sequential(*layers, nn.Linear(width, SUMS))

    def forward(self, digit: Tensor, number: Tensor) -> Tensor:
        return self.layers(torch.cat([digit, number], 1))  # [B, 20] → [B, 19]


class ExactAdder(nn.Module):
    """The exact distribution of the sum, without a parameter.

    The number is known, so log p(sum = s) = log p(digit = s − number): the digit's ten log-probabilities,
    shifted up by the number, and −∞ for the nine sums that no digit can make.
    """

    def forward(self, digit_log_probabilities: Tensor, number: Tensor) -> Tensor:
        """``[B, 10]`` and the one-hot ``[B, 10]`` to log-probabilities of the sum ``[B, 19]``."""
        sums = torch.arange(DIGITS, device=number.device) + number.argmax(1, keepdim=True)
        impossible = digit_log_probabilities.new_full((len(number), SUMS), -torch.inf)
        return impossible.scatter(1, sums, digit_log_probabilities)


class AdderNet(TwoInputNet):
    """Ours: the CNN reads the digit, and what it read meets the number in the adder.

    The adder is given the digit's probabilities, sharpened until they are all but one-hot, because that is
    what adding needs: a digit that is 60 % a 4 must be added as a 4. And the sum's loss stops there
    (`detach`): the sum teaches the adder to add, the digit's label teaches the CNN to read. Where the
    sum's gradient went through so sharp a softmax, the CNN read worse, in single runs: see `benchmarks/README.md`.
    """

    SHARPNESS = 5.0  # an inverse temperature

    def __init__(self, cnn: nn.Sequential | None = None) -> None:
        super().__init__()
        self.cnn = cnn or DigitCNN()
        self.adder = AdderMLP()

    def features(self, image: Tensor) -> Tensor:
        return F.log_softmax(self.cnn(image), 1)

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        digit = (self.SHARPNESS * features.detach()).softmax(1)
        return features, self.adder(digit, number)


class ExactAdderNet(TwoInputNet):
    """Our CNN with the parameter-free adder, through which the sum's loss reaches it undisturbed."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = DigitCNN()
        self.adder = ExactAdder()

    def features(self, image: Tensor) -> Tensor:
        return F.log_softmax(self.cnn(image), 1)

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        return features, self.adder(features, number)


class Pixels(nn.Module):
    """Undoes the data set's normalisation: pixels in 0…`brightest`, for networks published that way."""

    def __init__(self, brightest: float) -> None:
        super().__init__()
        self.brightest = brightest

    def forward(self, image: Tensor) -> Tensor:
        return (image * STD + MEAN) * self.brightest


class Cascade(TwoInputNet):
    """Published system A: a CNN whose ten raw scores, with the number, feed an adder MLP."""

    memory_format = torch.contiguous_format  # on a CPU, 1.6 times as fast with its 10 and 15 channels

    def __init__(self) -> None:
        super().__init__()
        drop = 0.01
        self.cnn = nn.Sequential(
            Pixels(255),
            *conv_block(1, 10, padding=0),
            nn.Dropout(drop),
            *conv_block(10, 10, padding=0),
            nn.Dropout(drop),
            *conv_block(10, 15, padding=0),
            nn.MaxPool2d(2),  # [B, 15, 11, 11]
            *conv_block(15, 10, kernel=1, padding=0),
            nn.Dropout(drop),
            *conv_block(10, 10, padding=0),
            nn.Dropout(drop),
            *conv_block(10, 10, padding=0),
            nn.Dropout(drop),
            *conv_block(10, 10, padding=0),  # [B, 10, 5, 5]
            nn.Dropout(drop),
            nn.Conv2d(10, DIGITS, 5, bias=False),
            nn.Flatten(),
        )
        self.adder = AdderMLP((32, 64, 128), dropout=drop)

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(image)

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        return F.log_softmax(features, 1), self.adder(features, number)


class TwoHeads(TwoInputNet):
    """Published system B: a trunk that sees image and number, then two heads.

    Args:
        softmax: as published: both heads end in softmax, and their probabilities go to a cross-entropy,
            which takes the softmax of them once more. `False` mends it.
    """

    def __init__(self, softmax: bool = False) -> None:
        super().__init__()
        self.softmax = softmax
        self.cnn = nn.Sequential(
            Pixels(1),
            nn.Conv2d(1, 6, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 12, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),  # [B, 192]
        )
        self.trunk = nn.Sequential(nn.Linear(192 + NUMBERS, 120), nn.ReLU(), nn.Linear(120, 60), nn.ReLU())
        self.digit_head = nn.Linear(60, DIGITS)
        self.sum_head = nn.Linear(60, SUMS)

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(image)

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.trunk(torch.cat([features, number], 1))
        digit, sum = self.digit_head(trunk), self.sum_head(trunk)
        if self.softmax:
            digit, sum = digit.softmax(1), sum.softmax(1)
        return F.log_softmax(digit, 1), sum


class SharedTrunk(TwoInputNet):
    """Published system C: twenty image features and the number through one trunk, then two heads.

    The facts give the feature count, the trunk and the sizes; the backbone's layers are our choice, made
    to fit its published 9.9 K parameters.
    """

    memory_format = torch.contiguous_format

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            *conv_block(1, 10),
            *conv_block(10, 16),
            nn.MaxPool2d(2),  # [B, 16, 14, 14]
            *conv_block(16, 16),
            *conv_block(16, 16),
            nn.MaxPool2d(2),  # [B, 16, 7, 7]
            *conv_block(16, 22),
            nn.AvgPool2d(7),
            nn.Conv2d(22, 20, 1, bias=False),
            nn.Flatten(),  # [B, 20]
        )
        self.trunk = nn.Sequential(
            nn.Linear(20 + NUMBERS, 60, bias=False),
            nn.BatchNorm1d(60),
            nn.ReLU(inplace=True),
            nn.Linear(60, 60, bias=False),
            nn.BatchNorm1d(60),
            nn.ReLU(inplace=True),
        )
        self.digit_head = nn.Linear(60, DIGITS, bias=False)
        self.sum_head = nn.Linear(60, SUMS, bias=False)

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(image)

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.trunk(torch.cat([features, number], 1))
        return F.log_softmax(self.digit_head(trunk), 1), self.sum_head(trunk)


def parameter_count(model: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


MODELS: dict[str, Callable[[], TwoInputNet]] = {
    "adder": AdderNet,
    "wide": lambda: AdderNet(WideCNN()),
    "cascade": Cascade,
    "stuck": lambda: TwoHeads(softmax=True),
    "unstuck": TwoHeads,
    "shared-trunk": SharedTrunk,
    "exact-adder": ExactAdderNet,
}


def build(model: str | Callable[[], TwoInputNet]) -> TwoInputNet:
    """A fresh model in its memory format, by its name in `MODELS` or from a function of your own."""
    made = MODELS[model]() if isinstance(model, str) else model()
    return made.to(memory_format=made.memory_format)
