import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "training"))
sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(2)

import durations  # noqa: E402

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption("--system", help="only tests of this system: its contract tests, and those that import its class")


def pytest_collection_modifyitems(config, items):
    if not (slug := config.getoption("--system")):
        return
    from ganatomy import catalogue

    name = catalogue.load(slug).__name__
    own = re.compile(rf"\[{slug}(?![\w-])")
    items[:] = [item for item in items if own.search(item.nodeid) or hasattr(item.module, name)]


def pytest_terminal_summary(terminalreporter):
    reports = [report for found in terminalreporter.stats.values() for report in found if hasattr(report, "duration")]
    for line in durations.lines(durations.of_systems(reports)):
        terminalreporter.write_line(line)


@pytest.fixture
def shared():
    """Folder with real images, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("no real images here")
    return SHARED


@pytest.fixture(autouse=True)
def _reproducible():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_thread():
    """Run torch in one thread, for modules whose computations are too small to gain from several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """Changes the source of modules as far as digests of code can see: (module, text, replacement)."""
    from ganatomy.training import code

    real, place = code._path, tmp_path / "edited"
    place.mkdir()

    def path(module):
        changed = place / f"{module}.py"
        return changed if changed.is_file() else real(module)

    def change(module, was, now):
        text = real(module).read_text(encoding="utf-8")
        assert was in text
        (place / f"{module}.py").write_text(text.replace(was, now), encoding="utf-8")
        code._source.cache_clear()

    monkeypatch.setattr(code, "_path", path)
    yield change
    code._source.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _users_folders(tmp_path_factory):
    """A secret and a cache of the tests' own, so that those of whoever runs them are left alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GANATOMY_CONFIG", "GANATOMY_CACHE"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    """Cache of prepared cases, shared by all tests that train."""
    return tmp_path_factory.mktemp("cases")


@pytest.fixture(scope="session")
def tiny(cases):
    """Trains a system on a phantom of 4 patients and 96² pixels, as little as can be called training."""

    def train_tiny(system, out, rounds=8, resume=False, preset="small", data=None, options=None, **config):
        from ganatomy import catalogue
        from ganatomy.data.cases import DataConfig
        from ganatomy.training.run import TrainConfig, train

        small = {"batch_size": 2, "patch": 32, "scan": {"views": 60}} if preset == "small" else {}
        data = data or DataConfig(phantom_subjects=4, phantom_size=96, cache=cases)
        usual = {"rounds": rounds, "log_every": 3, "validate_every": 4, "validation_slices": 2, "threads": 1}
        options = TrainConfig(**{**usual, **(options or {})})
        config = catalogue.load(system).Config.preset(preset, **{**small, **config})
        return train(system, out, config, data, options, resume=resume)

    return train_tiny


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """An undisturbed run of wgan-vgg, 8 rounds; read it, leave it alone."""
    out = tmp_path_factory.mktemp("trained") / "run"
    tiny("wgan-vgg", out)
    return out
