"""Log each epoch to TensorBoard: pip install tensorboard, then tensorboard --logdir runs."""

from torch.utils.tensorboard import SummaryWriter

from mnist_adder import RECIPES, Training, gpu_check, load_data


def main(data, device="cpu"):
    training = Training(RECIPES["speedrun"], data, device=device)
    with SummaryWriter() as writer:
        for row in training:
            for name, value in row.items():
                writer.add_scalar(name, value, row["epoch"])
            print("epoch", row["epoch"], "is in", writer.log_dir)
    return training


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
