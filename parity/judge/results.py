"""What a comparison found: checks, stages, a report. Plain data, ready for JSON.

A check is one number against one allowance. A stage is a list of checks about one thing, in the
order in which a difference would spread, so the first failed check is where to look. A report is
the stages of one run in order.
"""
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One number against one allowance.

    place: what was looked at, ``network/layer/quantity`` as in the captures.
    measured, allowed: passed if measured <= allowed. Infinite where nothing could be measured
        (an array on one side only).
    unit: what the two are, for example "times CNTK's error".
    policy: the name of the tolerance in ``verdict.POLICIES``.
    metrics: further figures for the tables, by name (``metrics.py``).
    detail: one sentence on a failure: what differs, and where exactly.
    local: True, judged on the reference's own inputs: an error born here. False, in the chain: it
        may be inherited. None: the question does not arise.
    verdict: of a computed array, one of the four words of ``rounding.Verdict``.
    """

    place: str
    measured: float
    allowed: float
    unit: str
    policy: str
    metrics: dict[str, float] = field(default_factory=dict)
    detail: str = ""
    local: bool | None = None
    verdict: str = ""

    @property
    def passed(self) -> bool:
        return self.measured <= self.allowed  # NaN fails

    @property
    def margin(self) -> float:
        """measured / allowed; above 1 it failed. 0 allowed and more measured: infinite."""
        if self.passed:
            return self.measured / self.allowed if self.allowed else 0.0
        return self.measured / self.allowed if self.allowed else float("inf")


@dataclass
class Stage:
    """name: short, for example "forward/training". title: a line for people. notes: facts that are
    listed, not judged, for example what an exporter folds or drops. not_judged: why there are no
    checks, where the captures lack what the stage needs; "" where it was judged."""

    name: str
    title: str
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    not_judged: str = ""

    @property
    def passed(self) -> bool:
        """False where nothing was checked: what is not judged did not pass."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def first_failure(self) -> Check | None:
        """Where the difference begins: failed local checks come before inherited ones."""
        failed = [check for check in self.checks if not check.passed]
        born = [check for check in failed if check.local is not False]
        return next(iter(born or failed), None)


@dataclass(frozen=True)
class Diagnosis:
    """A known mistake whose numbers the port's are, at the places that it explains.

    stage: in which it was found first. name: of the mistake, in words and hyphens; "" where none
    that is known gives the port's numbers: ``what`` is then the pattern of the difference. what:
    one sentence with the numbers that were found. mend: what to change, in code where it can be.
    page: where more is written. left: how much of the difference it does not explain.
    """

    stage: str
    places: tuple[str, ...]
    name: str
    what: str
    mend: str = ""
    page: str = ""
    left: float = 0.0


@dataclass
class Report:
    """plan: ``Plan.inputs``. producers: name of each capture to its manifest (without arrays).
    curves: series for the pictures, each name to a list of numbers. blame: one of "", "port",
    "CNTK's exporter", "the port's exporter", "runtime"; reproduction: the folder of a failing
    case, or "". score: figures of the classifier score. reference: what stood in for CNTK; "" where
    nothing did. diagnoses: which known mistakes explain what failed. hidden: a line for each reason
    why arrays of CNTK's were not compared."""

    plan: dict[str, Any]
    producers: dict[str, dict[str, Any]]
    stages: list[Stage] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    score: dict[str, float] = field(default_factory=dict)
    blame: str = ""
    reproduction: str = ""
    seconds: float = 0.0
    reference: str = ""
    hidden: list[str] = field(default_factory=list)
    diagnoses: list[Diagnosis] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all that was judged passed, and something was."""
        judged = self.judged
        return bool(judged) and all(stage.passed for stage in judged)

    @property
    def judged(self) -> list[Stage]:
        return [stage for stage in self.stages if not stage.not_judged]

    @property
    def applying(self) -> list[Stage]:
        """The stages that could be judged at all: where real CNTK made the reference, nothing stood
        in for it, and the stage of that does not apply."""
        return [stage for stage in self.stages
                if not (stage.name == "reference" and stage.not_judged and not self.reference)]

    @property
    def coverage(self) -> list[str]:
        """A line for every stage that was not judged, and for the arrays that were not compared,
        with the reason; one that does not apply is called so, and counted nowhere."""
        applying = self.applying
        return [*(f"{stage.name} {'was not judged' if stage in applying else 'does not apply'}: "
                  f"{stage.not_judged}" for stage in self.stages if stage.not_judged),
                *self.hidden]

    @property
    def first_failure(self) -> tuple[Stage, Check] | None:
        for stage in self.stages:
            if stage.first_failure is not None:
                return stage, stage.first_failure
        return None

    def as_dict(self) -> dict[str, Any]:
        """For report.json; infinities and NaN as text, since JSON has none."""
        made = asdict(self)
        made["passed"] = self.passed
        made["coverage"] = self.coverage
        for stage, whole in zip(made["stages"], self.stages, strict=True):
            stage["passed"] = whole.passed
            for check, one in zip(stage["checks"], whole.checks, strict=True):
                check["passed"] = one.passed
                check["margin"] = one.margin
        found = self.first_failure
        made["first_failure"] = None if found is None else {
            "stage": found[0].name, "place": found[1].place}
        finite: dict[str, Any] = _finite(made)
        return finite


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
