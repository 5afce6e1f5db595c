import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from lckd.errors import StudyError
from lckd.inferer import availability_of
from lckd.interaction import Refiner
from lckd.marks import NO_MARKS, label_marks, region_marks, total
from lckd.refinement import (
    MANY,
    WINDOW,
    Decoded,
    RefinementNet,
    box_around,
    channels_of,
    decode,
    distances_to,
    in_windows,
    near,
    refine,
)
from lckd.segmentation import Segmenter
from lckd.sequences import REGION_LABELS, REGIONS, SUBSETS
from lckd.simulation import simulate_study, write_study
from lckd.weights import save_weights


@pytest.fixture(scope="module")
def network() -> RefinementNet:
    """With weights of a training that went wild: every rule has to hold whatever the weights are."""
    torch.manual_seed(0)
    network = RefinementNet(widths=(8, 12), blocks=(1, 1)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture
def decoded() -> Decoded:
    generator = torch.Generator().manual_seed(1)
    return Decoded(
        torch.randn(24, 64, 16, 16, generator=generator), torch.randn(3, 128, 32, 32, generator=generator), t1ce=True
    )


class TestNetwork:
    def test_an_untrained_refinement_takes_what_is_alike_and_near(self, decoded):
        features = torch.zeros_like(decoded.features)
        features[:, 10:] = 9.0  # another tissue from voxel 20 on
        logits = torch.full_like(decoded.logits, -4.0)
        with torch.inference_mode():
            refined = refine(
                RefinementNet().eval(), Decoded(features, logits, t1ce=True), region_marks("tc", True, [[10, 10, 10]])
            )
        et, wt, tc = (refined[REGIONS.index(name)] > 0 for name in ("et", "wt", "tc"))
        assert tc[4:17, 4:17, 4:17].all() and not tc[26:].any()
        assert not (tc & ~wt).any() and not et.any()  # core is whole tumour, too, and nothing was said of ET

    def test_without_t1ce_marks_of_the_core_reach_further(self, decoded):
        blank = Decoded(torch.zeros_like(decoded.features), torch.full_like(decoded.logits, -6.0), t1ce=True)
        marks = region_marks("tc", True, [[40, 16, 16]])
        with torch.inference_mode():
            with_it, without = (
                int((refine(RefinementNet().eval(), replace(blank, t1ce=t1ce), marks)[REGIONS.index("tc")] > 0).sum())
                for t1ce in (True, False)
            )
        assert without > 2 * with_it > 0

    def test_a_mark_is_heard_where_the_network_was_very_sure(self, decoded):
        marks = region_marks("wt", True, [[40, 16, 16]])
        with torch.inference_mode():
            sure, very_sure = (
                refine(
                    RefinementNet().eval(),
                    Decoded(torch.zeros_like(decoded.features), torch.full_like(decoded.logits, logit), t1ce=True),
                    marks,
                )
                for logit in (-8.0, -30.0)
            )
        inside = in_windows(marks, tuple(slice(0, side) for side in sure.shape[1:]))
        torch.testing.assert_close(very_sure[:, inside], sure[:, inside], atol=1e-4, rtol=1e-4)
        assert (very_sure[:, ~inside] == -30).all() and (very_sure[REGIONS.index("wt")] > 0).sum() > 100

    def test_features_are_measured_by_how_they_vary_in_the_tumour(self, decoded):
        logits = torch.full_like(decoded.logits, -1.0)
        logits[REGIONS.index("wt"), :40] = 1
        features = decoded.features.clone()
        features[:, :20] *= 3
        assert Decoded(features, logits, True).variance == pytest.approx(9, rel=0.1)
        assert Decoded(features, torch.full_like(logits, -1.0), True).variance == pytest.approx(3.5, rel=0.1)
        assert Decoded(torch.zeros_like(features), logits, True).variance > 0

    def test_it_is_small(self):
        assert sum(parameter.numel() for parameter in RefinementNet().parameters()) <= 1_000_000

    def test_beyond_the_window_nothing_changes(self, network, decoded):
        with torch.inference_mode():
            changed = refine(network, decoded, region_marks("tc", True, [[10, 10, 10]])) != decoded.logits
        assert changed[:, : 10 + WINDOW + 1].float().mean() > 0.9
        assert not changed[:, 10 + WINDOW + 1 :].any()

    def test_without_marks_nothing_changes(self, network, decoded):
        assert torch.equal(refine(network, decoded, NO_MARKS), decoded.logits)

    @pytest.mark.parametrize("voxel", itertools.product((0, 127), (0, 31), (0, 31)))
    def test_marks_at_the_corners(self, network, decoded, voxel):
        with torch.inference_mode():
            assert refine(network, decoded, region_marks("wt", False, [voxel])).shape == decoded.logits.shape


class TestChannels:
    def test_a_mark_is_where_it_was_made_and_fades(self):
        marks = region_marks("et", False, [[20, 10, 12]])
        box = box_around(marks.voxels, (64, 32, 32))
        channels = channels_of(distances_to(marks, box))
        outside_et = channels[2 * (2 * REGIONS.index("et") + 1)]
        assert outside_et.max() == outside_et[10, 5, 6] == 1
        assert outside_et[12, 5, 6] == pytest.approx(np.exp(-1), abs=1e-6)
        assert channels.sum((1, 2, 3)).count_nonzero() == 2  # no other region was spoken of

    def test_the_box_holds_every_window_and_fits_the_network(self):
        voxels = np.array([[100, 100, 100], [150, 90, 100]])
        box = box_around(voxels, (240, 240, 160))
        assert all((side.stop - side.start) % RefinementNet.divisor == 0 for side in box)
        marks = region_marks("wt", True, voxels)
        assert int(in_windows(marks, box).sum()) == int(
            in_windows(marks, (slice(0, 240),) * 2 + (slice(0, 160),)).sum()
        )


@pytest.fixture(scope="module")
def refiner(network, tmp_path_factory) -> Refiner:
    file = tmp_path_factory.mktemp("weights") / "refinement.pt"
    save_weights(network.state_dict(), file)
    return Refiner(RefinementNet(widths=(8, 12), blocks=(1, 1)), file)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(precision="fp32")


@pytest.fixture
def prepared(segmenter, small_study, tmp_path):
    folder = write_study(small_study, tmp_path / "s", study_id="s", label=False)
    return segmenter.prepare({"study": "s", **{name: str(folder / f"s_{name}.nii.gz") for name in small_study.images}})


class TestRules:
    """On the grid that the user sees, with weights that know nothing."""

    @pytest.mark.parametrize("region", REGIONS)
    @pytest.mark.parametrize("inside", [True, False])
    def test_a_mark_ends_up_where_it_was_claimed(self, segmenter, refiner, prepared, region, inside):
        for voxel in ([0, 0, 0], [16, 18, 16], [31, 35, 31]):
            label_map, _ = refiner.label_map(segmenter, prepared, region_marks(region, inside, [voxel]))
            assert (int(label_map[tuple(voxel)]) in REGION_LABELS[region]) == inside

    def test_the_same_marks_give_the_same_and_without_the_last_it_is_as_before(self, segmenter, refiner, prepared):
        first = label_marks("enhancing tumour", [[16, 18, 16]])
        both = first + label_marks("background", [[10, 10, 10]])
        before, _ = refiner.label_map(segmenter, prepared, first)
        after, _ = refiner.label_map(segmenter, prepared, both)
        assert not torch.equal(before, after)
        assert torch.equal(before, refiner.label_map(segmenter, prepared, first)[0])

    def test_no_marks_give_the_segmentation(self, segmenter, refiner, prepared):
        plain = segmenter.segment(prepared).label_map
        assert torch.equal(refiner.label_map(segmenter, prepared, NO_MARKS)[0], plain)

    def test_the_network_is_not_run_again(self, segmenter, refiner, prepared, monkeypatch):
        segmenter.segment(prepared)
        monkeypatch.setattr(type(segmenter.network), "encode", None)
        monkeypatch.setattr(type(segmenter.network), "decode", None)
        monkeypatch.setattr(type(segmenter.network.decoder), "walk", None)
        result = refiner(segmenter, prepared, region_marks("wt", True, [[16, 18, 16]]))
        assert result.report["marks"] == 1

    def test_what_the_segmentation_warned_of_is_told(self, segmenter, refiner, prepared, monkeypatch):
        plain = segmenter.infer

        def warning(study, warnings):
            warnings.append("little memory")
            return plain(study, warnings)

        monkeypatch.setattr(segmenter, "infer", warning)
        report = refiner(segmenter, prepared, region_marks("wt", True, [[16, 18, 16]])).report
        assert report["warnings"] == [*prepared.warnings, "little memory"]
        assert {"load", "refinement", "total"} < set(report["timings_s"])

    def test_marks_that_cannot_be_are_refused(self, segmenter, refiner, prepared):
        with pytest.raises(StudyError, match="outside the image"):
            refiner(segmenter, prepared, region_marks("wt", True, [[99, 0, 0]]))
        contradiction = total([region_marks("wt", True, [[1, 1, 1]]), region_marks("wt", False, [[1, 1, 1]])])
        with pytest.raises(StudyError, match="contradict"):
            refiner(segmenter, prepared, contradiction)


def test_many_marks_have_the_windows_of_each_of_them():
    voxels = np.random.default_rng(0).integers(0, 30, (MANY + 1, 3))
    voxels[:, 0] //= 4
    parts = [near(part, (50, 40, 30), (5, 9, 2)) for part in np.array_split(voxels, 3)]
    assert torch.equal(near(voxels, (50, 40, 30), (5, 9, 2)), parts[0] | parts[1] | parts[2])
    assert not near(voxels, (50, 40, 30), (5, 9, 2)).all()


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([-1.0, 1.0, 1.0, 1.0]),
        np.array([[0, 0, 2.0, 5], [-1.0, 0, 0, 3], [0, 1.5, 0, -9], [0, 0, 0, 1.0]]),
        np.array([[0.9, -0.3, 0, 5], [0.3, 0.9, 0, 3], [0, 0, -2.5, 9], [0, 0, 0, 1.0]]),
    ],
    ids=["flipped", "permuted and anisotropic", "oblique"],
)
def test_a_click_lands_where_it_was_made_on_any_grid(segmenter, affine, tmp_path):
    """With a refinement that only marks the voxel it is told, the mark's place in the network's grid is the truth."""
    study = replace(simulate_study((40, 44, 36), (4.0, 4.0, 4.5), seed=3), affine=affine)
    folder = write_study(study, tmp_path / "s", study_id="s", sequences=("flair",), label=False)
    prepared = segmenter.prepare({"study": "s", "flair": str(folder / "s_flair.nii.gz")})
    segmenter.segment(prepared)
    voxel = [14, 30, 20]
    marks = region_marks("wt", True, [voxel])
    moved = marks.moved(prepared.affine.numpy(), prepared.image.affine.numpy())
    world = affine[:3, :3] @ voxel + affine[:3, 3]
    there = prepared.image.affine.numpy()
    assert np.abs(there[:3, :3] @ moved.voxels[0] + there[:3, 3] - world).max() <= 0.51
    # and back: a spot of logits there is the user's voxel in the label map
    logits = torch.full((3, *prepared.image.shape[1:]), -9.0)
    spot = tuple(slice(place - 2, place + 3) for place in moved.voxels[0])
    logits[(slice(None), *spot)] = 9.0
    found = segmenter.on_original_grid(logits, prepared.image)[1] > 0.5
    middle = torch.nonzero(found).float().mean(0)
    assert (middle - torch.tensor(voxel)).abs().max() < 1


def test_every_subset_can_be_decoded_for_refinement(segmenter):
    image = torch.randn(1, 4, 32, 32, 32, device=segmenter.device)
    for subset in SUBSETS[::5]:
        available = availability_of(subset).to(segmenter.device)
        with torch.inference_mode():
            features = segmenter.network.encode(image, available)
            kept = decode(segmenter.network, features, available)
            assert torch.equal(kept.logits, segmenter.network.decode(features, available)[0][0])
        assert kept.features.shape == (24, 16, 16, 16)
