"""Train with torch.compile; the run is saved and read back like any other."""

from mnist_adder import RECIPES, Training, gpu_check, load_data, read_run, save_run


def main(data, device="cpu"):
    training = Training(RECIPES["speedrun"], data, device=device)
    # Compile in place, so that the weights keep their names. The tests are not compiled.
    training.model.compile()
    for row in training:
        print(row["epoch"], row["seconds"], row["test_joint_accuracy"])  # the first is the slowest
    run = save_run(None, training)
    return read_run(run.folder)


if __name__ == "__main__":
    print(main(load_data("auto"), gpu_check()))
