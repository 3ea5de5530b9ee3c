import gc
import os
import sys

# Tests run in parallel, and so do the processes that they start: more threads would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # MLflow reports its use over the network from its import on

import hypothesis
import matplotlib
import pytest
import torch

# All that has been imported stays: the garbage collector need not look through it again and again. It looks less often
# at the rest, too.
gc.freeze()
gc.set_threshold(20_000, 20, 20)
matplotlib.use("Agg")
hypothesis.settings.register_profile("daynight", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("daynight")


@pytest.fixture(autouse=True)
def _one_thread():
    # Tensors this small are slower on many threads, and the bits of sums depend on their number.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory):
    """Return a cache for all tests: the sample of MNIST takes seconds to read if it is not cached."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"  # one for all processes


@pytest.fixture(autouse=True)
def _nowhere(image_cache, monkeypatch):
    """Hide the user's own data and cache from all tests."""
    monkeypatch.delenv("DAYNIGHT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(image_cache))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def at_every_step(monkeypatch):
    """Let a clock send a progress event and write a checkpoint at every step, however long one takes here."""
    monkeypatch.setattr("daynight.training.trainer.PROGRESS_STEPS", 1)
    monkeypatch.setattr("daynight.storage.checkpoints.APART", 0)
    monkeypatch.setattr("daynight.storage.checkpoints.MARGIN", 0)
