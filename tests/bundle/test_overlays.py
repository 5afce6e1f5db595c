from pathlib import Path

import pytest
import yaml
from monai.bundle import ConfigParser

from lckd.paper_network import PaperEncoder

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "bundle" / "configs" / "train.yaml"
OVERLAYS = sorted((ROOT / "configs" / "train").glob("*.yaml"))


def parser(*files: Path) -> ConfigParser:
    made = ConfigParser()
    made.read_config([str(file) for file in files])
    return made


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda file: file.stem)
def test_every_key_of_an_overlay_exists_in_the_training_config_or_is_used(overlay):
    base, text = parser(TRAIN), overlay.read_text()
    for key in yaml.safe_load(text):
        assert base.get(key.replace("#", "::"), "absent") != "absent" or f"@{key}" in text, key


def test_the_papers_overlay_builds_its_network_and_optimizer():
    made = parser(TRAIN, ROOT / "configs" / "train" / "brats2018.yaml")
    made["network_def::encoder::widths"], made["network_def::encoder::depths"] = [4, 8, 8, 8, 8], [1, 1, 1, 1]
    made["network_def::encoder::width"] = made["network_def::decoder::width"] = 4
    made["network_def::decoder::widths"], made["network_def::decoder::channels"] = [4, 8, 8, 8], [4, 4, 4, 4]
    network = made.get_parsed_content("network_def")
    assert isinstance(network.encoder, PaperEncoder)
    optimizer = made.get_parsed_content("optimizer")
    assert optimizer.defaults["momentum"] == 0.99
    assert made.get_parsed_content("lr_scheduler").get_last_lr() == [0.01]
