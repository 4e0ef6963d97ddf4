"""Describe a network for network.js, which walks the same layers as PyTorch."""

import base64
import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import MEAN, STD
from ..errors import InputError
from ..models import AdderMLP, ExactAdder, NumberLine, Rescale


def network_data(model: nn.Module) -> dict:
    """Return what network.js needs to compute a network as it is in evaluation mode.

    `InputError` for a network that it would not compute.
    """
    refusal = f"the page cannot run {type(model).__name__}"
    if not hasattr(model, "cnn") or not hasattr(model, "adder"):
        raise InputError(f"{refusal}: it has not both a cnn and an adder")
    model = copy.deepcopy(model).cpu().float().eval()
    adder = _adder(model.adder)
    # network.js joins the two parts in its own way. One sample shows whether it is the network's.
    image = torch.linspace(-0.4, 2.8, 28 * 28).view(1, 1, 28, 28)
    number = F.one_hot(torch.tensor([7]), 10).float()  # [1, 10]
    try:
        with torch.no_grad():
            scores = model.cnn(image)  # [1, 10]
            log_probs = F.log_softmax(scores, 1)
            raw = adder["type"] == "scores"
            inputs = [torch.cat([scores, number], 1)] if raw else [log_probs, number]
            expected = torch.cat([log_probs, model.adder(*inputs)], 1)  # [1, 29]
            outputs = torch.cat(model(image, number)[:2], 1)
            same = torch.allclose(outputs, expected, atol=1e-4)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{refusal}: it needs images [1, 28, 28] and ten numbers") from error
    if outputs.shape != (1, 29):
        raise InputError(f"{refusal}: it has not ten digits and 19 sums")
    if not same:
        raise InputError(f"{refusal}: it does more than its cnn and adder do")
    return {"mean": MEAN, "std": STD, "cnn": _layers(model.cnn, "cnn"), "adder": adder}


def _adder(adder: nn.Module) -> dict:
    if type(adder) is AdderMLP:
        layers = _layers(adder.layers, "adder.layers")
        return {"type": "mlp", "sharpness": adder.SHARPNESS, "layers": layers}
    if type(adder) is NumberLine:
        digits, numbers = map(_floats, adder.places())
        # Rounded, because the last digit of a sigmoid depends on the machine.
        k = round(adder.k().item(), 6)
        return {"type": "line", "digitPlaces": digits, "numberPlaces": numbers, "sharpness": k}
    if type(adder) is ExactAdder:
        return {"type": "exact"}
    return {"type": "scores", "layers": _layers(adder, "adder")}


def _layers(layer: nn.Module, name: str) -> list[dict]:
    """Describe a layer, or the layers of a Sequential, without those that only training needs."""
    if isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward:
        layers = []
        for index, child in enumerate(layer):  # a layer may occur twice
            layers += _layers(child, f"{name}.{index}")
        return layers
    if isinstance(layer, nn.Dropout | nn.Dropout2d | nn.Identity):
        return []
    description = LAYERS.get(type(layer), lambda unknown: None)(layer)
    if description is None:
        raise InputError(f"the page cannot run the layer {name}: {' '.join(repr(layer).split())}")
    return [description]


def _conv(conv: nn.Conv2d) -> dict | None:
    sizes = (conv.kernel_size, conv.stride, conv.padding)
    square = all(len(set(size)) == 1 for size in sizes)  # and no padding "same"
    if not square or conv.dilation != (1, 1) or conv.groups > 1 or conv.padding_mode != "zeros":
        return None
    kernel, stride, padding = (size[0] for size in sizes)
    settings = {"kernel": kernel, "stride": stride, "padding": padding}
    return {"type": "conv", **settings, "weight": _floats(conv.weight), "bias": _bias(conv)}


def _max_pool(pool: nn.MaxPool2d) -> dict | None:
    square = isinstance(pool.kernel_size, int) and isinstance(pool.stride, int)
    if not square or (pool.padding, pool.dilation, pool.ceil_mode) != (0, 1, False):
        return None
    return {"type": "maxpool", "kernel": pool.kernel_size, "stride": pool.stride}


def _batch_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> dict | None:
    """Fold the four vectors into two: a factor and a summand for each channel."""
    if norm.running_mean is None or norm.weight is None:
        return None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    return {"type": "scale", "scale": _floats(scale), "shift": _floats(shift)}


LAYERS = {
    nn.Conv2d: _conv,
    nn.MaxPool2d: _max_pool,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Linear: lambda x: {"type": "linear", "weight": _floats(x.weight), "bias": _bias(x)},
    nn.Flatten: lambda x: {"type": "flatten"} if (x.start_dim, x.end_dim) == (1, -1) else None,
    nn.ReLU: lambda x: {"type": "relu"},
    Rescale: lambda x: {"type": "scale", "scale": [x.scale], "shift": [x.shift]},
}


def _bias(layer: nn.Conv2d | nn.Linear) -> dict:
    return _floats(torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias)


def _floats(tensor: Tensor) -> dict:
    """Return numbers in base64, in PyTorch's order of indices whatever the memory format is.

    They are float32, or bfloat16 where this says the same in half the space.
    """
    values = tensor.detach().contiguous()
    halves = values.bfloat16()
    if torch.equal(halves.float(), values):
        numbers = halves.view(torch.int16).numpy().astype("<i2")
        return {"bfloat16": base64.b64encode(numbers.tobytes()).decode()}
    return {"float32": base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()}
