import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from lckd.errors import StudyError
from lckd.images import Image, read_image, write_image
from lckd.pacs.brain_extraction import BrainMask, extract_brain
from lckd.pacs.hd_bet import WEIGHTS, hd_bet_command
from lckd.pacs.simulated_head import SimulatedHead, simulate_head
from lckd.sequences import SEQUENCES
from lckd.simulation import SimulatedStudy, simulate_study


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.fixture(scope="module")
def study() -> SimulatedStudy:
    return simulate_study((72, 88, 72), (2.0, 2.0, 2.0), seed=5)


@pytest.fixture(scope="module")
def head(study) -> SimulatedHead:
    return simulate_head(study, seed=5)


@pytest.fixture(scope="module")
def images(head) -> dict[str, Image]:
    return {name: Image(array, head.affine) for name, array in head.images.items()}


class TestBuiltIn:
    @pytest.mark.parametrize("sequence", SEQUENCES)
    def test_any_single_sequence_gives_the_brain(self, images, head, sequence):
        found = extract_brain({sequence: images[sequence]}, sequence, hd_bet=False)
        assert found.method == "built-in"
        assert dice(found.mask, head.brain) >= 0.93
        assert found.warnings == ()

    def test_all_sequences_together_give_the_brain_with_its_tumour(self, images, head, study):
        found = extract_brain(images, "t1ce", hd_bet=False)
        assert dice(found.mask, head.brain) >= 0.94
        margin = [(n - m) // 2 for n, m in zip(head.brain.shape, study.label_map.shape, strict=True)]
        tumour = np.pad(study.label_map > 0, [(m, m) for m in margin])
        assert found.mask[tumour].mean() > 0.98

    def test_thick_slices_of_a_flipped_grid(self, head):
        flipped = head.affine @ np.diag([-1, -1, 3, 1.0])
        flipped[:3, 3] = head.affine[:3, :3] @ [head.brain.shape[0] - 1, head.brain.shape[1] - 1, 1]
        flipped[:3, 3] += head.affine[:3, 3]
        count = head.brain.shape[2] // 3 * 3

        def thick(array):
            return array[::-1, ::-1, :count].reshape(*array.shape[:2], -1, 3).mean(axis=3).astype(np.float32)

        found = extract_brain({"t2": Image(thick(head.images["t2"]), flipped)}, "t2", hd_bet=False)
        assert dice(found.mask, thick(head.brain) > 0.5) >= 0.92

    def test_volume_is_that_of_the_mask(self, images):
        found = extract_brain({"t1": images["t1"]}, "t1", hd_bet=False)
        assert found.volume_ml == pytest.approx(found.mask.sum() * 8 / 1000)

    def test_what_is_no_head_is_doubted(self):
        noise = np.random.default_rng(0).normal(100, 10, (60, 60, 60)).astype(np.float32)
        found = extract_brain({"t1": Image(noise, np.diag([3.0, 3.0, 3.0, 1.0]))}, "t1", hd_bet=False)
        assert any("brain extraction is doubtful" in warning for warning in found.warnings)


class TestStripped:
    def test_stripped_input_is_left_alone(self, study):
        images = {name: Image(array, study.affine) for name, array in study.images.items()}
        found = extract_brain(images, "t1ce")
        assert found.method == "stripped"
        np.testing.assert_array_equal(found.mask, study.images["t1ce"] > 0)
        assert found.warnings == ()

    def test_head_takes_the_brain_of_a_stripped_sequence(self, images, study, head):
        mixed = {"t1": images["t1"], "flair": Image(study.images["flair"], study.affine)}
        found = extract_brain(mixed, "t1")
        assert found.method == "stripped"
        assert dice(found.mask, head.brain) > 0.99
        assert found.warnings == ("T1 has its skull and takes the brain of FLAIR, which is stripped",)


class TestGiven:
    def test_mask_on_another_grid_is_used(self, images, study, head, tmp_path):
        file = tmp_path / "mask.nii.gz"
        write_image(file, (study.images["t1"] > 0).astype(np.uint8), study.affine)
        found = extract_brain({"t1": images["t1"]}, "t1", file)
        assert found.method == "given"
        np.testing.assert_array_equal(found.mask, head.brain)

    def test_small_mask_is_doubted(self, images, head, tmp_path):
        file = tmp_path / "mask.nii.gz"
        small = np.zeros(head.brain.shape, np.uint8)
        small[50:60, 50:60, 50:60] = 1
        write_image(file, small, head.affine)
        (warning,) = extract_brain({"t1": images["t1"]}, "t1", file).warnings
        assert "8 mL" in warning and "800 to 2,000 mL" in warning

    def test_mask_elsewhere_is_refused(self, images, head, tmp_path):
        file = tmp_path / "mask.nii.gz"
        elsewhere = head.affine.copy()
        elsewhere[:3, 3] += 1000
        write_image(file, head.brain.astype(np.uint8), elsewhere)
        with pytest.raises(StudyError, match="has no voxel inside the reference series"):
            extract_brain({"t1": images["t1"]}, "t1", file)


STAND_IN = """
#!{python}
# Takes what `hd-bet` of HD-BET 2.0.1 takes, and writes where it writes. What it writes is no brain extraction.
import argparse, os, sys
import nibabel as nib

parser = argparse.ArgumentParser()
parser.add_argument("-i", "--input", required=True)
parser.add_argument("-o", "--output")
parser.add_argument("-device", default="cuda")
for switch in ("--disable_tta", "--save_bet_mask", "--no_bet_image", "--verbose"):
    parser.add_argument(switch, action="store_true")
options = parser.parse_args()
assert os.path.isfile(os.path.expanduser("~/{weights}")), "HD-BET would download its weights"
assert options.output.endswith(".nii.gz"), "Output file must end with .nii.gz"
assert options.device == "cpu" and options.disable_tta
image = nib.load(options.input)
assert nib.aff2axcodes(image.affine) == ("R", "A", "S") and image.ndim == 3
mask = (image.get_fdata() > {threshold}).astype("uint8")
{fault}
if options.save_bet_mask:
    nib.save(nib.Nifti1Image(mask, image.affine), options.output[:-7] + "_bet.nii.gz")
if not options.no_bet_image:
    nib.save(nib.Nifti1Image(image.get_fdata() * mask, image.affine), options.output)
"""


class TestHDBET:
    """The real one needs 100 MB of weights; this is about how it is called and what becomes of its files."""

    THRESHOLD = 100

    @pytest.fixture
    def install(self, monkeypatch, tmp_path):
        def install(fault: str = "", weights: bool = True) -> None:
            command = tmp_path / "bin" / "hd-bet"
            command.parent.mkdir()
            script = dedent(STAND_IN).lstrip()
            settings = {"python": sys.executable, "weights": WEIGHTS, "threshold": self.THRESHOLD, "fault": fault}
            command.write_text(script.format(**settings))
            command.chmod(0o755)
            if weights:
                (tmp_path / WEIGHTS).parent.mkdir(parents=True)
                (tmp_path / WEIGHTS).write_bytes(b"")
            monkeypatch.setenv("HOME", str(tmp_path))
            monkeypatch.setenv("PATH", str(command.parent))

        return install

    def test_its_mask_lies_on_the_images_own_grid(self, install, images):
        install()
        flipped = images["t2"].affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
        turned = Image(np.ascontiguousarray(images["t2"].array[:, :, ::-1]), flipped)
        found = extract_brain({"t2": turned}, "t2")
        assert found.method == "hd-bet"
        np.testing.assert_array_equal(found.mask, turned.array > self.THRESHOLD)

    @pytest.mark.parametrize(
        ("fault", "why"),
        [
            ("sys.exit('RuntimeError: out of memory')", "HD-BET failed with exit code 1 (RuntimeError: out of memory)"),
            ("os._exit(3)", "HD-BET failed with exit code 3"),
            ("sys.exit()", "HD-BET wrote no mask"),
            ("mask[:] = 0", "HD-BET found no brain"),
        ],
        ids=["fails", "fails in silence", "writes nothing", "finds nothing"],
    )
    def test_where_it_fails_the_built_in_method_is_used_and_the_user_told(self, install, images, fault, why):
        install(fault)
        found = extract_brain({"t2": images["t2"]}, "t2")
        assert found.method == "built-in"
        assert found.warnings == (f"{why}; the built-in brain extraction was used",)

    def test_what_cannot_be_started_is_told_too(self, install, images, tmp_path):
        install()
        (tmp_path / "bin" / "hd-bet").write_text("#!/no/such/python\n")
        (warning,) = extract_brain({"t2": images["t2"]}, "t2").warnings
        assert warning.startswith("HD-BET cannot be started (")

    def test_without_its_weights_it_is_not_used(self, install):
        install(weights=False)
        assert hd_bet_command() is None

    def test_without_its_command_it_is_not_used(self, install, monkeypatch, tmp_path):
        install()
        assert hd_bet_command() == str(tmp_path / "bin" / "hd-bet")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert hd_bet_command() is None


@pytest.mark.slow
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_real_head_has_a_plausible_brain(sequence):
    file = Path(__file__).resolve().parents[3] / "shared/data/raw_head/TCGA-FG-6692" / f"TCGA-FG-6692_{sequence}.nii.gz"
    if not file.is_file():
        pytest.skip("real heads are not beside this checkout (../shared/data/raw_head)")
    found: BrainMask = extract_brain({sequence: read_image(file)}, sequence, hd_bet=False)
    assert 1500 < found.volume_ml < 1750
    assert found.warnings == ()
