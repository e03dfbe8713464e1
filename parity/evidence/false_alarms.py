"""Correct ports over many plans: none may fail.

    bin/parity false-alarms [--only A,B] [--ports ours,onednn] [--shard 3/8] [--merge FOLDER]

A suite that cries wolf is switched off. So every correct port of the package ``planted`` (ours, and
those that compute the same formulas in another order or precision) is compared with CNTK over plans
that differ in everything that a plan may say: seeds, minibatches of 1 to 16, one and two threads,
unit gain on and off, states trained for one to twenty iterations so that activations saturate,
weights scaled up and down by powers of two. In two kinds of plans CNTK itself computes otherwise:
on MKL's AVX2 and AVX-512 branches. Most plans are of narrow networks (``plans.narrow``); those
whose name begins with ``whole`` are of the article's.

CNTK and the float64 oracle run a plan once, for all ports. Each port goes through every stage but
the twin run, the program and the score; in the plans ``training-...`` through twenty iterations of
the twin run alone, for which CNTK trains once. A result is a small JSON file for each plan and
port; a run goes on where it stopped.
"""
import contextlib
import json
import shutil
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from captures.errors import PlanError
from captures.files import write_json, write_text
from captures.format import Capture
from captures.plan import Plan
from parity.evidence import reference
from parity.evidence.child import captured, oracle, said_to
from parity.evidence.defect import OURS, Catalogue, catalogue
from parity.evidence.examine import beside
from parity.evidence.keys import digest, suite_key
from parity.evidence.plans import plan_of
from parity.evidence.pool import run_all
from parity.evidence.reference import some_images
from parity.evidence.runtime import captures_with, ran
from parity.evidence.shards import RESULTS, WHOLE_LIST, Shard, merged
from parity.judge import policies
from parity.judge.results import Stage
from parity.producers import jobs, recipes
from parity.producers.jobs import ROOT
from parity.stages import common, registry
from parity.stages.program import PROGRAM
from parity.stages.score import SCORE
from parity.stages.second import SECOND
from parity.stages.twin import TWIN_RUN

DOCS = ROOT / "docs" / "false-alarms.md"
# The training program is one program, whatever the order of the sums.
JUDGED = tuple(stage for stage in registry.STAGES
               if not stage.twins and stage not in (SCORE, PROGRAM, SECOND))
PARTS = registry.parts(JUDGED)
BRANCHES = {"avx2": "5", "avx512": "7"}  # MKL_DEBUG_CPU_TYPE of the MKL in CNTK
# Of the article's own networks a capture takes minutes: not every port goes through those.
WHOLE_PORTS = (OURS, "ordinary", "channels-last")
# These compute what ours computes, and export or talk otherwise: a plan's seed, training and scale
# are no matter to that, so they go through those of the minibatches and of both gains.
MANNERS = ("export-auto-pad", "export-constants", "talkative")
OF_MANNERS = ("minibatch", "unit-gain")
TRAINING = "training"


def plans() -> dict[str, dict[str, int]]:
    """Name to the values in which a plan differs from: minibatch 2, one iteration of warm-up."""
    made: dict[str, dict[str, int]] = {}

    def add(name: str, **values: int) -> None:
        made[name] = {"minibatch_size": 2, "warmup_iterations": 1, **values}

    # The long ones first, so that nobody waits for the last one.
    for size in (4, 1):
        add(f"whole-minibatch-{size}", minibatch_size=size, seed=100 + size)
    add("whole-trained-3", warmup_iterations=3, seed=73)
    for size in (16, 8, 5, 4, 3, 2, 1):
        add(f"minibatch-{size}", minibatch_size=size, seed=100 + size)
    for seed in (*range(1, 13), 12345, 2**31, 2**32 - 1):
        add(f"seed-{seed}", seed=seed, minibatch_size=1 if seed % 4 else 2)
    for size in (1, 2, 4):
        add(f"two-threads-{size}", minibatch_size=size, threads=2, seed=40 + size)
    for size in (1, 2, 16):
        add(f"unit-gain-{size}", minibatch_size=size, unit_gain=1, seed=50 + size)
    for iterations in (3, 6, 10, 20):
        add(f"trained-{iterations}", warmup_iterations=iterations, seed=70 + iterations,
            minibatch_size=1 + iterations % 2)
    for exponent in (-4, -3, -2, -1, 1, 2, 3, 4):
        add(f"scaled-{exponent}", weight_scale_exponent=exponent, seed=80 + exponent,
            minibatch_size=2 if exponent > 0 else 1)
    for branch, number in BRANCHES.items():
        for size in (1, 2, 4):
            add(f"cntk-on-{branch}-{size}", minibatch_size=size, seed=10 * int(number) + size,
                warmup_iterations=2)
    for seed in range(11, 17):
        add(f"{TRAINING}-{seed}", seed=seed, twin_minibatch_size=1 + seed % 3, unit_gain=seed % 2)
    add("all-of-it", minibatch_size=3, threads=2, unit_gain=1, warmup_iterations=4,
        weight_scale_exponent=1, seed=99)
    return made


