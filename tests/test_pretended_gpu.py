"""The way to a GPU, checked without one: "meta", a device that every PyTorch has, is made to calculate.

Its tensors carry their values in CPU tensors. As on a GPU, operations may not mix devices, and every read of a
value and every copy between devices is counted as a wait. This shows where tensors and generators are made and
where training waits. It cannot show kernels, NCCL or speed. The twins on CUDA are in test_training.py.
"""

import sys
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from mnist_adder import RECIPES, evaluate, fit, lr_range, predict
from mnist_adder.devices import place
from mnist_adder.models import TwoInputNet, build

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is a no-op"),  # not on this device
    pytest.mark.filterwarnings("ignore:.*nearly uniform"),
]
READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class DeviceTensor(torch.Tensor):
    """A tensor on the pretended device, with its values in a CPU tensor."""

    __torch_dispatch__ = None  # `PretendedGpu` handles every operation first

    def __new__(cls, value):
        tensor = cls._make_wrapper_subclass(cls, value.size(), value.stride(), dtype=value.dtype, device="meta")
        tensor.value = value
        return tensor

    tolist = property(lambda self: self.cpu().tolist)
    numpy = property(lambda self: self.cpu().numpy)


class Generator(torch.Generator):
    """Notes the devices that generators are asked for on; all of them draw on the CPU."""

    devices: ClassVar[set[str]] = set()

    def __new__(cls, device="cpu"):
        cls.devices.add(str(device))
        return super().__new__(cls)


class PretendedGpu(TorchDispatchMode):
    """Runs each operation on the CPU tensors behind the pretended ones, and counts the waits."""

    waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        with self:  # an operation that is made of others is taken apart
            if (result := function.decompose(*args, **(kwargs or {}))) is not NotImplemented:
                return result
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = [isinstance(tensor, DeviceTensor) for tensor in tensors]
        args, kwargs = tree_map_only(DeviceTensor, lambda tensor: tensor.value, (args, kwargs or {}))
        is_copy = function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        stays = on_device[0] if is_copy else any(on_device)
        if kwargs.get("device") is not None:
            stays, kwargs["device"] = torch.device(kwargs["device"]).type == "meta", "cpu"
        if is_copy:
            self.waits += on_device[-1] != stays
        elif any(on_device):
            mixed = [tensor for tensor, there in zip(tensors, on_device, strict=True) if not there and tensor.dim()]
            assert not mixed, f"{function} mixes devices"
            self.waits += not READS.isdisjoint(function.tags)
        result = function(*args, **kwargs)
        return tree_map_only(torch.Tensor, DeviceTensor, result) if stays else result


@pytest.fixture(autouse=True)
def pretend(monkeypatch):
    optimizers = sys.modules[torch.optim.Optimizer.__module__]
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"])
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr("mnist_adder.data.MADE_AT_ONCE", 1)  # each batch by itself
    # The CPU's memory layout would give other roundings than the GPU's.
    monkeypatch.setattr(TwoInputNet, "memory_format", torch.contiguous_format)
    Generator.devices = set()


VARIANTS = [*RECIPES.values(), replace(RECIPES["adder"], name="averaged", averaging="swa")]


@pytest.mark.parametrize("recipe", VARIANTS, ids=lambda recipe: recipe.name)
def test_training_ends_as_on_the_cpu_and_no_step_waits(recipe, few):
    waits = []
    for batch_size in (120, 30):  # 2 steps and 8
        short = replace(recipe, epochs=1, batch_size=batch_size)
        with PretendedGpu() as gpu:
            history = fit(short, few, device="meta", quiet=True).history
        waits.append(gpu.waits)
        assert Generator.devices == {"meta"}
        Generator.devices.clear()
        assert history == fit(short, few, quiet=True).history
        Generator.devices.clear()
    assert waits[0] == waits[1]


def test_withheld_pairs(few, quick):
    withheld = [(digit, 9 - digit) for digit in range(10)]
    with PretendedGpu():
        history = fit(quick, few, device="meta", withheld=withheld, quiet=True).history
    assert history == fit(quick, few, withheld=withheld, quiet=True).history


class Interrupted(Exception):
    """Stands for a machine that was lost."""


class InMemory:
    """A checkpoint in memory; it interrupts the training after the first epoch."""

    def __init__(self, states=None):
        self.states = states

    def restore(self, parts):
        for name, part in parts.items() if self.states else ():
            part.load_state_dict(self.states[name])
        return self.states["history"] if self.states else []

    def save(self, parts, history):
        if len(history) == 1:
            self.states = {name: part.state_dict() for name, part in parts.items()} | {"history": list(history)}
            raise Interrupted


def test_resumed_from_a_checkpoint_of_the_cpu(few, quick):
    checkpoint = InMemory()
    with pytest.raises(Interrupted):
        fit(quick, few, quiet=True, checkpoint=checkpoint)
    with PretendedGpu():
        history = fit(quick, few, device="meta", quiet=True, checkpoint=InMemory(checkpoint.states)).history
    assert history == fit(quick, few, quiet=True).history


def test_range_test_evaluation_and_prediction(few, quick):
    model = build("adder").eval()
    expected = evaluate(model, few.test).metrics, predict(model, few.test.images[0].numpy(), 5)
    rates = lr_range(quick, few, steps=20)
    with PretendedGpu():
        assert lr_range(quick, few, steps=20, device="meta") == rates
        moved = place(build("adder"), "meta")
        moved.load_state_dict(model.state_dict())
        moved.eval()
        metrics, answer = evaluate(moved, few.test).metrics, predict(moved, few.test.images[0].numpy(), 5)
    assert metrics == expected[0]
    assert answer.sum_probabilities == expected[1].sum_probabilities


@pytest.mark.parametrize("fault", ["a tensor of the CPU", "a read in a step", "a generator of the CPU"])
def test_planted_faults_are_noticed(fault, few, monkeypatch):
    from mnist_adder import data, training

    if fault == "a tensor of the CPU":
        monkeypatch.setattr(data, "one_hot_number", lambda number: torch.eye(10)[:1].repeat(len(number), 1))
    elif fault == "a generator of the CPU":
        monkeypatch.setattr(data.Loader, "_generator", lambda loader: torch.Generator().manual_seed(loader.epoch))
    else:
        step = training.train_step

        def reading(*arguments):
            outputs = step(*arguments)
            outputs[2].total.item()
            return outputs

        monkeypatch.setattr(training, "train_step", reading)
    with pytest.raises(AssertionError):
        test_training_ends_as_on_the_cpu_and_no_step_waits(RECIPES["adder"], few)
