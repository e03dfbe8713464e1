"""TODO."""
import argparse
import shutil

from rich.console import Console

from captures.errors import PlanError
from parity.cli.options import AGREE, DIFFER, plan_of


def run(options: argparse.Namespace, console: Console) -> int:
    from parity import comparison
    from parity.judge.policies import policies
    from parity.report import write_all

    wanted = comparison.STAGES
    if options.stages:
        wanted = tuple(options.stages.split(","))
        unknown = [name for name in wanted if name not in comparison.STAGES]
        if unknown:
            raise PlanError(f"there is no stage {unknown[0]!r}: give some of "
                            f"{', '.join(comparison.STAGES)}")
    if not (options.port / "torch_port").is_dir():
        raise PlanError(f"{options.port} holds no torch_port: give the folder that holds one")
    report, pictures = comparison.run(plan_of(options), options.output, console,
                                      options.port.resolve(), wanted)
    write_all(report, pictures, policies(), options.output, console,
              layers=not options.no_layers)
    if not options.keep_oracle:
        shutil.rmtree(options.output / "oracle", ignore_errors=True)
    return AGREE if report.passed else DIFFER
