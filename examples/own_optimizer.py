"""Train with AdamW, a learning rate that restarts, and clipped gradients."""

from dataclasses import replace

from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from mnist_adder import RECIPES, Training, gpu_check, load_data
from mnist_adder.training import accuracies


class OwnTraining(Training):
    def make_scheduler(self):  # in place of the recipe's schedule
        return CosineAnnealingWarmRestarts(self.optimizer, T_0=len(self.loader))  # in steps

    def train_step(self, sample):
        self.optimizer.zero_grad()
        outputs = self.forward(sample)
        losses = self.loss(outputs, sample)
        losses["loss"].backward()
        losses["gradient_norm"] = clip_grad_norm_(self.model.parameters(), max_norm=1.0)
        self.optimizer.step()
        self.scheduler.step()
        losses = {name: value.detach() for name, value in losses.items()}
        return {**losses, **accuracies(outputs, sample)}


def main(data, device="cpu"):
    # The recipe names an optimiser of torch.optim. For any other, override `make_optimizer`.
    adamw = {"optimizer": "AdamW", "optimizer_options": {"weight_decay": 0.01}, "lr": 0.003}
    recipe = replace(RECIPES["speedrun"], name="own-optimizer", schedule="constant", **adamw)
    training = OwnTraining(recipe, data, device=device)
    for row in training:
        print(row["epoch"], row["train_gradient_norm"], row["test_joint_accuracy"])
    return training


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
