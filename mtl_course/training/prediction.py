"""What a model says about one photograph, at the photograph's own size."""

import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from mtl_course.datasets.transforms import fitted_size, joint_transform
from mtl_course.errors import CourseError
from mtl_course.models.trunks import resize
from mtl_course.tasks import Tasks


@torch.no_grad()
def predict(model: nn.Module, tasks: Tasks, image: Tensor, size: int | None = None) -> dict[str, Tensor]:
    """The answers of a model to one picture, fitted and padded as in evaluation, then brought back to its size.

    The logits are enlarged, bilinearly, and then decoded, so that no class is invented between two others.

    Args:
        model: images (B, 3, H, W) -> dict of predictions, on any device.
        tasks: by name.
        image: uint8 (3, H, W), or float32 (3, H, W) in [0, 1].
        size: pixels of the longer side that the model sees, best those of its training; None: the picture as it is.

    Returns:
        By task, on the CPU: class ids, int64 (H, W), or values, float32 (C, H, W), as `Task.decode` gives them.

    Raises:
        CourseError: if the image has another form, or a prediction is not finite.
    """
    if image.ndim != 3 or len(image) != 3 or image.dtype not in (torch.uint8, torch.float32) or not image.numel():
        raise CourseError(f"expected is a picture, uint8 or float32 (3, H, W), not {image.dtype} {tuple(image.shape)}")
    height, width = image.shape[1:]
    rows, columns = (height, width) if size is None else fitted_size(height, width, size, augment=False)
    fitted = joint_transform(size)(tv_tensors.Image(image)).as_subclass(Tensor)[None]
    was_training, answers = model.training, {}
    predictions = model.eval()(fitted.to(next(model.parameters()).device))
    model.train(was_training)
    for name, task in tasks.items():
        if not predictions[name].isfinite().all():
            raise CourseError(f"the model's {name!r} is not finite: train it with a lower lr")
        seen = predictions[name][..., :rows, :columns].float().cpu()  # without the padding
        answers[name] = task.decode(resize(seen, (height, width)))[0]
    return answers
