"""The networks of the three published systems. All take ``(image, number)``, as ours do."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import DIGITS, MEAN, NUMBERS, STD, SUMS
from ..models import TwoInputNet, conv_block


def pixels(image: Tensor) -> Tensor:
    """Undo the data set's normalisation: values in 0…1."""
    return image * STD + MEAN


class Cascade(TwoInputNet):
    """Published system A: a CNN whose ten raw logits, with the number, feed an adder MLP."""

    memory_format = torch.contiguous_format  # on a CPU, 1.6 times as fast with its 10 and 15 channels
    DROPOUT = 0.01

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            *(*self._block(1, 10), *self._block(10, 10), *conv_block(10, 15, padding=0)),
            *(nn.MaxPool2d(2), *self._block(15, 10, kernel=1), *self._block(10, 10)),  # [B, 10, 9, 9]
            *(*self._block(10, 10), *self._block(10, 10)),  # [B, 10, 5, 5]
            *(nn.Conv2d(10, DIGITS, 5, bias=False), nn.Flatten()),  # [B, 10]
        )
        layers: list[nn.Module] = []
        for inputs, outputs in ((DIGITS + NUMBERS, 32), (32, 64), (64, 128)):
            linear = nn.Linear(inputs, outputs)
            layers += [linear, nn.BatchNorm1d(outputs), nn.ReLU(inplace=True), nn.Dropout(self.DROPOUT)]
        self.adder = nn.Sequential(*layers, nn.Linear(128, SUMS))

    def _block(self, inputs: int, outputs: int, kernel: int = 3) -> list[nn.Module]:
        return [*conv_block(inputs, outputs, kernel=kernel, padding=0), nn.Dropout(self.DROPOUT)]

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(255 * pixels(image))

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        return F.log_softmax(features, 1), self.adder(torch.cat([features, number], 1))


class TwoHeads(TwoInputNet):
    """Published system B, mended: a trunk that sees image and number, then two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),  # [B, 6, 12, 12]
            *(nn.Conv2d(6, 12, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),  # [B, 192]
        )
        self.trunk = nn.Sequential(nn.Linear(192 + NUMBERS, 120), nn.ReLU(), nn.Linear(120, 60), nn.ReLU())
        self.digit_head, self.sum_head = nn.Linear(60, DIGITS), nn.Linear(60, SUMS)

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(pixels(image))

    def combine(self, features: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.trunk(torch.cat([features, number], 1))
        return F.log_softmax(self.digit_head(trunk), 1), self.sum_head(trunk)


class TwoSoftmaxHeads(TwoHeads):
    """Published system B: both heads end in softmax, and the loss takes the softmax of that once more."""

    def __init__(self) -> None:
        super().__init__()
        self.digit_head = nn.Sequential(self.digit_head, nn.Softmax(1))
        self.sum_head = nn.Sequential(self.sum_head, nn.Softmax(1))


class SharedTrunk(TwoHeads):
    """Published system C. Its CNN's layers are not published: ours have the published 9.9 K parameters."""

    memory_format = torch.contiguous_format

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            *(*conv_block(1, 10), *conv_block(10, 16), nn.MaxPool2d(2)),  # [B, 16, 14, 14]
            *(*conv_block(16, 16), *conv_block(16, 16), nn.MaxPool2d(2)),  # [B, 16, 7, 7]
            *(*conv_block(16, 22), nn.AvgPool2d(7), nn.Conv2d(22, 20, 1, bias=False), nn.Flatten()),  # [B, 20]
        )
        self.trunk = nn.Sequential(
            *(nn.Linear(20 + NUMBERS, 60, bias=False), nn.BatchNorm1d(60), nn.ReLU(inplace=True)),
            *(nn.Linear(60, 60, bias=False), nn.BatchNorm1d(60), nn.ReLU(inplace=True)),
        )
        self.digit_head, self.sum_head = nn.Linear(60, DIGITS, bias=False), nn.Linear(60, SUMS, bias=False)

    def features(self, image: Tensor) -> Tensor:
        return self.cnn(image)
