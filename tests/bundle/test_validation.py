import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.metrics import compute_dice

from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.inferer import availability_of, pad
from lckd.network import LCKDNet
from lckd.sequences import SUBSETS, subset_name
from lckd.transforms import label_map_of, regions_of
from lckd.validation import MeanSubsetDice, ValidationStep


@pytest.fixture
def network() -> LCKDNet:
    torch.manual_seed(0)
    return LCKDNet(Encoder((4, 6), (0, 1)), Decoder((4, 6), (1, 1))).eval()


def study(seed: int, subset=SUBSETS[-1]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label_map = torch.randint(0, 4, (1, 9, 8, 10), generator=generator)
    image = torch.randn(4, 9, 8, 10, generator=generator)
    return {"image": image, "label": regions_of(label_map).float(), "availability": availability_of(subset)[0]}


def evaluate(network, studies):
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(studies, batch_size=1),
        network=network,
        iteration_update=ValidationStep(divisor=4, precision="fp32"),
        key_val_metric={"mean_dice": MeanSubsetDice()},
        decollate=False,
    )
    evaluator.run()
    return evaluator.state


def test_the_table_has_the_15_subsets(network):
    state = evaluate(network, [study(0), study(1)])
    assert list(state.subset_dice) == [subset_name(subset) for subset in SUBSETS]
    cells = [dice for row in state.subset_dice.values() for dice in row.values()]
    assert state.metrics["mean_dice"] == pytest.approx(sum(cells) / 45)


@torch.no_grad()
def test_a_cell_is_the_dice_of_that_subset(network):
    item = study(0)
    padded, inside = pad(item["image"][None], 4)
    logits = network(padded, availability_of(("flair", "t2")))[inside]
    expected = compute_dice(regions_of(label_map_of(logits > 0)), item["label"][None])[0]
    cell = evaluate(network, [item]).subset_dice["flair+t2"]
    assert list(cell.values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_study_that_lacks_a_sequence_counts_where_it_can(network):
    both, whole = evaluate(network, [study(0), study(1, ("flair", "t1"))]), evaluate(network, [study(0)])
    assert both.subset_dice["t2"] == whole.subset_dice["t2"]
    assert both.subset_dice["t1"] != whole.subset_dice["t1"]
