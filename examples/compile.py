"""Train with torch.compile; the run is saved and read back like any other."""

from mnist_adder import RECIPES, Training, gpu_check, load_data, read_run, save_run


def main(data, device="cpu"):
    training = Training(RECIPES["speedrun"], data, device=device)
    training.model.compile()  # the network stays what it is, and its forward pass is compiled
    for row in training:
        print(row["epoch"], row["seconds"], row["test_joint_accuracy"])  # the first one compiles
    run = save_run(None, training)
    return read_run(run.folder)


if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
