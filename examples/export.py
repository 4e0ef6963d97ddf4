"""Export the trained network: adder.pt2 needs only PyTorch, adder.onnx not even that."""

import torch

from mnist_adder import AdderDataset, load_data, load_pretrained


def main(data):
    model = load_pretrained()
    sample = AdderDataset(*data.test)[:2]  # two or more samples, so that B may be any number
    inputs = (sample.image, sample.number)
    batch = torch.export.Dim("batch")
    shapes = ({0: batch}, {0: batch})
    program = torch.export.export(model, inputs, dynamic_shapes=shapes)
    torch.export.save(program, "adder.pt2")

    # Elsewhere, with torch alone. The image is (pixels / 255 - 0.1307) / 0.3081, where 255 is ink,
    # float [B, 1, 28, 28]; the number is one-hot [B, 10].
    network = torch.export.load("adder.pt2").module()
    log_probs, logits = network(*inputs)
    print(log_probs.argmax(1), logits.argmax(1))

    # For ONNX: pip install onnx onnxscript
    torch.onnx.export(
        program,
        f="adder.onnx",
        external_data=False,
        input_names=["image", "number"],
        output_names=["log_probs", "logits"],
    )


if __name__ == "__main__":
    main(load_data("auto"))
