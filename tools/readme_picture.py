"""Draw the README's picture: python tools/readme_picture.py"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from mtl_course import plotting, training
from mtl_course.datasets import Scenes

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """One held-out scene, its five truths, and what the model of lesson 00 answers."""
    model, tasks = training.load(ROOT / "data/checkpoints/scenes.safetensors")
    sample = Scenes(8, size=64, seed=2_000_003)[5]
    predictions = model(sample["image"][None])
    fig, axes = plt.subplots(2, 6, figsize=(9, 3.2), layout="tight")
    plotting.picture(axes[0, 0], plotting.as_rgb(sample["image"]), "image")
    axes[1, 0].axis("off")
    for (top, bottom), (name, task) in zip(axes.T[1:], tasks.items()):
        plotting.picture(top, plotting.colorize(sample[name], task), name)
        answer = task.decode(predictions[name])[0].detach()
        plotting.picture(bottom, plotting.colorize(answer, task, sample[name]))
    axes[0, 1].set_ylabel("truth")
    axes[1, 1].set_ylabel("model")
    fig.savefig(ROOT / "notebooks/start_here.png", dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
