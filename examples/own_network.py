"""Train, save and read back a network of your own: two inputs, two outputs."""

import torch
from torch import nn

from mnist_adder import Recipe, Training, gpu_check, load_data, read_run, save_run


class OwnNet(nn.Module):
    """Return log-probabilities of the digit [B, 10] and logits of the sum [B, 19]."""

    def __init__(self):
        super().__init__()
        self.read = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU())
        self.digit_head = nn.Linear(100, 10)
        self.sum_head = nn.Sequential(
            nn.Linear(100 + 10, 100),
            nn.ReLU(),
            nn.Linear(100, 19),
        )

    def forward(self, image, number):
        features = self.read(image)  # [B, 1, 28, 28] → [B, 100]
        log_probs = self.digit_head(features).log_softmax(1)
        logits = self.sum_head(torch.cat([features, number], 1))  # [B, 110] → [B, 19]
        return log_probs, logits


def main(data, device="cpu"):
    recipe = Recipe(name="own-network", model=OwnNet, epochs=20, optimizer="Adam", lr=0.01)
    training = Training(recipe, data, device=device)
    for row in training:
        print(row["epoch"], row["train_loss"], row["test_joint_accuracy"])
    run = save_run(None, training)  # into the next free folder runs/own-network-NNN
    return read_run(run.folder, model=OwnNet)  # a file never says which class to import


if __name__ == "__main__":
    print(main(load_data("auto"), gpu_check()))
