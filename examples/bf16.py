"""Train in mixed precision: the forward pass in bfloat16, the losses and the weights in float32.

The tests after each epoch are made in float32. This is for GPUs: many CPUs are slower with
bfloat16.
"""

import torch

from mnist_adder import RECIPES, Training, gpu_check, load_data


class MixedTraining(Training):
    def forward(self, sample):
        # Not around the whole of `fit`: inside of it, autocast keeps the bfloat16 copies that it
        # made of the weights at the first step, so the network would never seem to change.
        with torch.autocast(self.device.type, torch.bfloat16):
            log_probs, logits = self.model(sample.image, sample.number)
        return log_probs.float(), logits.float()


def main(data, device="cpu"):
    training = MixedTraining(RECIPES["speedrun"], data, device=device)
    for row in training:
        print(row["epoch"], row["seconds"], row["train_loss"], row["test_joint_accuracy"])
    return training


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
