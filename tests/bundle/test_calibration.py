import numpy as np
import pytest
import torch

from lckd.calibration import Calibration, fit_temperature, logit_histogram, pooled, reliability, soft_dice, soft_dice_of
from lckd.sequences import LABELS, REGIONS


def voxels(sharpness: float = 1.0, count: int = 200_000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities whose logits are ``sharpness`` times too large, and truth drawn from the right ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, generator=generator) * 3
    truth = torch.rand(count, generator=generator) < logits.sigmoid()
    return (sharpness * logits).sigmoid(), truth


def records(sharpness: float = 1.0) -> list[dict]:
    made = []
    for study, prevalence in enumerate((0.5, 1.0, 2.0, 4.0)):
        probabilities, truth = voxels(sharpness, count=int(20_000 * prevalence), seed=study)
        histogram = logit_histogram(probabilities, truth)
        found = probabilities > 0.5
        dice = 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())
        made += [
            {"study": str(study), "subset": "flair", "region": region}
            | {"dice": dice, "found": True, "histogram": histogram}
            for region in REGIONS
        ]
    return made


def test_a_histogram_counts_every_voxel_once():
    probabilities, truth = voxels()
    histogram = logit_histogram(probabilities, truth)
    assert sum(histogram["voxels"]) == len(truth)
    assert sum(histogram["positive"]) == int(truth.sum())


def test_certain_probabilities_fall_into_the_outermost_bins():
    histogram = logit_histogram(torch.tensor([0.0, 1.0]), torch.tensor([False, True]))
    assert (histogram["voxels"][0], histogram["voxels"][-1]) == (1, 1)
    assert histogram["positive"][-1] == 1


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_the_temperature_undoes_what_made_the_logits_too_sharp(sharpness):
    assert fit_temperature([logit_histogram(*voxels(sharpness))]) == pytest.approx(sharpness, rel=0.03)


def test_calibration_lowers_the_error_to_almost_nothing():
    histogram = pooled([logit_histogram(*voxels(2.0))])
    assert reliability(histogram)["ece"] > 0.03
    assert reliability(histogram, 2.0)["ece"] < 0.01


def test_probabilities_that_say_nothing_have_the_error_of_their_distance():
    half = torch.full((1000,), 0.5)
    assert reliability(logit_histogram(half, torch.ones(1000, dtype=torch.bool)))["ece"] == pytest.approx(
        0.47, abs=0.05
    )


def test_the_soft_dice_of_right_probabilities_is_the_dice():
    probabilities, truth = voxels(count=1_000_000)
    found = probabilities > 0.5
    dice = 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())
    assert soft_dice(probabilities.numpy()) == pytest.approx(dice, abs=0.01)
    assert soft_dice_of(logit_histogram(probabilities, truth), 1.0) == pytest.approx(dice, abs=0.01)


def test_where_nothing_is_probable_empty_is_expected_to_be_right():
    assert soft_dice(np.full(1_000_000, 1e-7)) > 0.99
    assert soft_dice(np.full(1_000_000, 0.01)) < 0.02


def test_applied_calibration_moves_no_boundary_and_keeps_the_background():
    probabilities = torch.linspace(0, 1, 3 * 4**3).reshape(3, 4, 4, 4)
    calibrated = Calibration({"flair": dict.fromkeys(REGIONS, 3.0)}).apply_(probabilities.clone(), "flair")
    assert torch.equal(calibrated > 0.5, probabilities > 0.5)
    assert calibrated.flatten()[0] == 0
    assert 0.5 < calibrated.max() < 1


def test_facts_come_back_as_they_were():
    fitted = Calibration.fitted(records(2.0))
    assert Calibration.of(fitted.facts()) == fitted
    assert fitted.temperature["flair"]["wt"] == pytest.approx(2, rel=0.05)


def test_each_subset_has_a_temperature_of_its_own():
    sharper = [record | {"subset": "t1"} for record in records(2.0)]
    fitted = Calibration.fitted([*records(), *sharper])
    assert fitted.of_subset("t1")["et"] == pytest.approx(2, rel=0.05)
    assert fitted.of_subset("flair")["et"] == pytest.approx(1, rel=0.05)
    assert set(fitted.of_subset("t2").values()) == {1.0}  # was not there
    assessed = fitted.assessed([*records(), *sharper])
    assert assessed["ece"]["all"]["wt"] < 0.02 < assessed["ece_uncalibrated"]["t1"]["wt"]


def test_without_facts_nothing_is_changed_and_nothing_estimated():
    probabilities = torch.rand(3, 4, 4, 4)
    torch.testing.assert_close(Calibration.of(None).apply_(probabilities.clone(), "t1"), probabilities)
    assert Calibration.of(None).estimated_dice(probabilities, torch.ones(4, 4, 4), "t1") is None


def test_estimates_of_good_probabilities_are_close_and_bounded():
    fitted = Calibration.fitted(records())
    assessed = fitted.assessed(records())
    assert assessed["dice_estimate"]["et"]["mean_error"] < 0.02
    assert assessed["ece"]["all"]["wt"] < 0.02
    assert assessed["ece"]["flair"] == assessed["ece"]["all"]
    everything = torch.full((8, 8, 8), LABELS["enhancing tumour"])
    estimated = fitted.estimated_dice(torch.rand(3, 8, 8, 8), everything, "flair")
    assert all(0 <= value <= 1 for value in estimated.values())


def test_of_what_was_not_found_there_is_no_estimate():
    fitted = Calibration.fitted(records())
    oedema = torch.full((8, 8, 8), LABELS["oedema"])
    estimated = fitted.estimated_dice(torch.rand(3, 8, 8, 8), oedema, "flair")
    assert estimated["et"] is estimated["tc"] is None
    assert estimated["wt"] > 0
    # nor does it say how good the estimates are, or teach them
    missed = [record | {"found": False, "dice": 0.0} for record in records()]
    assert fitted.assessed([*records(), *missed])["dice_estimate"] == fitted.assessed(records())["dice_estimate"]
    assert Calibration.fitted([*records(), *missed]).dice_line == fitted.dice_line
    assert Calibration.fitted(missed).estimated_dice(torch.rand(3, 8, 8, 8), oedema, "flair")["wt"] is None


def test_where_probabilities_mislead_the_estimate_is_the_subsets_own():
    def record(subset: str, sureness: int, dice: float) -> dict:
        logits = torch.randn(20_000, generator=torch.Generator().manual_seed(sureness)) * sureness
        histogram = logit_histogram(logits.sigmoid(), logits > 0)
        return {"subset": subset, "dice": dice, "found": True, "histogram": histogram}

    made = [
        record(subset, sure, most - 0.1 * sure) for subset, most in (("t1", 0.5), ("t1ce", 0.9)) for sure in (1, 2, 4)
    ]
    lines = Calibration.fitted([row | {"region": region} for row in made for region in REGIONS]).dice_line
    assert lines["t1"]["tc"][1] == lines["t1ce"]["tc"][1] == 0
    assert 0.25 < lines["t1"]["tc"][0] < 0.45 < lines["t1ce"]["tc"][0] < 0.7
