"""Fuzz test: give ganatomy damaged images, manifests, run folders and options, and count how each trial ends.

    python scripts/fuzz.py --count 1000 --seed 0 --accepted accepted.md

A trial draws a sound input, changes it in one place, and reads it in a process of its own, whose time and memory are
limited. It should end in a refusal, which is one line that names the file or option, or in an acceptance, for many
changes are harmless or meaningful. All acceptances are listed in the file ``--accepted``. The trials below count as
failures, and the exit code is then 1:

- traceback: an exception other than `UserError` reached the user;
- hang: no end within the time limit;
- memory: more memory was asked for than a small file can need;
- signal: the process was killed, for example by SIGBUS or SIGSEGV;
- garbage: an image was read whose affine is not invertible, or a series that lost slices.

It needs processes that fork, so Linux or macOS; memory is limited on Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pydicom
import SimpleITK
import tifffile
import yaml
from nibabel.nifti1 import Nifti1Header
from PIL import Image as Picture
from pydicom.data import get_testdata_file

from ganatomy import catalogue, cli
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.errors import UserError
from ganatomy.images.files import find, write
from ganatomy.images.image import Header, Image, RasterMeaning
from ganatomy.inference.model import build
from ganatomy.roles.points import read_points
from ganatomy.roles.pose import read_poses
from ganatomy.roles.signal import read_signal
from ganatomy.tasks.geometry.roles import read_centrelines

SECONDS = 20.0
"""Longest time of a trial."""
MEMORY = 2 << 30
"""Bytes of address space that a trial may ask for beyond what the process has at its start."""
SLICES = 6
"""Number of slices of the made-up series."""
COMPRESSED = ("CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "image_dfl.dcm", "SC_rgb_rle.dcm", "emri_small.dcm")
"""Test files of pydicom, in several transfer syntaxes."""
FAILURES = ("traceback", "hang", "memory", "signal", "garbage")

NASTY_NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, -(2**63), 2**63 - 1, 1e300, -1e-300, float("nan"), float("inf"), 10**9)
NASTY_WORDS = (
    "", " ", "0", "-1", "nan", "inf", "1e999", "999999999999999999999", "[/b]", "[red]x", "a\x00b", "../../etc/passwd",
    "/dev/zero", "/", ".", "~", "\ud800", "é" * 300, "a,b", '"', "'", "\n", "null", "true", "[]", "{}", "!!python/x",
    "x" * 5000, "%s%n", "--help", "-", "=", "\udcff.png",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One changed input and how it is read.

    Attributes:
        what: name of the sound input.
        change: change of the input, in words.
        read: reads the input, and returns what was read, in words; raises `UserError` for a refusal.
    """

    what: str
    change: str
    read: Callable[[], str]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: ``accepted``, ``refused``, or one of `FAILURES`, with what was read or said."""

    kind: str
    told: str


class Garbage(Exception):
    """An image was accepted that must be refused."""


def ended(read: Callable[[], str], heard: Path, seconds: float = SECONDS, memory: int = MEMORY) -> Outcome:
    """Run a function in a process of its own, with limits, and return how it ended.

    Args:
        read: the function; returns what was accepted, in words.
        heard: file for what the process prints.
        seconds: longest time.
        memory: bytes that it may ask for.
    """
    result = heard.with_suffix(".result")
    child = os.fork()
    if child == 0:
        _run(read, heard, result, memory)
    began = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > seconds:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome("hang", f"no end in {seconds:g} s; last: {_last_line(heard)}")
        time.sleep(0.002)
    if os.WIFSIGNALED(status):
        return Outcome("signal", f"{signal.Signals(os.WTERMSIG(status)).name}; last: {_last_line(heard)}")
    return Outcome(*json.loads(result.read_text(encoding="utf-8")))


def _run(read: Callable[[], str], heard: Path, result: Path, memory: int) -> None:
    """Run a function in the child process, write how it ended, and leave the process."""
    os.setpgid(0, 0)
    out = os.open(heard, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")
    try:
        found = ["accepted", read()]
    except UserError as error:
        lines = str(error).splitlines()
        found = ["refused", str(error)] if len(lines) == 1 else ["traceback", f"a refusal of {len(lines)} lines"]
    except MemoryError:
        found = ["memory", _place()]
    except Garbage as error:
        found = ["garbage", str(error)]
    except BaseException:
        found = ["traceback", _place()]
    result.write_text(json.dumps([text.encode("utf-8", "backslashreplace").decode() for text in found]))
    os._exit(0)


def _place() -> str:
    """Return the last place of ganatomy in the current traceback, and the exception."""
    kind, error, trace = sys.exc_info()
    frames = [frame for frame in traceback.extract_tb(trace) if "ganatomy/" in frame.filename]
    place = f"{frames[-1].filename.rpartition('ganatomy/')[2]}:{frames[-1].lineno}" if frames else "elsewhere"
    return f"{place} {kind.__name__ if kind else ''}: {' '.join(str(error).split())[:160]}"


def _last_line(heard: Path) -> str:
    lines = heard.read_bytes().decode(errors="replace").splitlines() if heard.exists() else []
    return lines[-1][:160] if lines else ""


def said(code: int) -> str:
    """Return what an exit status of a command means; raise `UserError` where it is a refusal."""
    if code == cli.SHORT:
        raise MemoryError("the command ran short of memory")
    if code == cli.UNUSABLE:
        raise UserError(f"exit status {code}")
    return f"exit status {code}"


# Changes of bytes


def changed_bytes(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    """Return bytes after one change at a random place, and the change in words."""
    size = len(data)
    place = dice.randrange(size) if size else 0
    # Headers are short, and changes of pixels seldom matter.
    place = min(place, dice.choice((16, 400, 2000, size)))
    kind = dice.choice(("empty", "cut", "flip", "number", "remove", "repeat", "random", "insert"))
    if kind == "empty":
        return b"", "emptied"
    if kind == "cut":
        return data[:place], f"cut after {place} of {size} bytes"
    if kind == "flip":
        number = dice.choice((1, 1, 8, 64))
        changed = bytearray(data)
        for _ in range(number):
            changed[min(size - 1, dice.randrange(place, place + 200))] ^= 1 << dice.randrange(8)
        return bytes(changed), f"{number} bits flipped from byte {place}"
    if kind == "number":
        form = dice.choice(("<H", "<I", "<Q", "<f", "<d", ">H", ">I"))
        value = dice.choice(NASTY_NUMBERS if form in ("<f", "<d") else (0, 1, 2 ** (8 * struct.calcsize(form)) - 1))
        with contextlib.suppress(OverflowError, struct.error):
            packed = struct.pack(form, value)
            return data[:place] + packed + data[place + len(packed) :], f"{value} as {form} at byte {place}"
        return data[:place], f"cut after {place} of {size} bytes"
    length = dice.choice((1, 4, 100, 5000))
    if kind == "remove":
        return data[:place] + data[place + length :], f"{length} bytes removed at {place}"
    if kind == "repeat":
        return data[: place + length] + data[place:], f"{length} bytes repeated at {place}"
    if kind == "random":
        return data[:place] + dice.randbytes(length) + data[place + length :], f"{length} random bytes at {place}"
    return data[:place] + dice.randbytes(length) + data[place:], f"{length} random bytes inserted at {place}"


# Images


def _volume(shape: tuple[int, ...] = (SLICES, 20, 24)) -> Image:
    values = np.random.default_rng(0).normal(0, 100, shape).round().astype(np.int16)
    return Image.from_array(values, (2.0, 0.8, 0.7), "HU")


def make_images(folder: Path) -> list[Path]:
    """Write a sound file or folder for each format that can be read, and return their paths."""
    folder.mkdir()
    volume, picture = _volume(), _volume((1, 20, 24))
    volumes = ("volume.nii", "volume.nii.gz", "volume.mha", "volume.nrrd", "volume.mgz", "volume.npy", "volume.tif")
    for name in (*volumes, "series"):
        write(folder / name, volume)
    stored = (picture.numpy()[0, 0] + 1000).astype(np.uint16)
    Picture.fromarray(stored).save(folder / "picture.png")
    exif = Picture.Exif()
    exif[274] = 6
    colours = np.stack([stored >> 3] * 3, -1).astype(np.uint8)
    for name in ("colour.png", "picture.jpg", "picture.bmp", "picture.gif", "picture.tif", "picture.webp"):
        Picture.fromarray(colours).save(folder / name, dpi=(254, 127), exif=exif)
    write(
        folder / "colour.nii", replace(Image.from_array(np.moveaxis(colours[None], -1, 0)), header=Header(colours=True))
    )
    options = {"ImageJ": {"imagej": True, "metadata": {"unit": "um", "spacing": 2.0}}, "OME": {"ome": True}}
    for name, header in options.items():
        tifffile.imwrite(folder / f"{name}.tif", stored[None], resolution=(2, 4), **header)
    for name in ("pyramid.tif", "slide.svs"):
        with tifffile.TiffWriter(folder / name) as file:
            for number in (1, 2, 4):
                level = np.kron(colours, np.ones((4, 4, 1), np.uint8))[::number, ::number]
                kind = {"description": f"Aperio Image Library v12\r\n{level.shape[1]}x{level.shape[0]}|MPP = 0.5"}
                kind = kind if number == 1 else {"subfiletype": 1}
                file.write(level, photometric="rgb", tile=(16, 32), compression="deflate", metadata=None, **kind)
    kspace = np.random.default_rng(1).normal(size=(3, 2, 20, 24)).astype(np.complex64)
    np.save(folder / "kspace.npy", kspace)
    np.savez(folder / "kspace.npz", kspace=kspace, mask=np.ones(24, bool))
    with h5py.File(folder / "kspace.h5", "w") as file:
        file.create_dataset("kspace", data=kspace, compression="gzip")
    with zipfile.ZipFile(folder / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "series").iterdir()):
            archive.write(path, f"ct/{path.name}")
    first = min((folder / "series").iterdir())
    (folder / "slice.dcm.gz").write_bytes(gzip.compress(first.read_bytes()))
    (folder / "diffusion").mkdir()
    for number, path in enumerate(sorted((folder / "series").iterdir())):
        file = pydicom.dcmread(path)
        file.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 700 * (number % 2))
        file.ImagePositionPatient = [*file.ImagePositionPatient[:2], 4.0 * (number // 2)]
        file.save_as(folder / "diffusion" / path.name)
    for suffix in (".mhd", ".nhdr"):
        (folder / f"detached{suffix}").mkdir()
        SimpleITK.WriteImage(volume.to_sitk(), str(folder / f"detached{suffix}" / f"volume{suffix}"))
    Picture.fromarray(stored).save(folder / "clear.png", transparency=1000)
    for name in COMPRESSED:
        if found := get_testdata_file(name, download=False):
            shutil.copy(str(found), folder / name)
    return sorted(folder.iterdir())


def images(folder: Path) -> Callable[[random.Random, Path], Trial]:
    """Return what makes trials of the readers of images."""
    sound = make_images(folder)

    def trial(dice: random.Random, work: Path) -> Trial:
        base = dice.choice(sound)
        path = work / base.name
        (shutil.copytree if base.is_dir() else shutil.copy)(base, path)
        file = dice.choice(sorted(path.iterdir())) if path.is_dir() else path
        change = dice.choice((None, None, _place_of, MUTATORS.get(file.suffix)))
        change = _zipped if change is _nifti and path.name.endswith(".dcm.gz") else change
        if change is None:
            changed, told = changed_bytes(file.read_bytes(), dice)
            file.write_bytes(changed)
        else:
            told = change(file, dice)
        whole = SLICES if base.is_dir() or base.suffix == ".zip" else None
        # A header alone says how many slices there are.
        whole = None if file.suffix in (".mhd", ".nhdr") else whole
        # What changes a list of members may take slices off it on purpose, and a name may be that of another kind.
        whole = (
            None if base.suffix == ".zip" and told.startswith(("member", "renamed", "doubled", "replaced")) else whole
        )
        return Trial(base.name, told, lambda: _read_images(path, whole))

    return trial


def _read_images(path: Path, slices: int | None) -> str:
    """Read all images of a path, and return them in words; raise `Garbage` for what must not be accepted.

    Args:
        path: file or folder.
        slices: number of slices that the images must have in all; None for any number.
    """
    told, total, refused = [], 0, ""
    sources = find(path, meaning=RasterMeaning(level=1) if path.name.startswith(("pyramid", "slide.svs")) else None)
    for source in sources:
        try:
            image = source.open()
            values = image.numpy()
        except UserError as error:
            refused = str(error)
            continue
        if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine)) < 1e-12:
            raise Garbage(f"an affine that is not invertible: {image.affine.tolist()}")
        total += image.shape[0]
        told.append(f"{image.channels} x {image.shape} {values.dtype} at {np.round(image.spacing, 3)} mm")
    if refused:
        raise UserError(refused)
    if slices is not None and total != slices:
        raise Garbage(f"{total} of {slices} slices were read, without a word")
    return "; ".join(told)


def _place_of(file: Path, dice: random.Random) -> str:
    """Replace a file by something that is no file, or give it another name."""
    kind = dice.choice(("dangling link", "folder", "pipe", "other suffix", "name that is not UTF-8", "doubled"))
    if kind == "other suffix":
        suffix = dice.choice(
            (
                *(".nii", ".nii.gz", ".png", ".dcm", ".dcm.gz", ".npy", ".npz", ".h5", ".tif", ".jpg", ".mha", ".nrrd"),
                *(".mgz", ".zip"),
            )
        )
        file.rename(file.with_name(f"{file.name.split('.')[0]}{suffix}"))
        return f"renamed to *{suffix}"
    if kind == "name that is not UTF-8":
        with contextlib.suppress(OSError):
            file.rename(file.with_name(f"\udcff\udcfe{file.name}"))
        return kind
    if kind == "doubled":
        shutil.copy(file, file.with_name(f"again {file.name}"))
        return kind
    file.unlink()
    if kind == "dangling link":
        file.symlink_to("nowhere")
    elif kind == "folder":
        file.mkdir()
    else:
        os.mkfifo(file)
    return f"replaced by a {kind}"


def _element(file: Path, dice: random.Random) -> str:
    """Give an element of a DICOM file another value."""
    dataset = pydicom.dcmread(file)
    numbers = ("0", "-1", "1e300", "nan", "1000000000", "65535", "", "x", "0\\0", "0\\0\\0", "nan\\nan\\nan")
    vectors = ("0\\0\\0\\0\\0\\0", "1\\0\\0\\1\\0\\0", "nan\\0\\0\\0\\1\\0", "1\\0\\0", "inf\\0\\0\\0\\1\\0")
    known = [element.keyword for element in dataset if element.keyword and element.keyword != "PixelData"]
    name = dice.choice((*known, "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"))
    value = dice.choice((*numbers, *vectors, "2", "512"))
    if dice.random() < 0.2 and name in dataset:
        del dataset[name]
        told = f"{name} removed"
    else:
        told = f"{name} = {value}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                whole = name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel")
                setattr(dataset, name, int(value) if whole else value.split("\\") if "\\" in value else value)
            except Exception:
                told = f"NumberOfFrames = {10**9}"
                dataset.NumberOfFrames = 10**9
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.save_as(file)
    except Exception:
        # A file that pydicom cannot write whole is cut off there, which is a damage of its own.
        told += ", written up to there"
    return told


def _nifti(file: Path, dice: random.Random) -> str:
    """Give a field of a NIfTI header another value, or let the compressed file hold more than it should."""
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if file.suffix == ".gz" and dice.random() < 0.2:
        file.write_bytes(gzip.compress(data[:352] + bytes(1 << 27)))
        return "128 MiB of zeros, compressed"
    header = Nifti1Header(data[:348], check=False)  # type: ignore[no-untyped-call]
    name = dice.choice(
        ("dim", "pixdim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "sform", "qform")
    )
    value = dice.choice(NASTY_NUMBERS)
    if name in ("sform", "qform"):
        header[f"{name}_code"] = 1
        for row in ("srow_x", "srow_y", "srow_z"):
            header[row][dice.randrange(4)] = np.clip(value, -1e38, 1e38)
        name = f"{name} with {value}"
    else:
        field = np.atleast_1d(header[name]).copy()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            with contextlib.suppress(OverflowError, ValueError):
                field[dice.randrange(len(field))] = np.clip(value, -32768, 32767) if field.dtype.kind == "i" else value
        header[name] = field if header[name].ndim else field[0]
        name = f"{name} = {field.tolist()}"
    changed = header.binaryblock + data[348:]
    file.write_bytes(gzip.compress(changed) if file.suffix == ".gz" else changed)
    return name


def _zipped(file: Path, dice: random.Random) -> str:
    """Change what a compressed file holds, so that its checksum is right."""
    changed, told = changed_bytes(gzip.decompress(file.read_bytes()), dice)
    file.write_bytes(gzip.compress(changed))
    return f"inside: {told}"


def _mgh(file: Path, dice: random.Random) -> str:
    """Give a field of the header of a compressed MGH file another value, or change its bytes; its checksum is right."""
    if dice.random() < 0.3:
        return _zipped(file, dice)
    data = bytearray(gzip.decompress(file.read_bytes()))
    # Version, four extents, type, degrees of freedom; the flag of a place, and 15 numbers of it.
    fields = [(4 * number, ">i") for number in range(7)]
    fields += [(28, ">h"), *((30 + 4 * number, ">f") for number in range(15))]
    place, form = dice.choice(fields)
    value, most = dice.choice(NASTY_NUMBERS), {">i": 2**31 - 1, ">h": 2**15 - 1}.get(form)
    with contextlib.suppress(OverflowError):
        packed = float(value) if most is None else int(np.clip(np.nan_to_num(float(value)), -most, most))
        struct.pack_into(form, data, place, packed)
    file.write_bytes(gzip.compress(bytes(data)))
    return f"{value} as {form} at byte {place}"


def _tags(file: Path, dice: random.Random) -> str:
    """Give a tag of a TIFF another value, number of values, type or name, or lead its list of pages elsewhere."""
    if dice.random() < 0.2:
        return _picture(file, dice)
    data = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as opened:
        order = opened.byteorder
        page = dice.choice(list(opened.pages))
        tag = dice.choice(list(page.tags))  # type: ignore[union-attr]
        place, name, following = tag.offset, tag.name, page.offset  # type: ignore[union-attr]
    offset, form = dice.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
    value = dice.choice((0, 1, 2, 7, following, len(data), 2 ** (8 * struct.calcsize(form)) - 1))
    value %= 2 ** (8 * struct.calcsize(form))
    struct.pack_into(order + form, data, place + offset, value)
    file.write_bytes(bytes(data))
    return f"{value} at byte {offset} of tag {name}"


def _text(file: Path, dice: random.Random) -> str:
    """Give an entry of a header of text another value, or remove or repeat it."""
    data = file.read_bytes()
    last = {".mha": b"LOCAL\n", ".nrrd": b"\n\n"}.get(file.suffix)
    end = len(data) if last is None else data.index(last)
    lines = data[:end].split(b"\n")
    place = dice.randrange(len(lines))
    words = [
        b"nan",
        b"../../etc/passwd",
        b"LIST",
        b"x%03d.raw 1 9 1",
        b"(0,0,0) (0,0,0) (0,0,0)",
        b"0 0 0",
        b"7 6 5 4 3 2",
    ]
    words += [str(number).encode() for number in NASTY_NUMBERS] + [b"True", b"double", b"MET_DOUBLE", b"gzip", b"hex"]
    name, mark, value = lines[place].partition(b"=" if file.suffix in (".mha", ".mhd") else b":")
    kind = dice.choice(("value", "value", "word", "remove", "repeat"))
    if kind == "value":
        value = b" " + dice.choice(words)
    elif kind == "word":
        parts = value.split()
        if parts:
            parts[dice.randrange(len(parts))] = dice.choice(words)
        value = b" " + b" ".join(parts)
    changed = {"remove": [], "repeat": [lines[place]] * 2}.get(kind, [name + mark + value])
    file.write_bytes(b"\n".join([*lines[:place], *changed, *lines[place + 1 :]]) + data[end:])
    return f"{kind} of {lines[place].decode('latin-1')}: {value.decode('latin-1')}"


def _header(file: Path, dice: random.Random) -> str:
    """Declare another shape or type in a NumPy file."""
    shape = dice.choice(((10**9, 10**6), (2**40,), (-1, 5), (0,), (), (3,) * 40, (1, 1, 1, 1, 1)))
    kind = dice.choice(("<f8", "|O", "<c16", "|V8", "<U1000", "<M8[D]"))
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    file.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + file.read_bytes()[128:])
    return f"header of {kind} {shape}"


def _bomb(file: Path, dice: random.Random) -> str:
    """Replace an array of an .npz file by one that is far larger than the file."""
    kind = dice.choice(("zeros", "declared", "pickle"))
    if kind == "pickle":
        np.savez(file, kspace=np.array([{"a": 1}], dtype=object))
        return "an array of objects"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        shape = (1, 1, 2**13, 2**14)
        text = f"{{'descr': '<c8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
        archive.writestr("kspace.npy", head + (bytes(1 << 27) if kind == "zeros" else b"12345678"))
    return f"1 GiB in the header, {kind}"


def _archive(file: Path, dice: random.Random) -> str:
    """Change a member of a zip archive or what its entry says, or add another one."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    victim = dice.choice(sorted(members))
    kind = dice.choice(("content", "name", "entry", "bomb", "archive", "link", "empty"))
    entry = zipfile.ZipInfo(victim)
    told = f"member {victim}: {kind}"
    if kind == "content":
        members[victim], change = changed_bytes(members[victim], dice)
        told = f"{victim}: {change}"
    elif kind == "name":
        names = (
            "../x.dcm",
            "/etc/x.dcm",
            "C:/x.dcm",
            "a\\..\\..\\x.dcm",
            "é" * 300,
            "ct",
            "x.zip",
            "x.png",
            ".x",
            "a//b",
        )
        entry.filename = entry.orig_filename = dice.choice(names)
        told += f" {entry.filename[:20]}"
    elif kind == "bomb":
        members[victim] = bytes(dice.choice((1 << 20, 1 << 27)))
    elif kind == "archive":
        entry.filename = entry.orig_filename = f"{victim}.zip"
    elif kind == "link":
        entry.external_attr = 0o120777 << 16
    elif kind == "empty":
        members[victim] = b""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(entry if name == victim else name, data)
    if kind == "entry":
        data = bytearray(file.read_bytes())
        mark, offsets = dice.choice(((b"PK\x01\x02", (8, 10, 16, 20, 24, 28, 42)), (b"PK\x05\x06", (8, 10, 12, 16))))
        offset = dice.choice(offsets)
        struct.pack_into("<I", data, data.index(mark) + offset, dice.choice((0, 1, 77, 2**31, 2**32 - 1)))
        file.write_bytes(data)
        told = f"member: {offset} bytes behind {mark[2:].hex()}"
    return told


