"""Train in several processes, a GPU each, which share every batch; or go on after an interruption.

torchrun --nproc-per-node 2 examples/distributed.py runs/pair  # with GPUs, as many as you have
"""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from mnist_adder import RECIPES, Training, load_data, train_run
from mnist_adder.runs import CHECKPOINT, read_checkpoint


class DistributedTraining(Training):
    def __init__(self, recipe, data, **settings):
        super().__init__(recipe, data, **settings)
        self.parallel = DistributedDataParallel(self.model)  # takes the mean of the gradients

    def forward(self, sample):
        return self.parallel(sample.image, sample.number)

    def make_loader(self):
        dataset = super().make_loader().dataset
        self.sampler = DistributedSampler(dataset, seed=self.seed, drop_last=True)
        size = self.recipe.batch_size // dist.get_world_size()  # rounded down
        batches = BatchSampler(self.sampler, size, drop_last=True)
        return DataLoader(dataset, sampler=batches, batch_size=None)  # a whole batch at a time

    def train_epoch(self):
        self.sampler.set_epoch(len(self.history))
        torch.manual_seed(torch.initial_seed() + dist.get_rank())  # numbers of its own
        means = super().train_epoch()
        values = torch.tensor(list(means.values()), device=self.device)
        dist.all_reduce(values)
        return dict(zip(means, (values / dist.get_world_size()).tolist(), strict=True))


def main(data, folder, recipe=RECIPES["adder"]):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group()  # NCCL for GPUs, gloo for CPUs
    training = DistributedTraining(recipe, data, device=device)
    resume = os.path.exists(os.path.join(folder, CHECKPOINT))
    dist.barrier()  # until all have looked: then rank 0 makes that file
    if dist.get_rank() == 0:
        train_run(folder, training, resume=resume)
    else:
        if resume:
            training.load_state_dict(read_checkpoint(folder))
        list(training)  # trains the epochs that are left
    dist.destroy_process_group()


if __name__ == "__main__":
    main(load_data("auto"), sys.argv[1])
