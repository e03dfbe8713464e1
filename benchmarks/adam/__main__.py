"""The figures of ``benchmarks/adam``, printed."""
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.adam import measure
from benchmarks.figures import written


def main(
        repetitions: Annotated[int, typer.Option(min=1, help="of each step")] = 15,
        json: Annotated[Path | None, typer.Option(
            metavar="PATH", show_default="not written", help="write the figures here")] = None,
        ) -> None:
    """Times CNTKAdam's step against torch.optim.Adam(foreach=True)."""
    figures = measure(repetitions)
    print(f"Adam, {figures['parameters']:,} parameters in {figures['tensors']} tensors, "
          f"{figures['threads']} thread(s), median of {figures['repetitions']}:")
    print(f"  CNTKAdam                        {figures['seconds']['cntk_adam'] * 1e3:7.1f} ms")
    print(f"  torch.optim.Adam(foreach=True)  {figures['seconds']['torch_adam'] * 1e3:7.1f} ms")
    print(f"  ratio                           {figures['ratio']:7.2f}  (bound: 1.5)")
    written(figures, json)


if __name__ == "__main__":
    typer.run(main)
