"""Mistakes in what a run writes, and in how it goes on."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from captures.plan import Latents
from captures.training.session import Session
from planted.parts import method, replace
from planted.plant import FILES, RESUMED, mistake
from torch_port.dcgan import networks_from_seed
from torch_port.train import outputs
from torch_port.train.run import Run, model_file

STAGE = "program"


@mistake("picture-in-rgb", FILES, "The written picture has its channels in the order R, G, B.",
         STAGE, "run/picture/written")
def picture_in_rgb() -> None:
    before = outputs.encode
    replace(outputs.encode, lambda picture: before(np.ascontiguousarray(picture[..., ::-1])))


def _image(change: Callable[[np.ndarray], np.ndarray]) -> None:
    before = method(Session, "write_image", lambda self, step, image: before(
        self, step, change(np.asarray(image, np.float32))))


@mistake("picture-times-127", FILES, "The picture is x * 127 + 127.5.", STAGE,
         "run/picture/written")
def picture_times_127() -> None:
    _image(lambda image: image * np.float32(127 / 127.5))


@mistake("picture-truncated", FILES, "The picture's values are cut off, not rounded.", STAGE,
         "run/picture/written")
def picture_truncated() -> None:
    _image(lambda image: np.floor((image + 1) * np.float32(127.5)) / np.float32(127.5) - 1)


@mistake("picture-as-jpeg", FILES, "The picture is compressed with loss.", STAGE,
         "run/picture/written")
def picture_as_jpeg() -> None:
    replace(outputs.encode, lambda picture: cv2.imencode(".jpg", picture)[1].tobytes())


@mistake("picture-mirrored", FILES, "The picture is its mirror image.", STAGE,
         "run/picture/written")
def picture_mirrored() -> None:
    _image(lambda image: np.ascontiguousarray(image[..., ::-1]))


@mistake("models-of-the-start", FILES, "The model files hold the initial weights.", STAGE,
         "models/discriminator/.*")
def models_of_the_start() -> None:
    def save(self: Run, folder: Path) -> None:
        for network in self.networks.names:
            torch.save(networks_from_seed(self.seed, self.networks.spec).get_submodule(
                network).state_dict(), folder / model_file(network))
    method(Run, "save_models", save)


@mistake("models-through-float16", FILES, "The model files hold weights that were half precision.",
         STAGE, "models/discriminator/.*")
def models_through_float16() -> None:
    def save(self: Run, folder: Path) -> None:
        for network in self.networks.names:
            torch.save({key: value.half().float() if value.is_floating_point() else value
                        for key, value in self.networks.get_submodule(
                            network).state_dict().items()}, folder / model_file(network))
    method(Run, "save_models", save)


# ------------------------------------------------------------------------------------ resumed runs


def restored(change: Callable[[Run], None]) -> None:
    """``change(run)`` once it has taken the checkpoint's arrays."""
    def restore(self: Run, *arguments: Any) -> None:
        before(self, *arguments)
        with torch.no_grad():
            change(self)
    before = method(Run, "restore", restore)


@mistake("reader-begins-anew", RESUMED, "A run that goes on reads its data from the start.", STAGE,
         "resumed/discriminator/.*")
def reader_begins_anew() -> None:
    def change(run: Run) -> None:
        run.reader.step = 0
    restored(change)


@mistake("minibatch-read-twice-on-going-on", RESUMED, "The last minibatch is read once more.",
         STAGE, "resumed/discriminator/.*")
def minibatch_read_twice() -> None:
    def change(run: Run) -> None:
        run.reader.step -= 1
    restored(change)


@mistake("adams-moments-lost", RESUMED, "Adam begins anew: m and v are 0.", STAGE,
         "resumed/discriminator/.*")
def adams_moments_lost() -> None:
    def change(run: Run) -> None:
        for _, optimizer in run.optimizers():
            for state in optimizer.state.values():
                state["m"].zero_()
                state["v"].zero_()
    restored(change)


@mistake("adams-counter-lost", RESUMED, "Adam's correction for the start begins anew.", STAGE,
         "resumed/discriminator/.*")
def adams_counter_lost() -> None:
    def change(run: Run) -> None:
        for _, optimizer in run.optimizers():
            optimizer.param_groups[0]["minibatches"] = 0
    restored(change)


@mistake("statistics-lost", RESUMED, "The running statistics begin anew.", STAGE,
         "resumed/(discriminator|generator)/bn[0-9]+/(running_.*|sample_count)")
def statistics_lost() -> None:
    def change(run: Run) -> None:
        for name, tensor in run.networks.arrays().items():
            if "running_" in name or name.endswith("sample_count"):
                tensor.zero_()
    restored(change)


@mistake("latents-drawn-again", RESUMED, "A run that goes on draws its first latents again.",
         STAGE, "resumed/discriminator/.*")
def latents_drawn_again() -> None:
    again: list[Run] = []

    def draw(self: Run) -> torch.Tensor:
        drawn: torch.Tensor = before(self)
        if self in again:
            again.remove(self)
            drawn = torch.from_numpy(Latents(
                self.seed, self.networks.spec.maker.input[0]).next(self.minibatch_size))
        return drawn
    before = method(Run, "_latents", draw)
    restored(again.append)
