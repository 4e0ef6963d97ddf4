"""Two images in, as two channels, the sum of their digits out; the number is not needed."""

from dataclasses import replace

import torch

from mnist_adder import RECIPES, AdderNet, Epochs, Split, fit, gpu_check, load_data


class TwoImageNet(AdderNet):
    def features(self, image):
        both = super().features(image.flatten(0, 1)[:, None])  # [B, 2, 28, 28] → [2 B, 10]
        return both.unflatten(0, (-1, 2))  # [B, 2, 10]

    def combine(self, features, number):
        first, second = features.unbind(1)
        pairs = first[:, :, None] + second[:, None, :]  # [B, 10, 10]: log p(first, second)
        return pairs.flatten(1), self.adder(first, second.exp())  # [B, 100], [B, 19]


def pair(split):
    other = torch.randperm(len(split.digits))
    images = torch.stack([split.images, split.images[other]], 1)  # [N, 2, 28, 28]
    return Split(images, 10 * split.digits + split.digits[other])


def add(digits, number):
    return digits // 10 + digits % 10


def main(data, device="cpu"):
    counts = {"digit_classes": 100, "number_classes": 1}
    data = replace(data, train=pair(data.train), test=pair(data.test), target=add, **counts)
    epochs = Epochs(mnist=5, digits=40)
    recipe = replace(RECIPES["speedrun"], name="two-images", model=TwoImageNet, epochs=epochs)
    return fit(recipe, data, device=device)


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
