"""Clicks on real studies: refinement beside a painted sphere and a graph cut, on the same clicks' rule.

pip install PyMaxflow
python benchmarks/clicks.py DATA/test --output clicks
lckd publish REFINEMENT/best.pt --refinement --clicks clicks/clicks.json

The graph cut (Boykov and Jolly 2001) takes the network's probabilities in the windows, the contrast of the reference
image, and a small ball around each click as certain; its two parameters were tried on one validation study.
"""

from functools import partial
from pathlib import Path

import fire
import maxflow
import numpy as np
from torch import Tensor

from lckd.click_evaluation import CLICKS, ClickEvaluation, Correct
from lckd.datalist import find_studies
from lckd.errors import sentences
from lckd.interaction import Refiner
from lckd.marks import Marks, region_marks
from lckd.refinement import WINDOW
from lckd.segmentation import PreparedStudy, Segmenter
from lckd.sequences import REGIONS
from lckd.transforms import regions_of

RADII_MM = (7, 12)
CERTAIN_MM = 3
PEER_CLICKS = 5
SMOOTHNESS, CONTRAST = 2.0, 0.5


class Comparison(ClickEvaluation):
    """Adds two ways of correcting a segmentation that know nothing of tumours."""

    def methods(self, prepared: PreparedStudy, region: str) -> dict[str, tuple[Correct, int]]:
        """Refinement, spheres of fixed radii, and a graph cut."""
        spheres = {
            f"sphere of {radius} mm": (partial(_painted, prepared, region, radius), PEER_CLICKS) for radius in RADII_MM
        }
        return {
            **super().methods(prepared, region),
            **spheres,
            "graph cut": (lambda marks: _cut(self.segmenter, prepared, region, marks), PEER_CLICKS),
        }


def _painted(prepared: PreparedStudy, region: str, radius_mm: float, marks: Marks) -> Tensor:
    """The label map with a ball drawn around every click, in their order."""
    assert prepared.label_map is not None
    label_map, index = prepared.label_map, REGIONS.index(region)
    for voxel, claim in zip(marks.voxels, marks.claims[:, index], strict=True):
        ball = region_marks(region, claim > 0, _ball(voxel, radius_mm, prepared)).within(label_map.shape)
        label_map = ball.drawn_on(label_map)
    return label_map


def _cut(segmenter: Segmenter, prepared: PreparedStudy, region: str, marks: Marks) -> Tensor:
    """The label map after a graph cut of one region in the box around the clicks' windows."""
    assert prepared.label_map is not None and prepared.decoded is not None
    index = REGIONS.index(region)
    logits, _ = segmenter.infer(prepared, [])
    probability = segmenter.on_original_grid(logits, prepared.image)[index].numpy()
    low = np.maximum(marks.voxels.min(0) - WINDOW, 0)
    high = np.minimum(marks.voxels.max(0) + WINDOW + 1, probability.shape)
    box = tuple(slice(*side) for side in zip(low, high, strict=True))
    inside = probability[box].clip(1e-4, 1 - 1e-4)
    image = prepared.shown[box].numpy()
    image = (image - image[image != 0].mean()) / (image[image != 0].std() + 1e-6)
    graph = maxflow.Graph[float](inside.size, 3 * inside.size)
    nodes = graph.add_grid_nodes(inside.shape)
    for axis in range(3):
        step = np.abs(np.diff(image, axis=axis, append=np.take(image, [-1], axis=axis)))
        structure = np.zeros((3, 3, 3))
        structure[tuple(2 if other == axis else 1 for other in range(3))] = 1
        weights = SMOOTHNESS * np.exp(-(step**2) / (2 * CONTRAST**2))
        graph.add_grid_edges(nodes, weights=weights, structure=structure, symmetric=True)
    to_inside, to_outside = -np.log(1 - inside), -np.log(inside)
    for voxel, claim in zip(marks.voxels, marks.claims[:, index], strict=True):
        ball = _ball(voxel - low, CERTAIN_MM, prepared)
        ball = ball[((ball >= 0) & (ball < inside.shape)).all(1)]
        to_inside[tuple(ball.T)], to_outside[tuple(ball.T)] = (1e6, 0) if claim > 0 else (0, 1e6)
    graph.add_grid_tedges(nodes, to_inside, to_outside)
    graph.maxflow()
    found = ~graph.get_grid_segments(nodes)
    before = regions_of(prepared.label_map[None])[index][box].numpy()
    label_map = prepared.label_map
    for claimed, mask in ((True, found & ~before), (False, before & ~found)):
        label_map = region_marks(region, claimed, np.argwhere(mask) + low).drawn_on(label_map)
    return label_map


def _ball(voxel: np.ndarray, radius_mm: float, prepared: PreparedStudy) -> np.ndarray:
    spacing = np.linalg.norm(prepared.affine[:3, :3].numpy(), axis=0)
    reach = np.ceil(radius_mm / spacing).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    return voxel + offsets[np.linalg.norm(offsets * spacing, axis=1) <= radius_mm]


def main(
    studies: str,
    output: str = "clicks",
    weights: str | None = None,
    refinement: str | None = None,
    clicks: int = CLICKS,
) -> None:
    """Measure and write the tables.

    Args:
        studies: folder of labelled studies.
        output: folder for the tables.
        weights: other weights of the network than the shipped ones.
        refinement: other weights of the refinement than the shipped ones.
        clicks: of the refinement, per region.
    """
    comparison = Comparison(Segmenter(weights=weights), Refiner(weights=refinement), output, clicks=clicks)
    comparison.run(find_studies(studies))
    print((Path(output) / "clicks.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    with sentences():
        fire.Fire(main)
