"""Add a third output, whether the sum is odd, with its accuracies in the history."""

from dataclasses import replace

from torch import nn

from mnist_adder import RECIPES, AdderNet, Training, evaluate, gpu_check, load_data


class ParityNet(AdderNet):
    def __init__(self):
        super().__init__()
        self.parity = nn.Linear(19, 2)

    def combine(self, features, number):
        log_probs, logits = super().combine(features, number)
        return log_probs, logits, self.parity(logits)  # [B, 10], [B, 19], [B, 2]


class ParityTraining(Training):
    def loss(self, outputs, sample):
        losses = super().loss(outputs, sample)
        odd = sample.sum.argmax(1) % 2  # [B]
        losses["loss"] = losses["loss"] + 0.1 * nn.functional.cross_entropy(outputs[2], odd)
        losses["parity_accuracy"] = (outputs[2].argmax(1) == odd).float().mean()
        return losses

    def test(self):
        evaluation = evaluate(self.model, self.data)  # all test images with all ten numbers
        right = evaluation.others[0].argmax(2) == evaluation.sums % 2  # [N, 10]
        return {**evaluation.metrics, "parity_accuracy": right.double().mean().item()}


def main(data, device="cpu"):
    recipe = replace(RECIPES["speedrun"], name="parity", model=ParityNet)
    return list(ParityTraining(recipe, data, device=device))  # the history


if __name__ == "__main__":
    print(*main(load_data("auto"), gpu_check()), sep="\n")