@dataclass(frozen=True)
class Wanted:
    """What is asked for. only: names of plans, ports: of ports; all if empty."""

    only: Sequence[str] = ()
    ports: Sequence[str] = ()
    shard: Shard = WHOLE_LIST
    merge: Sequence[Path] = ()
    restart: bool = False

    def chosen(self) -> dict[str, dict[str, int]]:
        """Raises PlanError: there is no such plan or port."""
        known = plans()
        for what, asked, there in (("plan", self.only, list(known)),
                                   ("port", self.ports, list(all_ports()))):
            for name in asked:
                if name not in there:
                    raise PlanError(f"there is no {what} {name!r}: give some of "
                                    f"{', '.join(there)}")
        names = [name for name in known if not self.only or name in self.only]
        return {name: known[name] for name in self.shard.share(names)}

    @property
    def everything(self) -> bool:
        return not self.only and not self.ports and self.shard.of == 1

    def ports_of(self, plan: str) -> list[str]:
        fitting = WHOLE_PORTS if plan.startswith("whole") else tuple(all_ports())
        return [port for port in self.ports or fitting if port in fitting and (
            port not in MANNERS or plan.startswith(OF_MANNERS))]


def all_ports() -> dict[str, str]:
    """Port to what is different in it."""
    return {OURS: "This project's port, with CNTK's bits.", **catalogue().correct}


# ------------------------------------------------------------------------------ one plan, all ports


@dataclass(frozen=True)
class Task:
    """ports: name to the key of its result. results: where those go."""

    name: str
    plan: Plan
    ports: Mapping[str, str]
    scratch: Path
    results: Path
    branch: str = ""
    allowances: Mapping[str, float] | None = None
    after: str = ""

    @property
    def log(self) -> Path:
        return self.scratch / "log.txt"

    @property
    def reference(self) -> Path:
        return self.scratch / "reference"

    @property
    def training(self) -> bool:
        return self.name.startswith(TRAINING)

    def result(self, port: str) -> Path:
        return self.results / f"{self.name}@{port}.json"


def work(task: Task) -> None:
    """In a process of its own; the captures, some gigabytes, are removed as soon as they are
    judged."""
    task.scratch.mkdir(parents=True, exist_ok=True)
    said_to(task.log)
    try:
        _make_reference(task)
        for port in task.ports:
            _one_port(task, port)
    except Exception:
        traceback.print_exc()
        raise
    finally:
        keep = task.scratch / "log.txt"
        for path in task.scratch.iterdir():
            if path != keep:
                shutil.rmtree(path, ignore_errors=True)


def _make_reference(task: Task) -> None:
    if task.training:
        reference.make_reference(task.plan, task.reference, Console(quiet=True))
        return
    cntk = recipes.cntk_job(task.plan, task.scratch)
    if task.branch:
        cntk = replace(cntk, environment={**cntk.environment, "MKL_DEBUG_CPU_TYPE": task.branch})
    jobs.run_jobs([cntk], task.plan, task.scratch, Console(quiet=True), 1)
    stopped = oracle(task.scratch, PARTS, task.log)  # here everything is imported
    if stopped:
        raise jobs.ProducerError(stopped)
    name = f"{common.RUNTIME}cntk"
    ran(task.scratch, task.scratch / name, "cntk", Capture(task.scratch / "cntk"))


