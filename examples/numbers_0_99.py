"""Add numbers from 0 to 99 instead of 0 to 9: 109 sums."""

from dataclasses import replace

from mnist_adder import RECIPES, AdderMLP, AdderNet, Epochs, fit, gpu_check, load_data


def large_net():
    adder = AdderMLP(hidden=128, number_classes=100, sum_classes=109)
    return AdderNet(adder=adder)


def main(data, device="cpu"):
    data = replace(data, number_classes=100)
    recipe = replace(
        RECIPES["speedrun"],
        name="numbers-0-99",
        model=large_net,
        epochs=Epochs(mnist=10, digits=60),
        lr=0.1,
        sum_weight=1.0,
    )
    return fit(recipe, data, device=device)


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
