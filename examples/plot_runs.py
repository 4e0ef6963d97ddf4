"""Draw two runs into one figure, with pandas: pip install pandas."""

import matplotlib.pyplot as plt
import pandas as pd

from mnist_adder import RECIPES, fit, gpu_check, load_data, save_run


def main(data, device="cpu"):
    figure, axes = plt.subplots()
    for seed in (0, 1):
        training = fit(RECIPES["speedrun"], data, seed=seed, device=device)
        run = save_run(None, training)  # or the folders of two runs that you have
        history = pd.read_csv(run.folder / "history.csv", index_col="epoch")
        history["test_joint_accuracy"].plot(ax=axes, label=f"seed {seed}", ylabel="accuracy")
    axes.legend()
    figure.savefig("runs.png")
    return figure


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
