"""The real config on simulated studies and tiny networks."""

import json

import pytest
import torch

from lckd.committee import Committee
from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.interaction import Refiner
from lckd.network import LCKDNet
from lckd.refinement import RefinementNet
from lckd.training import run_training
from lckd.weights import save_weights

TINY = {"widths": [4, 6], "blocks": [0, 1]}


@pytest.fixture(scope="module")
def trained(dataset_dir, tmp_path_factory):
    """A folder after two iterations over a tiny network with random weights."""
    folder = tmp_path_factory.mktemp("refinement")
    torch.manual_seed(0)
    network = LCKDNet(Encoder(**TINY), Decoder(widths=[4, 6], blocks=[1, 1]))
    save_weights(network.state_dict(), folder / "network.pt")
    save_weights(Committee([network, network]).state_dict(), folder / "committee.pt")
    definition = {
        "_target_": "lckd.network.LCKDNet",
        "encoder": {"_target_": "lckd.encoder.Encoder", **TINY},
        "decoder": {"_target_": "lckd.decoder.Decoder", "widths": [4, 6], "blocks": [1, 1]},
    }
    settings = {
        "trained_weights": str(folder / "network.pt"),
        "trained_network#network": definition,
        "committee_weights": str(folder / "committee.pt"),
        "committee#network#members": [definition, definition],
        "divisor": 16,  # as of the real network: sides of the refinement are multiples of 8
        "network_def#widths": [4, 6, 8],
        "iterations": 2,
        "iterations_per_epoch": 1,
        "val_interval": 1,
        "precision": "fp32",
        "device": "cpu",
    }
    run_training(dataset_dir, folder / "run", ["configs/train/refinement.yaml"], settings)
    return folder / "run"


def test_it_learns_and_is_validated_on_what_clicks_bring(trained):
    history = json.loads((trained / "history.json").read_text())
    assert history["epoch"] == 2 and list(history["validations"]) == ["0", "1", "2"]
    assert set(history["validations"]["2"]["subsets"]) == {"flair", "t1", "flair+t2", "flair+t1+t1ce+t2"}
    state = torch.load(trained / "last.pt", weights_only=True)["network"]
    assert state["head.weight"].abs().max() > 0  # it started at zero


def test_its_best_weights_are_a_refiner_s(trained):
    network = RefinementNet((4, 6, 8))
    Refiner(network, trained / "best.pt")
    assert torch.load(trained / "best.pt", weights_only=True)["provenance"]["studies"] == 2


def test_weights_that_are_no_committees_end_in_a_sentence(dataset_dir, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_training(dataset_dir, tmp_path / "run", ["configs/train/refinement.yaml"])
    assert "do not fit this network" in capsys.readouterr().err
