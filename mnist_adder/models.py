"""Our networks: the CNN that reads the digit, the three adders, and how the two inputs meet."""

import copy
import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import InputError
from .data import DIGITS, NUMBERS, SUMS
from .recipes import MODELS

Network = str | nn.Module | Callable[[], nn.Module]


class TwoInputNet(nn.Module):
    """A network with two inputs, an image and a number, and two outputs, the digit and the sum.

    `features` is all that is computed from the image alone, and `combine` joins it with a number. So the evaluation can
    show every image all ten numbers and run the CNN only once per image.
    """

    memory_format = torch.channels_last  # the layout in which a CPU runs its convolutions fastest

    def features(self, image: Tensor) -> Tensor:
        """``[B, 1, 28, 28]`` to ``[B, F]``."""
        raise NotImplementedError

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, F]`` and the one-hot ``[B, 10]`` to the two outputs, as `forward` returns them."""
        raise NotImplementedError

    def forward(self, image: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """The log_probs of the digit [B, 10] and the logits of the sum [B, 19].

        `image` is float [B, 1, 28, 28], normalised, and `number` float [B, 10], one-hot. `ValueError` for other shapes or
        dtypes; values are not looked at, because that would wait for the device.
        """
        for name, tensor, shape in (("image", image, (1, 28, 28)), ("number", number, (NUMBERS,))):
            if not tensor.is_floating_point() or tensor.shape[1:] != shape:
                wanted = ", ".join(map(str, ("B", *shape)))
                dtype = str(tensor.dtype).removeprefix("torch.")
                raise ValueError(f"{name} must be float [{wanted}], not {dtype} {list(tensor.shape)}")
        if image.shape[0] != number.shape[0]:
            raise ValueError(f"{image.shape[0]} images came with {number.shape[0]} numbers")
        return self.combine(self.features(image), number)


def conv_block(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    """Convolution, BatchNorm, ReLU; no bias, because BatchNorm has its own."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def pooled_block(inputs: int, outputs: int, **sizes: int) -> list[nn.Module]:
    """`conv_block` with a 2×2 max-pool right after the convolution: the rest then has a quarter of the work."""
    conv, *rest = conv_block(inputs, outputs, **sizes)
    return [conv, nn.MaxPool2d(2), *rest]


class DigitCNN(nn.Sequential):
    """``[B, 1, 28, 28]`` to ten digit logits ``[B, 10]``."""

    def __init__(self) -> None:
        super().__init__(
            *conv_block(1, 16, kernel=5, stride=2, padding=0),  # [B, 16, 12, 12]
            *conv_block(16, 16),
            *pooled_block(16, 16),  # [B, 16, 6, 6]
            *conv_block(16, 32),
            *pooled_block(32, 32, padding=0),  # [B, 32, 2, 2]
            nn.Flatten(),  # [B, 128]
            nn.Linear(128, DIGITS),
        )


class QuickCNN(nn.Sequential):
    """More channels than `DigitCNN` and two convolutions less: it learns in fewer epochs."""

    def __init__(self) -> None:
        super().__init__(
            *pooled_block(1, 24, kernel=6, stride=2, padding=0),  # [B, 24, 6, 6]
            *conv_block(24, 32),
            *pooled_block(32, 64, padding=0),  # [B, 64, 2, 2]
            nn.Flatten(),  # [B, 256]
            nn.Linear(256, DIGITS),
        )


class AdderMLP(nn.Module):
    """The adder that the published systems have: an MLP on the concatenated inputs. It memorises a table.

    It is given the digit's probabilities, sharpened until they are nearly one-hot, because a digit that is
    60 % a 4 must be added as a 4. The gradient passes the sharpening unchanged ("straight-through", Bengio et al.
    2013, "Estimating or propagating gradients through stochastic neurons"): so sharp a softmax would stop it.
    """

    SHARPNESS = 5.0  # an inverse temperature

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(DIGITS + NUMBERS, hidden),
            nn.BatchNorm1d(hidden),  # with it, the MLP learns the sums in fewer epochs
            nn.ReLU(inplace=True),
            nn.Linear(hidden, SUMS),
        )

    def forward(self, log_probs: Tensor, number: Tensor) -> Tensor:
        """``[B, 10]`` and the one-hot ``[B, 10]`` to logits of the sum ``[B, 19]``."""
        probs = log_probs.exp()
        # The value of `digit` is the sharpened distribution, and its gradient is that of `probs`.
        digit = probs + ((self.SHARPNESS * log_probs).softmax(1) - probs).detach()
        return self.layers(torch.cat([digit, number], 1))  # [B, 20] → [B, 19]