def _hdf5(file: Path, dice: random.Random) -> str:
    """Replace the array of an HDF5 file by a link, another storage, or one that is far larger than the file."""
    kind = dice.choice(("external link", "external storage", "sparse", "soft link", "strings", "group", "virtual"))
    with h5py.File(file, "w") as made:
        if kind == "external link":
            made["kspace"] = h5py.ExternalLink("/etc/passwd", "/")
        elif kind == "external storage":
            made.create_dataset("kspace", (1, 8, 16), np.uint8, external=[("/etc/passwd", 0, 128)])
        elif kind == "sparse":
            made.create_dataset("kspace", (10**5, 10**4, 10**3), np.complex64, chunks=(1, 100, 100), compression="gzip")
        elif kind == "soft link":
            made["kspace"] = h5py.SoftLink("/kspace")
        elif kind == "strings":
            made["kspace"] = ["a", "b"]
        elif kind == "group":
            made.create_group("kspace")
        else:
            layout = h5py.VirtualLayout((1, 4, 4), np.complex64)
            layout[:] = h5py.VirtualSource("/etc/passwd", "kspace", (1, 4, 4))
            made.create_virtual_dataset("kspace", layout)
    return kind


def _picture(file: Path, dice: random.Random) -> str:
    """Write a picture of another kind under the same name."""
    kind = dice.choice(("PostScript", "huge", "animated", "palette", "floating point", "one pixel"))
    form = "TIFF" if file.suffix in (".tif", ".svs") else "PNG"
    if kind == "PostScript":
        file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    elif kind == "huge":
        Picture.new("1", (30000, 30000)).save(file, form)
    elif kind == "animated":
        frames = [Picture.new("L", (9, 9), shade) for shade in (0, 100, 200)]
        frames[0].save(file, form, save_all=True, append_images=frames[1:])
    elif kind == "palette":
        Picture.new("P", (9, 9), 3).save(file, form)
    elif kind == "floating point":
        Picture.new("F", (9, 9), float("nan")).save(file, "TIFF")
    else:
        Picture.new("LA", (1, 1)).save(file, "PNG")
    return f"replaced by a picture: {kind}"