def _one_port(task: Task, port: str) -> None:
    begun, folder, planted = time.monotonic(), task.scratch / "port", [] if port == OURS else [port]
    stages: list[Stage] = []
    with policies.changed(task.allowances or {}):
        if task.training:
            stopped = ""
            cntk, oracle = (Capture(task.reference / one) for one in ("cntk", "oracle"))
            trained = beside(common.Captures(cntk, cntk, oracle), planted,  # no layer is looked at
                             task.reference, task.scratch, task.log)
            stages = [TWIN_RUN(trained)]
        else:
            stopped = captured(planted, task.scratch, folder, PARTS, task.log)
            captures = None if stopped else captures_with(task.scratch, folder)
            stages = [stage(captures) for stage in JUDGED] if captures else []
    made = result_of(stages, stopped)
    made.update(plan=task.name, port=port, key=task.ports[port],
                seconds=round(time.monotonic() - begun, 1))
    write_json(task.result(port), made)
    shutil.rmtree(folder, ignore_errors=True)


def result_of(stages: Sequence[Stage], stopped: str = "") -> dict[str, Any]:
    """margin: the largest; worst: where. A port that stops fails too."""
    checks = [(check.margin, f"{stage.name} {check.place} ({check.policy})")
              for stage in stages for check in stage.checks]
    margin, worst = max(checks, default=(0.0, ""))
    failures = [{"stage": stage.name, "place": check.place, "detail": check.detail,
                 "measured": str(check.measured), "allowed": check.allowed,
                 "policy": check.policy, "local": check.local}
                for stage in stages for check in stage.checks if not check.passed]
    return {"passed": bool(checks) and not failures and not stopped, "stopped": stopped,
            "checks": len(checks), "failed": len(failures), "margin": min(margin, 1e300),
            "worst": worst, "failures": failures[:20]}


# -------------------------------------------------------------------------------------- all of them


def main(map_file: Path, folder: Path, wanted: Wanted, console: Console) -> int:
    """Exit code: 0 where no port failed with any plan, 1 where one did.

    Raises PlanError, CatalogueError, ProducerError.
    """
    chosen = wanted.chosen()
    folder = folder.resolve()
    if wanted.restart:
        shutil.rmtree(folder / RESULTS, ignore_errors=True)
    (folder / RESULTS).mkdir(parents=True, exist_ok=True)
    images = some_images(map_file, folder)
    merged(wanted.merge, folder)
    tasks = [_task(name, values, images, folder, wanted.ports_of(name))
             for name, values in chosen.items()]
    results = [kept for task in tasks for port in task.ports
               if (kept := load_result(task, port)) is not None]
    done = {(one["plan"], one["port"]) for one in results}
    left = [replace(task, ports=ports) for task in tasks if (ports := {
        port: key for port, key in task.ports.items() if (task.name, port) not in done})]
    for task, code in run_all("plans", left, work, len(tasks), console):
        for port in task.ports:
            made = load_result(task, port) or {
                **result_of([], jobs.explanation("the plan", code or 1, _last_words(task.log))),
                "plan": task.name, "port": port, "seconds": 0.0}
            results.append(made)
            if not made["passed"]:
                console.print(_alarm(made), markup=False, highlight=False)
        shutil.rmtree(task.scratch, ignore_errors=True)
    return _told(chosen, results, folder, wanted, console)


