"""article.html: the article section by section, beside a run of CNTK's program and one of the port.

Everything on it is read from the runs' folders, the spec and the sources; it opens offline.
"""
import ast
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from captures.article import DCGAN
from captures.errors import ParityError
from captures.files import written_whole
from captures.spec import Network
from captures.training.folder import read_run
from captures.training.log import LOG, Row, read_log
from parity.producers.jobs import ROOT

PAGE = "article.html"
TITLES = {"cntk": "CNTK 2.7", "port": "the port"}
GREY = 4000  # iterations, in docs/long-run.md
KINDS = {".png": "image/png", ".gif": "image/gif"}


class ArticleError(ParityError):
    """A folder that holds no run to show."""


@dataclass
class Shown:
    """One run. score: what was found, in words."""

    folder: Path
    record: dict[str, Any]
    rows: list[Row]
    score: str = "not computed"
    settings: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.record["settings"]

    @property
    def title(self) -> str:
        return str(TITLES.get(self.record["program"], self.record["program"]))

    @property
    def iterations(self) -> int:
        return len(self.rows)

    @property
    def changes(self) -> list[dict[str, Any]]:
        return list(self.record.get("changes", []))

    @property
    def losses(self) -> str:
        last = self.rows[-max(1, len(self.rows) // 10):]
        means = [sum(row[i] for row in last) / len(last) for i in (2, 1)]
        which = f"means of the last {len(last)} iterations" if last[1:] else "the last iteration"
        return f"{which}: discriminating {means[0]:.4f}, generating {means[1]:.4f}"

    def picture(self, name: str) -> Markup:
        path = self.folder / name
        if not path.exists():
            return Markup("<p>{}</p>").format(f"{name} was not drawn")
        content = base64.b64encode(path.read_bytes()).decode()
        return Markup('<img alt="{}" src="data:{};base64,{}">').format(
            f"{name} of {self.title}", KINDS[path.suffix], content)


def shown(folder: Path) -> Shown:
    """Raises ArticleError: no run there, or none that did an iteration."""
    record = read_run(folder)
    if record is None:
        raise ArticleError(f"{folder} holds no run: train one there, or give another folder")
    rows = read_log(folder / LOG)
    if not rows or not {"identity", "machine", "versions"} <= {*record}:  # converted, say
        raise ArticleError(f"the run in {folder} has done no iteration there: go on with it first")
    return Shown(folder, record, rows)


def write(runs: Sequence[Shown], output: Path) -> Path:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True)
    text = environment.get_template("article.html.j2").render(
        runs=runs, networks=[_network(one) for one in DCGAN.networks], code=_code(),
        settings=_settings(runs), versions=_versions(runs), same=_same(runs),
        early=any(run.iterations < GREY for run in runs))
    with written_whole(output / PAGE) as part:
        part.write_text(text, encoding="utf-8")
    return output / PAGE


def _network(network: Network) -> dict[str, Any]:
    rows: list[list[str]] = []
    for layer in network.layers:
        if not layer.weight:
            rows[-1][-1] += (", " if rows[-1][-1] else "") + layer.kind.replace("_", " ")
            continue
        side = f"{layer.kernel}x{layer.kernel}"
        rows.append([layer.name, str(layer.channels), f"{side}/{layer.stride}",
                     "x".join(map(str, (*layer.input[1:], layer.input[0]))),
                     "x".join(map(str, (*layer.output[1:], layer.output[0]))),
                     "yes" if layer.bias else "no", ""])
    return {"name": network.name, "learnt": network.size, "rows": rows}


def _settings(runs: Sequence[Shown]) -> list[list[str]]:
    return [["iterations", "50000", *(str(one.iterations) for one in runs)],
             ["minibatch", "16", *(str(one.settings["minibatch_size"]) for one in runs)],
             ["images", "612", *(str(one.record["identity"]["data"]["images"]) for one in runs)],
             ["seed", "the clock", *(str(one.settings["seed"]) for one in runs)],
             ["Adam: learning rate, momentum", "1e-4, 0.5", *("1e-4, 0.5" for _ in runs)],
             ["unit gain", "False", *(str(one.settings["unit_gain"]) for one in runs)],
             ["initial weights", "normal; 0.02 is called the variance",
              *("normal, standard deviation 0.02" for _ in runs)]]


def _versions(runs: Sequence[Shown]) -> list[list[str]]:
    theirs = {"cntk": "2.7 (GPU)", "python": "3.6.6", "numpy": "1.17.3", "opencv": "4.1.1.26",
              "torch": ""}
    table = [["system", "Windows 10", *(one.record["machine"]["system"] for one in runs)],
             ["arithmetic", "a GTX 1060, cuDNN 7.6",
              *(f"{one.record['identity']['arithmetic']}, {one.record['identity']['threads']} "
                "threads" for one in runs)]]
    table += [[name, version, *(one.record["versions"].get(name, "") for one in runs)]
              for name, version in theirs.items()]
    return table


def _same(runs: Sequence[Shown]) -> dict[str, int] | None:
    """How many first iterations have the same losses, where the runs are of one seed and data."""
    one, other = runs
    if any(one.record["identity"][name] != other.record["identity"][name]
           for name in ("seed", "minibatch_size", "unit_gain", "data")):
        return None
    pairs = list(zip(one.rows, other.rows, strict=False))
    equal = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return {"of": len(pairs), "equal": equal}


def _code() -> list[tuple[str, str, str]]:
    """The lines that the article comments on, found by a word of theirs in the sources."""
    program = ROOT / "cntk_impl" / "dcgan_training.py"
    steps = ROOT / "torch_port" / "train" / "steps.py"
    return [
        ("The latents are drawn from a normal distribution, not a uniform one.",
         statement(ROOT / "captures" / "plan.py", "self.random.normal"),
         "the same: captures/plan.py"),
        ("One network's parameters are shared; the fake branch takes fake images alone.",
         statement(program, "D_real.clone"), statement(steps, "d_real = ", 2)),
        ("The losses.", statement(program, "G_loss = -C.log", 2),
         statement(steps, "_loss(d_real, d_fake)") + "\n"
         + statement(steps, "_loss(networks")),
        ("Adam with a small momentum.", statement(program, "return C.adam"),
         statement(steps, "return kind("))]


def statement(path: Path, word: str, count: int = 1) -> str:
    """The innermost statement that holds the word, and ``count - 1`` behind it."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines, 1) if word in line)
    holding = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)
               and node.lineno <= at <= (node.end_lineno or node.lineno)]
    innermost = max(holding, key=lambda node: (node.lineno, -(node.end_lineno or 0)))
    taken = lines[innermost.lineno - 1:(innermost.end_lineno or at) + count - 1]
    return "\n".join(line[innermost.col_offset:] for line in taken)


def read_score(folder: Path) -> str:
    """score.json as a sentence."""
    found = json.loads((folder / "score.json").read_text(encoding="utf-8"))
    score = found["score"]
    return (f"{score['one_split']:.3f} ({score['low']:.3f} to {score['high']:.3f}) of "
            f"{found['count']} images, classifier {found['classifier']}")
