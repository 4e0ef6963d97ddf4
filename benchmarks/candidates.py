"""Networks that `search.py` compared with those of the recipes `adder` and `speedrun`."""

import torch
from torch import Tensor, nn

from mnist_adder.models import AdderMLP, AdderNet, QuickNet, conv_block, pooled_block


def last_layers(channels: int) -> list[nn.Module]:
    """From 2×2 places to the digit logits."""
    return [nn.Flatten(), nn.Linear(4 * channels, 10)]


class Former(nn.Sequential):
    """`DigitCNN` as it was: a 3×3 convolution and a pool for the 5×5 convolution with stride 2."""

    def __init__(self, first: int = 16, last: int = 32) -> None:
        super().__init__(
            *(*pooled_block(1, first), *conv_block(first, 16), *pooled_block(16, 16), *conv_block(16, 32)),
            *(*pooled_block(32, last, padding=0), *last_layers(last)),
        )


class FormerNet(AdderNet):
    CNN = Former


class EightChannelsNet(AdderNet):
    def __init__(self) -> None:
        super().__init__(Former(first=8, last=36))


class CropNet(AdderNet):
    """The middle 24×24 pixels of the image."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.ZeroPad2d(-2), *Former()))


class PaddedNet(AdderNet):
    """`DigitCNN` with a padded first convolution, and so with images of 14×14 and 7×7 for 12×12 and 6×6."""

    def __init__(self, *middle: nn.Module) -> None:
        first = [*conv_block(1, 16, kernel=5, stride=2, padding=2), *conv_block(16, 16), *pooled_block(16, 16)]
        middle = middle or (*conv_block(16, 32), *pooled_block(32, 32, padding=0), *last_layers(32))
        super().__init__(nn.Sequential(*first, *middle))


class ThinNet(PaddedNet):
    """Three convolutions of 24 channels at 7×7 for two of 32."""

    def __init__(self) -> None:
        thin = *conv_block(16, 24), *conv_block(24, 24), *pooled_block(24, 24, padding=0)
        super().__init__(*thin, *last_layers(24))


class ShiftsNet(PaddedNet):
    """In tests, the mean of the log-probabilities of five images: as it is, and moved by a pixel to each side."""

    def features(self, image: Tensor) -> Tensor:
        if self.training:
            return super().features(image)
        moves = (0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)
        views = [super(ShiftsNet, self).features(image.roll(move, (2, 3))) for move in moves]
        return torch.stack(views).mean(0).log_softmax(1)


class EraseNet(PaddedNet):
    """Random erasing in training: a square of 4 to 8 pixels becomes paper in half of the images."""

    def features(self, image: Tensor) -> Tensor:
        if self.training:
            side, top, left, chance = torch.rand(4, len(image), 1, 1, 1)
            side, top, left = (4 + 5 * side).floor() * (chance < 0.5), (24 * top).floor(), (24 * left).floor()
            rows, columns = torch.arange(28)[:, None], torch.arange(28)
            inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
            image = torch.where(inside, -0.1307 / 0.3081, image)
        return super().features(image)


class Probabilities(AdderMLP):
    """The digit enters the MLP as its probabilities."""

    def forward(self, log_probs: Tensor, number: Tensor) -> Tensor:
        return self.layers(torch.cat([log_probs.exp(), number], 1))


class LogProbabilities(AdderMLP):
    """The digit enters the MLP as its log-probabilities."""

    def forward(self, log_probs: Tensor, number: Tensor) -> Tensor:
        return self.layers(torch.cat([log_probs, number], 1))


class ProbabilitiesNet(PaddedNet):
    ADDER = Probabilities


class LogProbabilitiesNet(PaddedNet):
    ADDER = LogProbabilities


class ScoresNet(AdderNet):
    """The digit enters the MLP as the CNN's scores, before the log-softmax. The CNN is the present one."""

    ADDER = LogProbabilities  # it concatenates what it is given

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(image)

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        return features.log_softmax(1), self.adder(features, number)


class Wide(nn.Sequential):
    """The `speedrun` network as it was: 16, 32, 64, 64 channels."""

    def __init__(self) -> None:
        super().__init__(*pooled_block(1, 16), *wide_layers(16, 32))


def wide_layers(inputs: int, outputs: int) -> list[nn.Module]:
    """All layers but the first."""
    later = [*conv_block(outputs, 64), *pooled_block(64, 64, padding=0)]
    return [*pooled_block(inputs, outputs), *later, *last_layers(64)]


class WideNet(AdderNet):
    CNN = Wide


class WideCropNet(AdderNet):
    """The middle 24×24 pixels of the image."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.ZeroPad2d(-2), *Wide()))


class WideStrideNet(AdderNet):
    """And a 5×5 convolution with stride 2 first."""

    def __init__(self) -> None:
        first = conv_block(1, 16, kernel=5, stride=2, padding=2)
        super().__init__(nn.Sequential(nn.ZeroPad2d(-2), *first, *wide_layers(16, 32)))


class WideUnshuffleNet(AdderNet):
    """And 2×2 pixels as four channels, for the first convolution."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.ZeroPad2d(-2), nn.PixelUnshuffle(2), *wide_layers(4, 32)))


class CosineNet(QuickNet):
    """The first filters begin as the cosines of the lowest frequencies, as in JPEG's transform."""

    def __init__(self) -> None:
        super().__init__()
        waves = torch.arange(6)
        basis = torch.cos(torch.pi * (waves + 0.5) * waves[:, None] / 6)
        basis = basis / basis.norm(dim=1, keepdim=True)  # [wave, pixel]
        filters = torch.einsum("ai,bj->abij", basis, basis).reshape(36, 1, 6, 6)
        lowest = (waves[:, None] + 1.01 * waves).flatten().argsort()[:24]
        with torch.no_grad():
            self.cnn[0].weight.copy_(0.58 * filters[lowest])  # as long as PyTorch's own are on average


class LastStrideNet(AdderNet):
    """`QuickCNN` with a stride of 2 in place of the last pool."""

    def __init__(self) -> None:
        first = pooled_block(1, 24, kernel=6, stride=2, padding=0)
        later = conv_block(24, 32) + conv_block(32, 64, stride=2, padding=0)
        super().__init__(nn.Sequential(*first, *later, *last_layers(64)))


class PatchNet(AdderNet):
    """`QuickCNN` with 32 filters and a stride of 4 in place of the first pool."""

    def __init__(self) -> None:
        first = conv_block(1, 32, kernel=7, stride=4, padding=0)
        later = conv_block(32, 32) + pooled_block(32, 64, padding=0)
        super().__init__(nn.Sequential(*first, *later, *last_layers(64)))


class ThinQuickNet(AdderNet):
    """`QuickCNN` with 16, 32 and 48 channels."""

    def __init__(self) -> None:
        first = pooled_block(1, 16, kernel=6, stride=2, padding=0)
        later = conv_block(16, 32) + pooled_block(32, 48, padding=0)
        super().__init__(nn.Sequential(*first, *later, *last_layers(48)))
