"""What the tests of conversion and DICOM SEG share: stacks from written files, orientations, tools of others."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from lckd.images import Image
from lckd.pacs.conversion import RAS_TO_LPS
from lckd.pacs.simulated_export import SeriesHeader, write_series
from lckd.pacs.study import Instance, Stack, split_series

SHAPE = (17, 13, 11)
"""Columns, rows, slices: all different, and frames that are no whole number of bytes."""

HEADER = SeriesHeader(number=7, description="t1 axial")


def affine_of(row, column, pixel_mm=(1.0, 1.0), spacing_mm=3.0, origin=(-31.0, 12.0, 44.0)) -> np.ndarray:
    """Affine (RAS) of a series with these direction cosines in LPS; PixelSpacing is of rows, then of columns."""
    row, column = np.array(row, float), np.array(column, float)
    lps = np.stack([row * pixel_mm[1], column * pixel_mm[0], np.cross(row, column) * spacing_mm], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = RAS_TO_LPS @ lps
    affine[:3, 3] = origin
    return affine


def turned(rotation: Rotation, **kwargs: Any) -> np.ndarray:
    """Affine of an axial series turned by ``rotation``."""
    matrix = rotation.as_matrix()
    return affine_of(matrix[:, 0], matrix[:, 1], **kwargs)


GEOMETRIES = {
    "axial": affine_of((1, 0, 0), (0, 1, 0)),
    "sagittal": affine_of((0, 1, 0), (0, 0, -1)),
    "coronal": affine_of((1, 0, 0), (0, 0, -1)),
    "oblique": turned(Rotation.from_euler("x", 20, degrees=True)),
    "double oblique": turned(Rotation.from_euler("xyz", (20, -15, 35), degrees=True)),
    "negated cosines": affine_of((-1, 0, 0), (0, -1, 0)),
    "feet first": affine_of((-1, 0, 0), (0, 1, 0)),
    "non-square pixels": affine_of((1, 0, 0), (0, 1, 0), pixel_mm=(0.7, 1.3)),
    "gaps": affine_of((1, 0, 0), (0, 1, 0), spacing_mm=5.5),
}


def volume(affine: np.ndarray, shape=SHAPE, seed=0) -> Image:
    """Random whole numbers, so that no axis can be flipped or exchanged unseen."""
    return Image(np.random.default_rng(seed).integers(1, 4000, shape).astype(np.float32), affine)


def write_stack(folder: Path, image: Image, header: SeriesHeader = HEADER) -> Stack:
    """Write an image as a series and read its headers again."""
    write_series(image, header, folder)
    return read_headers(folder)


def read_headers(folder: Path) -> Stack:
    """The only stack in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stacks, _ = split_series([Instance(path, dcmread(path, stop_before_pixels=True, force=True)) for path in files])
    assert len(stacks) == 1
    return stacks[0]


def edit(folder: Path, changes: Mapping[str, Any], names: str = "*") -> None:
    """Change attributes of written files; None takes one out."""
    for path in sorted(folder.glob(names)):
        dataset = dcmread(path)
        for keyword, value in changes.items():
            if value is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=True)


def tool(name: str, package: str) -> str:
    """Path of a program that others wrote; skips, saying where it comes from, if it is not installed."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed ({package})")
    return found
