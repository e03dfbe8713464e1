"""Real CNTK's iterations, one for each line that comes in; answers seconds, processor
seconds and bytes. Python 3.6.

    python -m benchmarks.iteration.in_cntk MAP_FILE MINIBATCH_SIZE
"""
import sys
import time

from captures.plan import Latents
from captures.system import largest_memory
from cntk_impl import dcgan_training as program
from environment.quiet import select_device


def main(map_file: str, minibatch_size: int) -> None:
    select_device()
    reader = program.create_reader(map_file, train=True)
    networks = program.build_networks()
    trainers = program.create_trainers(networks, minibatch_size)
    steps = program.iterate(networks, trainers, reader, Latents(0), minibatch_size)
    for _ in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        next(steps)
        print(time.perf_counter() - start, time.process_time() - used,
              largest_memory(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
