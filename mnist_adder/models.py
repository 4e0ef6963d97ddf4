"""Our networks: the CNN that reads the digit, the three adders, and how the two inputs meet."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import DIGITS, NUMBERS, SUMS


class TwoInputNet(nn.Module):
    """A network with two inputs, an image and a number, and two outputs, the digit and the sum.

    `features` is all that is computed from the image alone, and `combine` joins it with a number.
    So the evaluation can show every image all ten numbers and run the CNN only once per image.
    """

    def features(self, image: Tensor) -> Tensor:
        """Return what the image alone decides: ``[B, 1, 28, 28]`` to ``[B, F]``."""
        raise NotImplementedError

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two outputs of features ``[B, F]`` and the one-hot number ``[B, 10]``."""
        raise NotImplementedError

    def forward(self, image: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log_probs of the digit [B, 10] and the logits of the sum [B, 19].

        `image` is float [B, 1, 28, 28], normalised, and `number` float [B, 10], one-hot.
        """
        return self.combine(self.features(image), number)


def conv_block(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    pool: bool = False,
) -> list[nn.Module]:
    """Return convolution, BatchNorm and ReLU; with `pool`, a 2×2 max-pool after the convolution."""
    # No bias: BatchNorm has its own.
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    layers: list[nn.Module] = [convolution]
    if pool:
        layers.append(nn.MaxPool2d(2))  # here, so that the rest has less work
    return [*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class DigitCNN(nn.Sequential):
    """Read the digit: images ``[B, 1, 28, 28]`` to ten digit logits ``[B, 10]``."""

    def __init__(self, width: int = 16) -> None:
        # `width` is the number of channels at first; the shapes below are those for 16.
        super().__init__(
            *conv_block(1, width, kernel=5, stride=2, padding=0),  # [B, 16, 12, 12]
            *conv_block(width, width),
            *conv_block(width, width, pool=True),  # [B, 16, 6, 6]
            *conv_block(width, 2 * width),  # [B, 32, 6, 6]
            *conv_block(2 * width, 2 * width, padding=0, pool=True),  # [B, 32, 2, 2]
            nn.Flatten(),  # [B, 128]
            nn.Linear(8 * width, DIGITS),
        )


class QuickCNN(nn.Sequential):
    """More channels than `DigitCNN` and two convolutions fewer: it learns in fewer epochs."""

    def __init__(self) -> None:
        super().__init__(
            *conv_block(1, 24, kernel=6, stride=2, padding=0, pool=True),  # [B, 24, 6, 6]
            *conv_block(24, 32, padding=0),  # [B, 32, 4, 4]
            *conv_block(32, 64, pool=True),  # [B, 64, 2, 2]
            nn.Flatten(),  # [B, 256]
            nn.Linear(256, DIGITS),
        )


class AdderMLP(nn.Module):
    """An MLP on the concatenated inputs, as published system A has it.

    It memorises a table. It is given the digit's probabilities, sharpened until they are nearly
    one-hot, because a digit that is 60 % a 4 must be added as a 4. Hardly any gradient passes
    through so sharp a softmax. So the gradient goes round it ("straight-through", Bengio et al.
    2013, "Estimating or propagating gradients through stochastic neurons").
    """

    SHARPNESS = 5.0  # with it, 60 %, 30 % and 10 % become 97 %, 3 % and 0 %

    def __init__(
        self,
        hidden: int = 32,
        *,
        digit_classes: int = DIGITS,
        number_classes: int = NUMBERS,
        sum_classes: int = SUMS,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(digit_classes + number_classes, hidden),
            nn.BatchNorm1d(hidden),  # with it, the MLP learns the sums in fewer epochs
            nn.ReLU(inplace=True),
            nn.Linear(hidden, sum_classes),
        )

    def forward(self, log_probs: Tensor, number: Tensor) -> Tensor:
        """Return logits [B, 19] of the sum of log_probs [B, 10] and a one-hot number [B, 10]."""
        probs = log_probs.exp()
        sharp = (self.SHARPNESS * log_probs).softmax(1)  # p⁵, divided by the sum of all p⁵
        digit = probs + (sharp - probs).detach()  # the value of sharp, the gradient of probs
        return self.layers(torch.cat([digit, number], 1))  # [B, 20] → [B, 19]


class NumberLine(nn.Module):
    """The adder that learns to add: each digit and each number has a learned place on a line.

    With the digit's place a_d, the number's place b_n and a factor k, p(s) = Σ_d p(d) ·
    softmax_s(−k (s − 9 − a_d − b_n)²): 21 parameters in all. The places begin near 0, so that every
    sum is first expected in the middle, at 9.

    The parameters are scaled, so that places learn quickly and k slowly, up to 2. If k grows before
    the places are in order, a wrong digit can explain a sum better than the right one, and the CNN
    learns that wrong digit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.digit_places = nn.Parameter(0.1 * torch.randn(DIGITS))
        self.number_places = nn.Parameter(0.1 * torch.randn(NUMBERS))
        self.sharpness = nn.Parameter(torch.tensor(-18.0))  # k is 0.05 at first

    def places(self) -> tuple[Tensor, Tensor]:
        """Return the places of the digits [10] and numbers [10]; places 1 apart add exactly."""
        return 2 * self.digit_places, 2 * self.number_places

    def k(self) -> Tensor:
        """Return how much the nearest sum is preferred, a scalar between 0 and 2."""
        return 2 * torch.sigmoid(self.sharpness / 5)

    def forward(self, log_probs: Tensor, number: Tensor) -> Tensor:
        """Return log_probs [B, 19] of the sum of log_probs [B, 10] and a one-hot number [B, 10]."""
        digit_places, number_places = self.places()
        sums = torch.arange(SUMS, device=log_probs.device)
        expected = 9 + digit_places[:, None] + number_places  # [10, 10]: a digit each row
        distance = sums - expected[:, :, None]  # [10, 10, 19]
        table = (-self.k() * distance**2).log_softmax(2)  # log p(sum | digit, number)
        given_digit = torch.einsum("bn,dns->bds", number, table)  # for each digit: [B, 10, 19]
        joint = log_probs[:, :, None] + given_digit  # log p(digit, sum)
        return joint.logsumexp(1)  # [B, 19]


class ExactAdder(nn.Module):
    """The adder that knows: the exact distribution of the sum, without a parameter.

    The number is known, so p(sum = s) = p(digit = s − number): the digit's ten log-probabilities,
    shifted up by the number.
    """

    # The log-probability of the nine sums that no digit can make. e⁻¹⁰⁰ is nearly 0. The logarithm
    # of 0 itself, −∞, would make the loss of a one-hot sum NaN: 0 · −∞.
    IMPOSSIBLE = -100.0

    def forward(self, log_probs: Tensor, number: Tensor) -> Tensor:
        """Return log_probs [B, 19] of the sum of log_probs [B, 10] and a one-hot number [B, 10]."""
        digits = torch.arange(DIGITS, device=number.device)
        sums = digits + number.argmax(1, keepdim=True)  # [B, 10]
        impossible = log_probs.new_full((number.shape[0], SUMS), self.IMPOSSIBLE)
        return impossible.scatter(1, sums, log_probs)


class AdderNet(TwoInputNet):
    """The CNN reads the digit, and what it read meets the number in the adder.

    Args:
        cnn: makes digit logits ``[B, 10]`` of images ``[B, 1, 28, 28]``; `DigitCNN` by default.
        adder: makes logits of the sum ``[B, 19]`` of the digit's log_probs ``[B, 10]`` and the
            one-hot number ``[B, 10]``; `AdderMLP` by default. (Log-probabilities are logits, too.)
    """

    def __init__(self, cnn: nn.Module | None = None, adder: nn.Module | None = None) -> None:
        super().__init__()
        self.cnn = DigitCNN() if cnn is None else cnn
        self.adder = AdderMLP() if adder is None else adder
        self.to(memory_format=torch.channels_last)  # the order in memory that suits a CPU best

    def features(self, image: Tensor) -> Tensor:
        return F.log_softmax(self.cnn(image), 1)  # [B, 10]

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = features  # the first output
        return log_probs, self.adder(log_probs, number)  # [B, 10], [B, 19]


class QuickNet(AdderNet):
    """`AdderNet` with the quick CNN."""

    def __init__(self) -> None:
        super().__init__(cnn=QuickCNN())


class WideNet(AdderNet):
    """`AdderNet` with 24 channels instead of 16: it has room for images that vary more."""

    def __init__(self) -> None:
        super().__init__(cnn=DigitCNN(width=24))


class NumberLineNet(AdderNet):
    """`AdderNet` with the number line."""

    def __init__(self) -> None:
        super().__init__(adder=NumberLine())


class ExactAdderNet(AdderNet):
    """`AdderNet` with the adder that has no parameter."""

    def __init__(self) -> None:
        super().__init__(adder=ExactAdder())


class Rescale(nn.Module):
    """Return ``scale · x + shift``: for a network that normalises its pixels in another way."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale = scale
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


def parameter_count(model: nn.Module) -> int:
    """Return the number of values that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
