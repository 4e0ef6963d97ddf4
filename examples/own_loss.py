"""Train with a loss of your own: the focal loss, which cares less for what is easy.

Lin et al. 2017, "Focal loss for dense object detection".
"""

from dataclasses import replace

from mnist_adder import RECIPES, Training, gpu_check, load_data


def focal_loss(log_probs, target, gamma=2.0):
    """Return the mean of −(1 − p)^gamma · log p; p is the right class's probability, gamma ≥ 1."""
    log_p = log_probs.gather(1, target[:, None])  # [B, 1]
    weight = (1 - log_p.exp()) ** gamma
    return -(weight * log_p).mean()


class FocalTraining(Training):
    def loss(self, outputs, sample):
        log_probs, logits = outputs
        digit_loss = focal_loss(log_probs, sample.digit)
        sum_loss = focal_loss(logits.log_softmax(1), sample.sum.argmax(1))
        total = self.recipe.digit_weight * digit_loss + self.recipe.sum_weight * sum_loss
        # Backward starts from "loss". All three come into the history, as train_loss and so on.
        return {"loss": total, "digit_loss": digit_loss, "sum_loss": sum_loss}


def main(data, device="cpu"):
    recipe = replace(RECIPES["speedrun"], name="focal", label_smoothing=0.0)  # not in this loss
    training = FocalTraining(recipe, data, device=device)
    for row in training:
        print(row["epoch"], row["train_loss"], row["test_joint_accuracy"])
    return training


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
