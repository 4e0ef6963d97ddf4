"""Learn another operation than the sum: digit − number."""

from dataclasses import replace

from mnist_adder import RECIPES, AdderMLP, AdderNet, evaluate, fit, gpu_check, load_data


def subtract(digit, number):
    """Return the class of the difference: −9…9 becomes 0…18, because classes count from 0."""
    return digit - number + 9


def main(data, device="cpu"):
    data = replace(data, target=subtract)

    def network():  # the product has 82 classes, and "modulo 10" has ten
        return AdderNet(adder=AdderMLP(sum_classes=data.sum_classes))

    training = fit(replace(RECIPES["speedrun"], model=network), data, device=device)
    evaluation = evaluate(training.model, data)
    # The share of right answers for each digit (row) and number (column). In all names, "sum" is
    # the second output, which is the difference here.
    print(evaluation.truth_table)
    return evaluation


if __name__ == "__main__":
    print(main(load_data("auto"), gpu_check()).metrics)
