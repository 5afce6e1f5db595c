import json
from pathlib import Path

import pytest
import torch

from lckd import publication, weights
from lckd.calibration import logit_histogram
from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.errors import StudyError
from lckd.evaluation import summarize, write_tables
from lckd.network import LCKDNet
from lckd.publication import publish, publish_refinement
from lckd.refinement import RefinementNet
from lckd.robustness import CHANGES
from lckd.sequences import REGIONS, SEQUENCES, SUBSETS, subset_name
from lckd.weights import load_weights, metadata, sha256_of

CARD = Path(publication.CARD).read_text(encoding="utf-8")


def tiny() -> LCKDNet:
    return LCKDNet(Encoder((4, 6), (0, 1)), Decoder((4, 6), (1, 1)))


@pytest.fixture
def files(tmp_path, monkeypatch) -> dict[str, Path]:
    """A checkpoint with its tables, and a bundle of its own to publish into."""
    monkeypatch.setattr(weights, "METADATA", tmp_path / "metadata.json")
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path / "model.pt")
    monkeypatch.setattr(publication, "CARD", tmp_path / "README.md")
    (tmp_path / "metadata.json").write_text('{"version": "1"}')
    (tmp_path / "README.md").write_text(CARD, encoding="utf-8")
    table = {sequence: dict.fromkeys(REGIONS, 0.25) for sequence in SEQUENCES}
    election = {"mode": "multi", "winners": dict.fromkeys(REGIONS, "t2"), "table": table}
    provenance = {"seed": 7, "revision": "abc"}
    torch.save({"ema": tiny().state_dict(), "election": election, "provenance": provenance}, tmp_path / "best.pt")
    digest = sha256_of(tmp_path / "best.pt")
    for split in ("val", "test"):
        write_tables(summarize(records()), records(), tmp_path / split, digest)
    dice = {name: {"flair": dict.fromkeys(REGIONS, 0.5)} for name in CHANGES}
    changed = {"weights": digest, "studies": 3, "dice": dice, "healthy_ml": {"flair": [0.0, 1.25]}}
    (tmp_path / "robustness.json").write_text(json.dumps(changed))
    return {
        "checkpoint": tmp_path / "best.pt",
        "evaluation": tmp_path / "test" / "evaluation.json",
        "validation": tmp_path / "val" / "evaluation.json",
        "robustness_test": tmp_path / "robustness.json",
    }


def records() -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for study in range(3):
        for subset in map(subset_name, SUBSETS):
            for region in REGIONS:
                probabilities = torch.rand(500, generator=generator)
                truth = torch.rand(500, generator=generator) < probabilities
                record = {"study": f"s{study}", "subset": subset, "region": region, "dice": 0.2 + 0.3 * study}
                scores = {"hd95_mm": 3.0, "found": True, "both_empty": False}
                made.append(record | scores | {"histogram": logit_histogram(probabilities, truth)})
    return made


