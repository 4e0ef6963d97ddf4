"""Two images in, the sum of their digits out: two channels, one label 0…99, and only one number."""

from dataclasses import replace

import torch

from mnist_adder import RECIPES, AdderNet, Data, Split, fit, gpu_check, load_data


class TwoImageNet(AdderNet):
    def features(self, image):
        first = super().features(image[:, :1])  # [B, 2, 28, 28] → [B, 10]
        second = super().features(image[:, 1:])
        return torch.stack([first, second], 1)  # [B, 2, 10]

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
    data = Data(data.source, pair(data.train), pair(data.test), target=add, **counts)
    recipe = replace(RECIPES["speedrun"], name="two-images", model=TwoImageNet, epochs=5)
    return fit(recipe, data, device=device)


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
