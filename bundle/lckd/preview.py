"""The picture of a result: three slices through the tumour, its labels outlined."""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lckd.files import write_atomically
from lckd.report import volumes_ml
from lckd.sequences import REGION_LABELS

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "necrotic core": (230, 159, 0),
    "oedema": (86, 180, 233),
    "enhancing tumour": (240, 60, 100),
}
"""Per label; distinguishable with colour-blindness (after Okabe and Ito)."""

OUTLINES: Mapping[str, str] = {"wt": "oedema", "tc": "necrotic core", "et": "enhancing tumour"}
"""Region that is outlined in the colour of its outermost label; nested, so that no boundary is drawn twice."""

PANEL = 440
"""Height and width of a panel in pixels."""

MARGIN = 16
BACKGROUND, TEXT, FAINT = (16, 18, 22), (235, 235, 235), (150, 155, 160)

VIEWS = (("axial", 2, "RLAP"), ("coronal", 1, "RLSI"), ("sagittal", 0, "APSI"))
"""Name, axis in RAS, and the letters at the left, right, top and bottom; the patient's right is on the left."""


def draw_preview(
    image: NDArray[np.float32],
    label_map: NDArray[np.uint8],
    affine: NDArray,
    path: str | Path,
    title: str,
    footer: str = "",
) -> None:
    """Write a PNG, atomically, with an axial, a coronal and a sagittal slice.

    The slices are those with most tumour, or the middle ones without any; shown as radiologists do, to
    scale whatever the spacing, whatever the file's orientation.

    Args:
        image: ``(X, Y, Z)`` the reference sequence.
        label_map: ``(X, Y, Z)`` of our label values.
        affine: ``(4, 4)`` voxel to world in mm, RAS.
        path: of the PNG.
        title: line above the slices.
        footer: line below them.

    Raises:
        OSError: the file cannot be written.
    """
    volumes = volumes_ml(label_map, affine)["labels"]
    image, label_map, spacing_mm = _to_ras(image, label_map, affine)
    values = image.ravel(order="K")  # as they lie in memory; files have the first axis fastest
    inside = values[values != image.flat[0]]
    low, high = np.percentile(inside if inside.size else values, (0.5, 99.7))
    extent_mm = max(side * size for side, size in zip(image.shape, spacing_mm, strict=True))
    canvas = Image.new("RGB", (3 * PANEL + 4 * MARGIN, PANEL + 128), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 14), title, TEXT, _font(20))
    for number, (name, axis, letters) in enumerate(VIEWS):
        tumour = (label_map > 0).sum(axis=tuple(other for other in range(3) if other != axis))
        index = int(tumour.argmax()) if tumour.any() else image.shape[axis] // 2
        plane = [size for other, size in enumerate(spacing_mm) if other != axis]
        shades = np.clip((np.moveaxis(image, axis, 0)[index] - low) / max(float(high - low), 1e-6), 0, 1)
        grey = (shades * 255).astype(np.uint8)
        panel = _panel(grey, np.moveaxis(label_map, axis, 0)[index], plane, PANEL / extent_mm)
        corner = (MARGIN + number * (PANEL + MARGIN), 50)
        canvas.paste(panel, corner)
        _letter(draw, corner, f"{name} {index + 1}/{image.shape[axis]}", letters)
    _legend(draw, volumes, footer)
    write_atomically(Path(path), lambda temporary: canvas.save(temporary, format="PNG"))


def _to_ras(
    image: NDArray[np.float32], label_map: NDArray[np.uint8], affine: NDArray
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(image, orientation)
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = np.linalg.norm(affine[:3, :3], axis=0)
    return turned, nib.orientations.apply_orientation(label_map, orientation), spacing


def _panel(grey: NDArray[np.uint8], labels: NDArray[np.uint8], spacing_mm: list[float], scale: float) -> Image.Image:
    """A slice ``(right or anterior, up)`` as a square picture, the patient's right (or front) on the left."""
    size = tuple(max(1, round(side * size_mm * scale)) for side, size_mm in zip(grey.shape, spacing_mm, strict=True))
    # RAS arrays run from left to right, back to front and up: mirrored both ways, as radiologists look.
    picture = Image.fromarray(np.ascontiguousarray(grey[::-1, ::-1].T)).resize(size, Image.Resampling.BICUBIC)
    shown = np.asarray(
        Image.fromarray(np.ascontiguousarray(labels[::-1, ::-1].T)).resize(size, Image.Resampling.NEAREST)
    )
    pixels = np.repeat(np.asarray(picture)[..., None], 3, axis=2)
    for region, name in OUTLINES.items():
        mask = np.isin(shown, REGION_LABELS[region])
        pixels[mask & ~ndimage.binary_erosion(mask, iterations=2)] = COLOURS[name]
    panel = Image.new("RGB", (PANEL, PANEL), (0, 0, 0))
    panel.paste(Image.fromarray(pixels), ((PANEL - size[0]) // 2, (PANEL - size[1]) // 2))
    return panel


def _letter(draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, letters: str) -> None:
    x, y = corner
    middle, end = PANEL // 2, PANEL - 8
    draw.text((x + 8, y + 6), name, FAINT, _font(15))
    for letter, place, anchor in zip(
        letters, ((8, middle), (end, middle), (middle, 8), (middle, end)), ("lm", "rm", "mt", "mb"), strict=True
    ):
        draw.text((x + place[0], y + place[1]), letter, TEXT, _font(17), anchor=anchor)


def _legend(draw: ImageDraw.ImageDraw, volumes: Mapping[str, float], footer: str) -> None:
    x, y = MARGIN, PANEL + 66
    for name, colour in COLOURS.items():
        draw.rectangle((x, y, x + 18, y + 18), outline=colour, width=4)
        words = f"{name} {volumes[name]:.1f} mL"
        draw.text((x + 28, y - 1), words, TEXT, _font(17))
        x += 28 + int(draw.textlength(words, _font(17))) + 36
    draw.text((MARGIN, PANEL + 98), footer, FAINT, _font(15))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
