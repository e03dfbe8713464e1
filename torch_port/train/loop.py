"""The training, from top to bottom; around it stands ``captures.training.session``."""
from captures.training.session import Session
from torch_port.fast.arithmetic import ON_THE_CPU, Arithmetic
from torch_port.train import distributed
from torch_port.train.fast import FastRun
from torch_port.train.run import Run


def train(session: Session, threads: int | None = None,
          arithmetic: Arithmetic = ON_THE_CPU) -> None:
    """The article's run, or the rest of it; the session keeps what it does."""
    settings = session.settings
    run = Run.from_seed(settings.seed, settings.map_file, settings.minibatch_size,
                        settings.unit_gain, threads, spec=session.program.spec,
                        device=arithmetic.device)
    if arithmetic.fast:
        run = FastRun.of(run, arithmetic)
    for step, images in session.run(run, distributed.leading(session, run)):
        if step % settings.image_interval == 0:
            session.write_image(step, images[0].cpu())