class NumberLine(nn.Module):
    """The adder that learns to add: each digit and each number has a learned place on a line, 21 parameters in all.

    With the digit's place a_d, the number's b_n and a sharpness k, p(s) = Σ_d p(d) · softmax_s(−k (s − 9 − a_d − b_n)²).
    The places begin near 0, so that every sum is first expected in the middle, at 9.

    The parameters are scaled so that the places learn quickly and k follows slowly, up to a ceiling of 2. Where k
    grows before the places are in order, a wrong digit can explain a sum better than the right one, and the CNN then
    learns to read that digit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.digit_places = nn.Parameter(0.1 * torch.randn(DIGITS))
        self.number_places = nn.Parameter(0.1 * torch.randn(NUMBERS))
        self.sharpness = nn.Parameter(torch.tensor(-18.0))

    def places(self) -> tuple[Tensor, Tensor]:
        """The places of the digits [10] and of the numbers [10]; equal steps of 1 add exactly."""
        return 2 * self.digit_places, 2 * self.number_places

    def forward(self, log_probs: Tensor, number: Tensor) -> Tensor:
        """``[B, 10]`` and the one-hot ``[B, 10]`` to log-probabilities of the sum ``[B, 19]``."""
        digits, numbers = self.places()
        k = 2 * torch.sigmoid(self.sharpness / 5)  # 0.05 at first
        place = 9 + digits[:, None] + numbers  # [digit, number]
        distance = torch.arange(SUMS, device=place.device) - place[:, :, None]  # [digit, number, sum]
        table = (-k * distance**2).log_softmax(2)
        given_digit = torch.einsum("bn,dns->bds", number, table)  # [B, 10, 19]
        return (log_probs.unsqueeze(2) + given_digit).logsumexp(1)


class ExactAdder(nn.Module):
    """The adder that knows: the exact distribution of the sum, without a parameter.

    The number is known, so log p(sum = s) = log p(digit = s − number): the digit's ten log-probabilities,
    shifted up by the number, and −∞ for the nine sums that no digit can make.
    """

    def forward(self, log_probs: Tensor, number: Tensor) -> Tensor:
        """``[B, 10]`` and the one-hot ``[B, 10]`` to log-probabilities of the sum ``[B, 19]``."""
        sums = torch.arange(DIGITS, device=number.device) + number.argmax(1, keepdim=True)  # [B, 10]
        impossible = log_probs.new_full((number.shape[0], SUMS), -torch.inf)
        return impossible.scatter(1, sums, log_probs)


class AdderNet(TwoInputNet):
    """The CNN reads the digit, and what it read meets the number in the adder.

    `cnn` makes digit logits ``[B, 10]`` of ``[B, 1, 28, 28]``; `adder` makes logits of the sum ``[B, 19]`` of the digit's
    log_probs ``[B, 10]`` and the one-hot number ``[B, 10]``. (Log-probabilities are logits, too.)
    """

    CNN, ADDER = DigitCNN, AdderMLP

    def __init__(self, cnn: nn.Module | None = None, adder: nn.Module | None = None) -> None:
        super().__init__()
        self.cnn = self.CNN() if cnn is None else cnn
        self.adder = self.ADDER() if adder is None else adder

    def features(self, image: Tensor) -> Tensor:
        return F.log_softmax(self.cnn(image), 1)  # [B, 10]

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        return features, self.adder(features, number)


class QuickNet(AdderNet):
    """`AdderNet` with the quick CNN."""

    CNN = QuickCNN


class NumberLineNet(AdderNet):
    """`AdderNet` with the number line."""

    ADDER = NumberLine


class ExactAdderNet(AdderNet):
    """`AdderNet` with the adder that has no parameter."""

    ADDER = ExactAdder


def build(model: Network) -> nn.Module:
    """A network from a name in `recipes.MODELS`, "package.module:Name", or any function or class that makes one.

    A network itself is copied, with its weights. `InputError` for anything that makes no network.
    """
    if isinstance(model, nn.Module):
        return copy.deepcopy(model)
    if isinstance(model, str):
        module, _, name = MODELS.get(model, model).partition(":")
        try:
            model = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"there is no network {module}:{name} ({error})") from error
    network = model() if callable(model) else None
    if not isinstance(network, nn.Module):
        raise InputError(f"{model!r} makes no network: it must return an nn.Module")
    return network


def name_of(model: Network) -> str:
    """A network as "package.module:Name"."""
    if isinstance(model, str):
        return MODELS.get(model, model)
    maker = type(model) if isinstance(model, nn.Module) else model
    return f"{maker.__module__}:{maker.__qualname__}"


def parameter_count(model: nn.Module) -> int:
    """The number of values that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
