"""Train for people's own pictures: other pens, and what is no digit. Our weights are made so.

The network also sees broken digits, to which no answer is right. This is outlier exposure:
Hendrycks et al. 2019, "Deep anomaly detection with outlier exposure".
"""

from dataclasses import replace

import torch
import torch.nn.functional as F

from mnist_adder import RECIPES, Epochs, Training, gpu_check, load_data, train_run

ELASTIC = RECIPES["large"].augment


def augment(images):
    """Distort all images; then make a twelfth bolder, a twelfth thinner, a twelfth blurred."""
    images = ELASTIC(images)  # [B, 1, 28, 28]
    count = len(images) // 12
    order = torch.randperm(len(images), device=images.device)
    bold, thin, blurred = order[: 3 * count].view(3, count)  # which images
    share = torch.rand(count, 1, 1, 1, device=images.device)
    boldest = F.max_pool2d(images[bold], 3, stride=1, padding=1)
    images[bold] = images[bold].lerp(boldest, share)
    thinnest = -F.max_pool2d(-images[thin], 3, stride=1, padding=1)
    images[thin] = images[thin].lerp(thinnest, 0.7 * share)
    side = int(torch.randint(9, 20, ()))  # as a scan of few pixels; one size for all of these
    small = F.interpolate(images[blurred], (side, side), mode="area")
    smooth = F.interpolate(small, images.shape[2:], mode="bilinear")
    darkest = smooth.amax((1, 2, 3), keepdim=True)
    images[blurred] = 255 * smooth / darkest.clamp(min=1)  # blurring made them paler
    return images


def broken_digits(sample):
    """Return images that look like writing and are no digits: [16, 1, 28, 28]."""
    # Other digits would too often look like digits again: two upper halves of a 2 are a 3.
    tops = four(sample, 4, 5, 6)
    sides = four(sample, 4, 9)
    wholes = four(sample, 2, 3, 5, 6, 8)
    mirrored = four(sample, 3, 4, 7, 9).flip(3)
    # An upper half, and below it the upper half of another digit, upside down.
    upside_down = tops.roll(1, 0).flip(2)
    upper = torch.cat([tops[:, :, :14], upside_down[:, :, 14:]], 2)
    # A right half, and to its left the mirrored right half of another digit.
    other_sides = sides.roll(1, 0).flip(3)
    symmetric = torch.cat([other_sides[..., :14], sides[..., 14:]], 3)
    # Two digits over one another, one of them on its side.
    turned = wholes.roll(1, 0).rot90(1, (2, 3))
    crossed = torch.maximum(wholes.roll(4, 3), turned.roll(-4, 2))
    return torch.cat([mirrored, upper, symmetric, crossed])


def four(sample, *digits):
    """Return four images of these digits, [4, 1, 28, 28]."""
    wanted = sample.digit.new_tensor(digits)
    rows = torch.isin(sample.digit, wanted)  # bool [B]
    return sample.image[rows][:4]


class OutlierTraining(Training):
    def forward(self, sample):
        images = torch.cat([sample.image, broken_digits(sample)])
        log_probs = self.model.features(images)  # [B + 16, 10]; no number is needed for these
        count = len(sample.image)
        outputs = self.model.combine(log_probs[:count], sample.number)
        return *outputs, log_probs[count:]

    def loss(self, outputs, sample):
        losses = super().loss(outputs, sample)
        losses["broken_loss"] = -outputs[2].mean()  # smallest if all ten digits are equally likely
        losses["loss"] = losses["loss"] + 0.1 * losses["broken_loss"]
        return losses


RECIPE = replace(
    RECIPES["large"],
    name="outliers",
    epochs=Epochs(mnist=100, digits=80),
    augment=augment,
)

if __name__ == "__main__":
    training = OutlierTraining(RECIPE, load_data("auto"), device=gpu_check())
    run = train_run(None, training)
    print(f"now: python -m mnist_adder predict --run {run.folder} my_7.png --number 5")
