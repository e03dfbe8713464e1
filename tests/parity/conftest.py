"""What several tests of the comparison share: one capture by real CNTK."""
from pathlib import Path

import pytest
from rich.console import Console

from parity.evidence import defects, plans
from tests.conftest import ROOT, cntk_environment_or_fail

MAP_FILE = ROOT / "data" / "train_dcgan_map.txt"


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> Path:
    """A folder with ``plan.json`` (minibatch 2, three iterations of warm-up, no twin run) and
    ``cntk``, what real CNTK did with it; made once, and not to be changed."""
    cntk_environment_or_fail()
    folder = tmp_path_factory.mktemp("reference")
    plan = plans.plan_of(MAP_FILE, whole=True)
    return defects.make_reference(plan, folder, Console(quiet=True))
