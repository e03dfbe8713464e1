"""The GPU's kernels in Triton's interpreter, which has to be asked for before they are imported."""
import importlib.util

import pytest

from tests.conftest import NEEDS_TRITON

ASKED = "TRITON_INTERPRET"


@pytest.fixture(scope="session")
def gpu():
    """(products, batch_norm, edges) of torch_port.gpu, interpreted."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip(NEEDS_TRITON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ASKED, "1")
        from torch_port.gpu import batch_norm, edges, products
        yield products, batch_norm, edges
