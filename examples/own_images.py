"""Train on images of your own, from arrays and from a file."""

from dataclasses import replace

import numpy as np
import torch

from mnist_adder import RECIPES, Data, Split, fit, gpu_check, load_data


def main(data, device="cpu"):
    # Put your arrays here: uint8 [N, 28, 28], 0 is paper and 255 is ink; whole numbers [N].
    # Colours, [N, 3, H, W], need a network whose first convolution takes three channels. And for
    # 26 letters, give Data(…, digit_classes=26) and a network that fits:
    #     cnn = DigitCNN()
    #     cnn[-1] = nn.Linear(128, 26)
    #     AdderNet(cnn, AdderMLP(digit_classes=26, sum_classes=35))
    x_train = data.train.images.numpy()
    y_train = data.train.digits.numpy()
    x_test = data.test.images.numpy()
    y_test = data.test.digits.numpy()

    # The 2 epochs of "speedrun" suit 60,000 images. A small set needs more of them.
    recipe = replace(RECIPES["speedrun"], epochs=30 if len(y_train) < 6000 else 2)

    print("from arrays:")
    train = Split(torch.from_numpy(x_train), torch.from_numpy(y_train))
    test = Split(torch.from_numpy(x_test), torch.from_numpy(y_test))
    fit(recipe, Data("own", train, test), device=device)

    print("from a file, which the command line takes, too, as train --data own.npz:")
    np.savez_compressed("own.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return fit(recipe, load_data("own.npz"), device=device)


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
