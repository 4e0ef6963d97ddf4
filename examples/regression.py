"""Predict the sum as a quantity, by regression, instead of as one of 19 classes."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from mnist_adder import RECIPES, AdderNet, Training, gpu_check, load_data


class RegressionNet(AdderNet):
    def __init__(self):
        super().__init__(adder=nn.Linear(20, 1))

    def combine(self, features, number):
        value = self.adder(torch.cat([features.exp(), number], 1))  # [B, 20] → [B, 1]
        logits = -((value - torch.arange(19, device=value.device)) ** 2)  # highest: the nearest sum
        return features, logits, value


class RegressionTraining(Training):
    def loss(self, outputs, sample):
        digit_loss = F.nll_loss(outputs[0], sample.digit)
        error = outputs[2].squeeze(1) - sample.sum.argmax(1)  # classes of one-hot: [B]
        total = self.recipe.digit_weight * digit_loss + self.recipe.sum_weight * (error**2).mean()
        return {"loss": total, "digit_loss": digit_loss, "sum_error": error.abs().mean()}


def main(data, device="cpu"):
    settings = {"lr": 0.1, "batch_size": 64, "label_smoothing": 0.0}  # many small steps
    recipe = replace(RECIPES["speedrun"], name="regression", model=RegressionNet, **settings)
    training = RegressionTraining(recipe, data, device=device)
    for row in training:
        print(row["epoch"], row["train_sum_error"], row["test_sum_accuracy"])
    return training


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
