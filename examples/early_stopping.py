"""Stop when the validation loss no longer falls, and keep the best epoch."""

import copy
from dataclasses import replace

from mnist_adder import RECIPES, Training, evaluate, gpu_check, load_data, save_run

PATIENCE = 3  # epochs without a new best
RECIPE = replace(RECIPES["adder"], name="early-stopping", schedule="constant", lr=0.05)


def main(data, device="cpu"):
    training = Training(RECIPE, data, device=device)
    best_loss = float("inf")
    for row in training:
        loss = row["test_digit_loss"] + row["test_sum_loss"]  # on the fold, if data has one
        print(row["epoch"], loss)
        if loss < best_loss:
            best_loss = loss
            best_epoch = row["epoch"]
            best = copy.deepcopy(training.state_dict())
        if row["epoch"] - best_epoch >= PATIENCE:
            break
    print("the best epoch:", best_epoch)
    training.load_state_dict(best)  # the network and the history as they were at the best epoch
    save_run(None, training)
    return training


if __name__ == "__main__":
    trained = main(load_data("auto", validate=0), gpu_check())
    print(evaluate(trained.model, load_data("auto")).metrics)  # the test set, once, at the end
