"""Networks that `search.py` compared with `AdderNet`, each with another first convolution."""

from torch import Tensor, nn

from mnist_adder.models import AdderNet, DigitCNN, conv_block, pooled_block


class EightChannels(nn.Sequential):
    """8 channels first, and 36 last."""

    def __init__(self) -> None:
        super().__init__(
            *(*pooled_block(1, 8), *conv_block(8, 16), *pooled_block(16, 16), *conv_block(16, 32)),
            *(*pooled_block(32, 36, padding=0), nn.Flatten(), nn.Linear(144, 10)),
        )


class Stride(nn.Sequential):
    """A 5×5 convolution with stride 2 for the first convolution and its pool."""

    def __init__(self) -> None:
        first = nn.Conv2d(1, 16, 5, stride=2, padding=2, bias=False)
        super().__init__(
            *(first, nn.BatchNorm2d(16), nn.ReLU(inplace=True), *conv_block(16, 16), *pooled_block(16, 16)),
            *(*conv_block(16, 32), *pooled_block(32, 32, padding=0), nn.Flatten(), nn.Linear(128, 10)),
        )


class Crop(DigitCNN):
    """The middle 24×24 pixels of the image."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image[:, :, 2:-2, 2:-2])


class EightChannelsNet(AdderNet):
    CNN = EightChannels


class StrideNet(AdderNet):
    CNN = Stride


class CropNet(AdderNet):
    CNN = Crop