MUTATORS: dict[str, Callable[[Path, random.Random], str]] = {
    **dict.fromkeys((".nii", ".gz"), _nifti),
    **dict.fromkeys((".dcm", ""), _element),
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr"), _text),
    **dict.fromkeys((".tif", ".svs"), _tags),
    **dict.fromkeys((".png", ".webp"), _picture),
    ".mgz": _mgh,
    ".npy": _header,
    ".npz": _bomb,
    ".h5": _hdf5,
    ".zip": _archive,
}
"""Suffix of a file to what changes it in a way of its format; bytes of all files are changed, too."""


# Tables: points, signals, poses, centre-lines and manifests


def make_tables(folder: Path) -> dict[Path, Callable[[Path], Any]]:
    """Write a sound file of each kind of table, and return their readers by path."""
    folder.mkdir()
    grid = np.stack([np.arange(30.0), np.zeros(30), np.zeros(30), np.ones(30)], 1)
    texts = {
        "points.csv": "name,x,y,z\napex,1,2.5,3\nbase,4,5,6\n",
        "points.json": json.dumps({"apex": [1, 2.5, 3], "base": [4, 5, 6]}),
        "signal.csv": "ecg,flow\n" + "\n".join(f"{value},{value / 2}" for value in range(20)),
        "poses.csv": "x,y,z,qx,qy,qz,qw\n1,2,3,0,0,0,1\n4,5,6,0,0,0,1\n",
        "poses.json": json.dumps(np.eye(4).tolist()),
        "line.csv": "x,y,z,r\n" + "\n".join(",".join(map(str, row)) for row in grid),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    np.savez(folder / "line.npz", points=grid[:, :3], radii=grid[:, 3])
    np.savez(folder / "signal.npz", signal=grid[:, :2].T, step=0.01)
    readers: dict[str, Callable[[Path], Any]] = {
        "points": read_points,
        "signal": partial(read_signal, names=("ecg", "flow")),
        "poses": read_poses,
        "line": read_centrelines,
    }
    return {path: readers[path.stem] for path in sorted(folder.iterdir())}


def tables(folder: Path) -> Callable[[random.Random, Path], Trial]:
    """Return what makes trials of the readers of tables."""
    sound = make_tables(folder)

    def trial(dice: random.Random, work: Path) -> Trial:
        base = dice.choice(sorted(sound))
        path = work / base.name
        if base.suffix == ".npz":
            changed, told = changed_bytes(base.read_bytes(), dice)
            path.write_bytes(changed)
        else:
            told = _changed_text(base, path, dice)
        return Trial(base.name, told, lambda: " ".join(repr(sound[base](path)).split())[:120])

    return trial


def _changed_text(base: Path, path: Path, dice: random.Random) -> str:
    """Write a text file after one change of a cell, a line, or its bytes."""
    text = base.read_text(encoding="utf-8")
    if dice.random() < 0.4:
        changed, told = changed_bytes(text.encode(), dice)
        path.write_bytes(changed)
        return told
    lines = [line.split(",") for line in text.splitlines()]
    row = dice.randrange(len(lines))
    column, word = dice.randrange(len(lines[row])), dice.choice(NASTY_WORDS)
    kind = dice.choice(("cell", "cell", "cell", "column", "line", "doubled"))
    if kind == "cell":
        told = f"cell {row}, {column} = {word[:20]!r}"
        lines[row][column] = word
    elif kind == "column":
        told = f"column {column} left out"
        lines = [[cell for place, cell in enumerate(line) if place != column] for line in lines]
    elif kind == "line":
        told = f"line {row} left out"
        del lines[row]
    else:
        told = f"line {row} doubled"
        lines.insert(row, lines[row])
    path.write_bytes("\n".join(",".join(line) for line in lines).encode("utf-8", "surrogatepass"))
    return told


def manifests(folder: Path) -> Callable[[random.Random, Path], Trial]:
    """Return what makes trials of manifests, which are read to the last image."""
    folder.mkdir()
    for name in "abcdef":
        write(folder / f"{name}.nii.gz", _volume((2, 32, 32)))
    columns = ["subject", "target", "input", "split", "slope", "intercept", "unit", "pixel_mm"]
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(columns)
    for name, side in zip("abcdef", ("train", "train", "train", "val", "test", "test"), strict=True):
        rows.writerow([name, f"{name}.nii.gz", "a.nii.gz", side, "1", "0", "HU", "0.5"])
    base = folder / "manifest.csv"
    base.write_text(table.getvalue())
    task = build("wgan-vgg", {}).task

    def read(path: Path) -> str:
        cases = find_cases(task, DataConfig(data=path))
        for case in cases:
            for source in case.sources.values():
                source.open()
        return f"{len(cases)} cases of {len({case.subject for case in cases})} subjects"

    def trial(dice: random.Random, work: Path) -> Trial:
        path = work / "manifest.csv"
        for image in folder.glob("*.nii.gz"):
            (work / image.name).symlink_to(image)
        told = _changed_text(base, path, dice)
        return Trial("manifest.csv", told, lambda: read(path))

    return trial


def lists(folder: Path) -> Callable[[random.Random, Path], Trial]:
    """Return what makes trials of lists and archives of other tools, which are read to the last image."""
    folder.mkdir()
    for number in range(4):
        for name in ("t1", "t2"):
            write(folder / f"p{number}_{name}.nii.gz", _volume((2, 16, 20)))
    entries = [{"image": [f"p{number}_{name}.nii.gz" for name in ("t1", "t2")], "fold": number} for number in range(4)]
    (folder / "datalist.json").write_text(json.dumps({"training": entries[:3], "testing": entries[3:], "numTest": 1}))
    sides: dict[str, Any] = {f"{side}_{part}": np.arange(3 * size, dtype=np.uint8).reshape(3, *shape)
             for side in ("train", "val", "test")
             for part, size, shape in (("images", 56, (7, 8)), ("labels", 1, (1,)))}  # fmt: skip
    np.savez_compressed(folder / "mnist.npz", **sides)
    (folder / "participants.tsv").write_text("participant_id,age,diagnosis\nsub-0,30,a\nsub-1,40,b\n")
    tasks = {name: build(name, {}).task for name in ("pix2pix", "aae")}

    def read(path: Path, system: str) -> str:
        cases = find_cases(tasks[system], DataConfig(data=path))
        for case in cases:
            for source in case.sources.values():
                source.open()
        return f"{len(cases)} cases of {len({case.subject for case in cases})} subjects"

    def trial(dice: random.Random, work: Path) -> Trial:
        name = dice.choice(("datalist.json", "datalist.json", "mnist.npz", "participants.tsv"))
        path, place, system = work / name, work / name, "pix2pix"
        for image in folder.glob("*.nii.gz"):
            (work / image.name).symlink_to(image)
        if name == "participants.tsv":
            for number in range(2):
                inner = work / f"sub-{number}" / "anat"
                inner.mkdir(parents=True)
                for suffix in ("t1", "t2"):
                    (inner / f"sub-{number}_{suffix.upper()}w.nii.gz").symlink_to(folder / f"p{number}_{suffix}.nii.gz")
            told, place = _changed_text(folder / name, path, dice), work
        elif name == "mnist.npz":
            shutil.copy(folder / name, path)
            told, system = _bomb(path, dice) if dice.random() < 0.2 else "", "aae"
            if not told:
                changed, told = changed_bytes(path.read_bytes(), dice)
                path.write_bytes(changed)
        elif dice.random() < 0.7:
            shutil.copy(folder / name, path)
            told = _changed_leaf(path, dice)
        else:
            changed, told = changed_bytes((folder / name).read_bytes(), dice)
            path.write_bytes(changed)
        return Trial(name, told, lambda: read(place, system))

    return trial


# Run folders and options


def command(*words: str | Path) -> str:
    """Run a command, and return its exit status in words; raise `UserError` for a refusal."""
    with contextlib.suppress(SystemExit):
        return said(cli.main([str(word) for word in words]))
    return "exit"


SMALL = (
    *("--phantom-subjects=4", "--phantom-size=64", "--rounds=2", "--validate-every=1", "--validation-slices=1"),
    *("--threads=1", "--size", "32", "32", "--levels=3", "--width=4", "--discriminator-width=4"),
    *("--discriminator-strided=1",),
)
"""Options of a run of two rounds."""


def make_run(folder: Path) -> Path:
    """Train a small run, and return its folder."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(["train", "pix2pix", "--preset", "small", *SMALL, "--out", str(folder)])
    if code:
        raise SystemExit("the run that is to be damaged could not be trained")
    return folder


def runs(folder: Path) -> Callable[[random.Random, Path], Trial]:
    """Return what makes trials of commands on damaged run folders."""
    for name in ("train", "apply", "evaluate"):
        # Each trial would import it again in its own process.
        import_module(f"ganatomy.cli.{name}")
    sound = make_run(folder)
    image = folder.parent / "given.nii.gz"
    write(
        image, Image.from_array(np.random.default_rng(2).uniform(0, 900, (2, 64, 64)).astype(np.float32), unit="a.u.")
    )
    files = sorted(path.relative_to(sound) for path in sound.rglob("*") if path.is_file())

    def trial(dice: random.Random, work: Path) -> Trial:
        run = work / "run"
        shutil.copytree(sound, run)
        name = dice.choice((*files, *[file for file in files if file.suffix == ".yaml"] * 6))
        file, kind = run / name, dice.random()
        if name.suffix in (".yaml", ".json") and kind < 0.7:
            told = _changed_leaf(file, dice)
        elif kind > 0.9:
            file.unlink()
            told = "left out"
        else:
            changed, told = changed_bytes(file.read_bytes(), dice)
            file.write_bytes(changed)
        words: dict[str, tuple[str | Path, ...]] = {
            "apply": ("apply", run, image, work / "out.nii.gz"),
            "resume": ("train", "pix2pix", "--out", run, "--resume", "--rounds", "3"),
            "evaluate": ("evaluate", run),
        }
        act = dice.choice(sorted(words))
        return Trial(f"{act} with {name}", told, lambda: command(*words[act]))

    return trial


def _changed_leaf(file: Path, dice: random.Random) -> str:
    """Give one value in a YAML or JSON file another value, or leave it out."""
    load: Callable[[str], Any] = yaml.safe_load if file.suffix == ".yaml" else json.loads
    plain = load(file.read_text(encoding="utf-8"))
    leaves = list(_leaves(plain))
    if not leaves:
        file.write_text("")
        return "emptied"
    holder, key, place = dice.choice(leaves)
    value = dice.choice((*NASTY_NUMBERS, *NASTY_WORDS, None, [], {}, [1, 2], {"a": 1}, True))
    told = f"{place} = {value!r}"[:80]
    if dice.random() < 0.15:
        del holder[key]
        told = f"{place} left out"
    else:
        holder[key] = value
    text = json.dumps(plain) if file.suffix == ".json" else yaml.safe_dump(plain, sort_keys=False)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return told


def _leaves(plain: Any, place: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Yield (container, key, path) of all values in nested mappings and lists."""
    pairs = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in list(pairs):
        yield plain, key, f"{place}.{key}".strip(".")
        yield from _leaves(value, f"{place}.{key}")


def options(folder: Path) -> Callable[[random.Random, Path], Trial]:
    """Return what makes trials of single options of all systems, up to where the data are looked for."""
    import_module("ganatomy.cli.train")
    ready = [system.slug for system in catalogue.SYSTEMS if system.state == "ready"]

    def trial(dice: random.Random, work: Path) -> Trial:
        slug = dice.choice(ready)
        config = catalogue.load(slug).Config
        general = [name for kind in (DataConfig,) for name in kind.model_fields if name not in ("data", "cache")]
        name = dice.choice((*config.model_fields, *general)).replace("_", "-")
        value = dice.choice((*map(str, NASTY_NUMBERS), *NASTY_WORDS)).replace("\x00", "")
        words = (
            "train",
            slug,
            "--preset",
            "small",
            "--out",
            work / "out",
            "--data",
            folder / "none",
            f"--{name}={value}",
        )
        return Trial(f"train {slug}", f"--{name}={value[:30]!r}", lambda: _up_to_the_data(*words))

    return trial


def _up_to_the_data(*words: str | Path) -> str:
    """Run a training on data that do not exist, which tells whether the options are accepted."""
    with contextlib.redirect_stderr(io.StringIO()) as heard:
        try:
            return command(*words)
        except UserError:
            if "none does not exist" in heard.getvalue():
                return "options that are accepted"
            # Lines before tell how options were understood.
            refusal = heard.getvalue().rpartition("ganatomy: ")[2].strip()
            raise UserError(refusal) from None


KINDS: dict[str, tuple[Callable[[Path], Callable[[random.Random, Path], Trial]], int]] = {
    "images": (images, 10),
    "tables": (tables, 3),
    "manifests": (manifests, 3),
    "lists": (lists, 3),
    "options": (options, 2),
    "runs": (runs, 2),
}
"""Name of a kind of input to what makes its trials, and how often it is drawn."""


def fuzz(count: int, seed: int, kinds: Sequence[str], show: Callable[[str], None]) -> list[tuple[str, Trial, Outcome]]:
    """Make and run trials, and return the kind, trial and outcome of each.

    Args:
        count: number of trials.
        seed: seed of all changes.
        kinds: names of kinds of inputs, of `KINDS`.
        show: called with a line for each failure.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder)
        for name in ("CONFIG", "CACHE"):
            os.environ[f"GANATOMY_{name}"] = str(root / name)
        makers = {kind: KINDS[kind][0](root / kind) for kind in kinds}
        weights = [KINDS[kind][1] for kind in kinds]
        for number in range(count):
            dice = random.Random(f"{seed} {number}")
            kind = dice.choices(kinds, weights)[0]
            work = root / "work"
            work.mkdir()
            trial = makers[kind](dice, work)
            outcome = ended(trial.read, root / "heard.txt")
            found.append((kind, trial, outcome))
            if outcome.kind in FAILURES:
                show(f"{number} {kind} {trial.what}, {trial.change}: {outcome.kind}: {outcome.told}")
            shutil.rmtree(work)
    return found


def written(found: Sequence[tuple[str, Trial, Outcome]]) -> str:
    """Return the list of acceptances as a table in Markdown."""
    lines = ["| input | change | read as |", "|---|---|---|"]
    for kind, trial, outcome in found:
        if outcome.kind == "accepted":
            cells = (f"{kind}: {trial.what}", trial.change, outcome.told)
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.encode("utf-8", "backslashreplace").decode().replace("|", "\\|").split())


def main() -> int:
    """Run the trials, print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="number of trials")
    parser.add_argument("--seed", type=int, default=0, help="seed of all changes")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds of inputs")
    parser.add_argument("--accepted", type=Path, help="file for the list of acceptances")
    asked = parser.parse_args()
    found = fuzz(asked.count, asked.seed, asked.only, lambda line: print(_cell(line), flush=True))
    if asked.accepted:
        asked.accepted.write_text(written(found), encoding="utf-8")
    for kind in asked.only:
        counts = Counter(outcome.kind for one, _, outcome in found if one == kind)
        print(f"{kind}: " + ", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
    failed = sum(outcome.kind in FAILURES for _, _, outcome in found)
    print(f"{len(found)} trials, {failed} failures")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
