"""What several tests of the comparison share: one capture by real CNTK."""
from pathlib import Path

import pytest
from rich.console import Console

from parity.evidence import plans
from parity.evidence.reference import make_reference
from parity.producers import for_score
from tests.conftest import ROOT, cntk_environment_or_fail

MAP_FILE = ROOT / "data" / "train_dcgan_map.txt"


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> Path:
    """A folder with ``plan.json`` (minibatch 2, three iterations of warm-up, no twin run) and
    ``cntk``, what real CNTK did with it, a classifier's look at its pictures too; made once, and
    not to be changed."""
    cntk_environment_or_fail()
    folder, console = tmp_path_factory.mktemp("reference"), Console(quiet=True)
    plan = plans.plan_of(MAP_FILE, whole=True)
    files = for_score.prepare(plan, folder / "score", console, trained=False)
    return make_reference(plan, folder / "made", console, files)