def _last_words(log: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").splitlines()
    return []


def _task(name: str, values: Mapping[str, int], map_file: Path, folder: Path,
          ports: Iterable[str]) -> Task:
    plan = plan_of(map_file, name.startswith("whole"), **values)
    branch = next((number for word, number in BRANCHES.items()
                   if name.startswith(f"cntk-on-{word}-")), "")
    suite, known = digest(suite_key(plan), branch), catalogue()
    keys = {port: digest(suite, port, known.sources.get(port, "")) for port in ports}
    return Task(name, plan, keys, folder / "scratch" / name, folder / RESULTS, branch,
                {one: policy.value for one, policy in policies.POLICIES.items()})


def load_result(task: Task, port: str) -> dict[str, Any] | None:
    """The result that is there, if it is of the same sources and plan."""
    with contextlib.suppress(OSError, ValueError):
        kept: dict[str, Any] = json.loads(task.result(port).read_text())
        if kept.get("key") == task.ports[port] and not kept["stopped"]:
            return kept
    return None


def _alarm(made: Mapping[str, Any]) -> str:
    first = made["stopped"] or "{stage} {place}: {detail}".format(**made["failures"][0]) \
        if made["failures"] or made["stopped"] else "nothing was judged"
    return f"false alarm: {made['port']}, plan {made['plan']}: {first}"


def _told(chosen: Mapping[str, Any], results: Sequence[dict[str, Any]], folder: Path,
          wanted: Wanted, console: Console) -> int:
    order = {name: i for i, name in enumerate(all_ports())}
    results = sorted(results, key=lambda one: (list(chosen).index(one["plan"]),
                                               order[one["port"]]))
    table = Table("", "port", "plans", "false alarms", "largest margin", "where", box=None)
    rows = by_port(results)
    for port, row in rows.items():
        table.add_row("ok" if not row["failed"] else "FAIL", port, str(row["plans"]),
                      str(row["failed"]), f"{row['margin']:.3g}", row["worst"])
    console.print(table)
    write_json(folder / "false-alarms.json", results)
    if wanted.everything:
        write_text(DOCS, page(results, rows, catalogue()))
        console.print("docs/false-alarms.md is written", highlight=False)
    failed = [one for one in results if not one["passed"]]
    console.print(f"\n{len(failed)} false alarms in {len(results)} comparisons of {len(rows)} "
                  f"correct ports over {len(chosen)} plans", highlight=False)
    return 1 if failed else 0


def by_port(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Port to its number of plans, of failed ones, its largest margin and where that is."""
    rows: dict[str, dict[str, Any]] = {}
    for one in results:
        row = rows.setdefault(one["port"], {"plans": 0, "failed": 0, "margin": -1.0, "worst": ""})
        row["plans"] += 1
        row["failed"] += not one["passed"]
        if one["margin"] > row["margin"]:
            row.update(margin=one["margin"], worst=f"{one['plan']}: {one['worst']}")
    return rows


def page(results: Sequence[Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]],
         known: Catalogue) -> str:
    """docs/false-alarms.md."""
    failed = [one for one in results if not one["passed"]]
    what = {OURS: "This project's port, with CNTK's bits.", **known.correct}
    text = [
        "# False alarms", "",
        "Made by `make false-alarms`, which runs all of this; not written by hand.", "",
        f"**{len(failed)} false alarms in {len(results)} comparisons: {len(rows)} correct ports, "
        f"{len({one['plan'] for one in results})} plans, "
        f"{sum(one['checks'] for one in results):,} checks.**", "",
        "Each port computes the formulas of CNTK's program; they differ in order and precision of "
        "their sums, in the form of their exports, in their manners. The plans differ in seed, "
        "minibatch (1 to 16), threads, unit gain, training before, scale of the weights, and in "
        "the branch of MKL that CNTK itself computes on. A margin is what was measured over what "
        "is allowed: above 1 is an alarm.", "",
        "| port | what is different | plans | alarms | largest margin | where |",
        "| --- | --- | ---: | ---: | ---: | --- |",
        *(f"| {port} | {what[port]} | {row['plans']} | {row['failed']} | {row['margin']:.3g} | "
          f"{row['worst']} |" for port, row in rows.items()), "",
        "## Plans", "", "| plan | ports | alarms | largest margin |",
        "| --- | ---: | ---: | ---: |"]
    for name in dict.fromkeys(one["plan"] for one in results):
        of = [one for one in results if one["plan"] == name]
        text.append(f"| {name} | {len(of)} | {sum(not one['passed'] for one in of)} | "
                    f"{max(one['margin'] for one in of):.3g} |")
    if failed:
        text += ["", "## Alarms", "", *(f"- {_alarm(one)}" for one in failed)]
    return "\n".join([*text, ""])


