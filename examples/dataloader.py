"""Train in a loop of your own, with PyTorch's DataLoader."""

import torch
from torch.utils.data import DataLoader

from mnist_adder import AdderNet, evaluate, gpu_check, load_data, total_loss


def main(data, device="cpu", epochs=3):
    dataset = data.dataset(data.train)  # an `AdderDataset`
    loader = DataLoader(
        dataset,
        batch_size=64,
        shuffle=True,
        drop_last=True,  # BatchNorm cannot train on a last batch of one image
        num_workers=2,
        persistent_workers=True,  # started once, not in each epoch
    )
    model = AdderNet().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for epoch in range(epochs):
        for image, number, digit, sum in loader:
            optimizer.zero_grad()
            log_probs, logits = model(image.to(device), number.to(device))
            losses = total_loss(log_probs, digit.to(device), logits, sum.to(device))
            losses.total.backward()
            optimizer.step()
        print(epoch, losses.total.item(), evaluate(model, data).metrics)
    return model


# The guard is needed: where workers are started by "spawn", each of them imports this file.
if __name__ == "__main__":
    main(load_data("auto"), gpu_check())
