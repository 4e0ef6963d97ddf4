"""Entry points of ``torch.hub``: ``torch.hub.load(REPOSITORY, "adder", pretrained=True)``."""

dependencies = ["torch", "torchvision", "safetensors", "skimage", "matplotlib", "tqdm", "torchviz"]


def adder(pretrained: bool = False):
    """Return the package's network, a `WideNet`; with `pretrained`, as it was trained on MNIST.

    It takes a normalised image, float [B, 1, 28, 28], and a one-hot number, float [B, 10]. It
    returns log_probs of the digit [B, 10] and logits of the sum [B, 19].
    """
    from mnist_adder import WideNet, load_pretrained

    return load_pretrained() if pretrained else WideNet()