class TestRefinement:
    @pytest.fixture
    def refinement(self, files, tmp_path, monkeypatch) -> dict[str, Path]:
        """A checkpoint of a refinement over published weights, with its table."""
        monkeypatch.setattr(weights, "REFINEMENT_WEIGHTS", tmp_path / "refinement.pt")
        network = publish(**files)
        torch.save({"ema": RefinementNet().state_dict(), "provenance": {"seed": 3}}, tmp_path / "clicked.pt")
        row = {"study": "s", "subset": "flair", "method": "refinement", "seconds": 0.5}
        records = [row | {"region": r, "clicks": n, "dice": 0.2 * n + 0.3} for r in REGIONS for n in range(4)]
        about = {"network": network, "refinement": sha256_of(tmp_path / "clicked.pt")}
        (tmp_path / "clicks.json").write_text(json.dumps({"weights": about, "records": records}))
        return {"checkpoint": tmp_path / "clicked.pt", "clicks": tmp_path / "clicks.json"}

    def test_it_is_the_bundles_own(self, refinement, tmp_path):
        digest = publish_refinement(**refinement)
        facts = metadata()["refinement"]
        assert facts["sha256"] == digest == sha256_of(tmp_path / "refinement.pt")
        assert facts["provenance"] == {"seed": 3} and facts["network"] == metadata()["weights"]["sha256"]
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert "| flair | refinement | ET | 30.0 | 50.0 | 70.0 | 90.0 |" in card
        assert (tmp_path / "clicks.png").stat().st_size > 1000

    def test_it_goes_when_the_network_does(self, refinement, files):
        publish_refinement(**refinement)
        publish(**files)
        assert "refinement" in metadata()
        torch.save({"ema": {name: value + 1 for name, value in tiny().state_dict().items()}}, files["checkpoint"])
        publish(files["checkpoint"])
        assert "refinement" not in metadata()

    def test_a_table_of_other_weights_is_refused(self, refinement, files):
        torch.save({"ema": {name: value + 1 for name, value in tiny().state_dict().items()}}, files["checkpoint"])
        publish(files["checkpoint"])
        with pytest.raises(StudyError, match="about other weights"):
            publish_refinement(**refinement)


def test_published_weights_are_the_bundles_own(files):
    digest = publish(**files)
    facts = metadata()
    assert load_weights(tiny()) == digest == facts["weights"]["sha256"]
    assert facts["weights"]["election"]["winners"]["wt"] == "t2"
    assert facts["weights"]["provenance"]["seed"] == 7
    assert facts["evaluation"]["mean"]["et"]["dice"] == pytest.approx(0.5)
    assert facts["calibration"]["temperature"]["flair"]["et"] == pytest.approx(1, abs=0.1)
    assert set(facts["calibration"]["test"]["ece"]) == {"all", *map(subset_name, SUBSETS)}
    assert facts["robustness"]["studies"] == 3 and facts["robustness"]["weights"] == digest  # not the checkpoint's


def test_the_model_card_says_what_the_metadata_says(files):
    publish(**files)
    card = publication.CARD.read_text(encoding="utf-8")
    assert f"3 studies, weights {metadata()['weights']['sha256'][:12]}" in card
    assert "| ● | ○ | ○ | ○ | 50.0 [20, 80]" in card
    assert "| T1ce | 25.0 | 25.0 | 25.0 |" in card
    assert "Teachers: T2 for ET" in card
    assert "| temperature, from the least to the largest of the subsets | " in card
    assert "0.62 mL (at most 1.25)" in card
    assert (publication.CARD.parent / "reliability.png").stat().st_size > 10_000


def test_publishing_twice_changes_nothing(files):
    publish(**files)
    before = publication.CARD.read_text(encoding="utf-8"), weights.METADATA.read_text()
    publish(**files)
    assert before == (publication.CARD.read_text(encoding="utf-8"), weights.METADATA.read_text())


def test_tables_of_the_weights_before_do_not_stay(files):
    publish(**files)
    publish(files["checkpoint"])
    assert metadata()["evaluation"] == metadata()["calibration"] == metadata()["robustness"] == {}
    assert "50.0 [20, 80]" not in publication.CARD.read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", ["checkpoint", "evaluation"])
def test_publishing_what_is_not_there_is_refused(files, missing):
    files[missing].unlink()
    with pytest.raises(StudyError, match="cannot be read"):
        publish(**files)


def test_tables_of_other_weights_are_refused(files):
    content = json.loads(files["evaluation"].read_text())
    files["evaluation"].write_text(json.dumps(content | {"weights": "0" * 64}))
    with pytest.raises(StudyError, match="is about other weights"):
        publish(**files)
    assert not weights.WEIGHTS.exists()  # the weights before are still there


def test_a_table_of_an_older_version_is_refused(files):
    content = json.loads(files["validation"].read_text())
    del content["records"][0]["found"]
    files["validation"].write_text(json.dumps(content))
    with pytest.raises(StudyError, match="of an older version"):
        publish(**files)
