"""The long twin run: up to which iteration can the port not be told from CNTK's own rerun?

    bin/parity horizon --iterations 200

GAN training is chaotic: two runs of CNTK whose starting weights differ by one ULP part by some per
cent within five iterations. So a difference at iteration 200 means nothing by itself; what means
something is whether the port parts from CNTK faster than CNTK parts from itself.
"""
from pathlib import Path

from captures.errors import PlanError
from captures.format import Capture
from captures.output import made_whole
from captures.plan import Plan
from captures.process import AGREE, DIFFER
from parity.cli.options import RUNS, WRITTEN, Output, Quiet, console_of, with_plan
from parity.judge.policies import policies
from parity.judge.results import Report
from parity.producers import jobs, recipes
from parity.report import Pictures, gather, write_all
from parity.stages import common
from parity.stages import twin as twin_stage


@with_plan(twin_iterations=100)
def command(plan: Plan, output: Output = RUNS / "horizon", quiet: Quiet = False) -> int:
    """0 where the port stays within the policy "horizon", 1 where not."""
    if not plan.twin_iterations or not plan.reruns:
        raise PlanError("a horizon needs iterations and reruns: give --iterations and --reruns of "
                        "at least 1")
    console = console_of(quiet)
    with made_whole(output, WRITTEN) as making:
        folder = Path(making)
        jobs.run_jobs(recipes.twin_jobs(plan, folder, reruns=True), plan, folder, console)
        report, closing = judged(plan, folder)
        write_all(report, Pictures(), policies(), folder, console, layers=False, final=output,
                  closing=closing)
    return AGREE if report.passed else DIFFER


def judged(plan: Plan, folder: Path) -> tuple[Report, str]:
    """The report, and up to where the two are the same; raises CaptureError."""
    names = ["cntk", "port", *(f"rerun{i}" for i in range(1, plan.reruns + 1))]
    twins = {name: Capture(folder / f"twin-{name}") for name in names}
    captures = common.Captures(twins["cntk"], twins["port"], twins["port"], twins)
    stage = twin_stage.TWIN_RUN(captures)
    whole = not twin_stage.incomparable(twins)
    report = Report(dict(plan.inputs), {f"twin-{name}": gather.manifest_of(one)
                                        for name, one in twins.items()}, [stage],
                    gather.curves(captures) if whole else {})
    if not whole:
        return report, ""
    reached = twin_stage.indistinguishable(twin_stage.horizon(twins))
    return report, (f"Up to iteration {reached} of {plan.twin_iterations} the port cannot be told "
                    "from CNTK's own rerun by the distance of its weights.")
