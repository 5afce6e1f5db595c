"""Which settings of lckd.gaussian_process answer clicks best, on training studies as networks see them that never did.

python benchmarks/regression_settings.py DATA --committee_weights COMMITTEE/best.pt
python benchmarks/regression_settings.py DATA --committee_weights COMMITTEE/best.pt --settings NEAR=0.3 NOISE=0.2

Of each labelled study of the committee's training data its outsider decodes three subsets; a simulated user with an
unsteady hand then clicks on the middle of the largest mistake of one region. Nothing is chosen on validation studies,
which are too few. Regression alone answers, without the network that is trained on top of it.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor
from tqdm import tqdm

from lckd import gaussian_process
from lckd.click_evaluation import session
from lckd.committee import Committee
from lckd.datalist import find_split
from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.errors import sentences
from lckd.evaluation import table_row
from lckd.inferer import availability_of, pad
from lckd.loading import LoadStudy
from lckd.marks import Marks
from lckd.network import LCKDNet
from lckd.refinement import Decoded, RefinementNet, refine
from lckd.refinement_training import decode_study, trained_network
from lckd.sequences import REGIONS, parse_subset
from lckd.simulated_user import SimulatedUser
from lckd.transforms import label_map_of, preprocessing

SUBSETS = ("flair", "t1", "flair+t2")
CLICKS = 5


def answers(decoded: Decoded) -> Callable[[Marks], Tensor]:
    """What answers marks on the network's grid with a label map: regression, for its network adds nothing yet."""
    network = RefinementNet().eval()

    @torch.inference_mode()
    @torch.autocast("cpu", torch.bfloat16)
    def correct(marks: Marks) -> Tensor:
        return marks.drawn_on(label_map_of(refine(network, decoded, marks) > 0)[0])

    return correct


def decodings(data: Path, committee: Committee, subset: str) -> Iterator[tuple[int, Decoded, Tensor]]:
    """Each study's position, what its outsider sees of it, and its label map ``(X, Y, Z)`` on the same grid."""
    chosen, divisor = parse_subset(subset), committee.networks[0].encoder.divisor
    load = Compose([LoadStudy(chosen), preprocessing(label=True)])
    for position, item in enumerate(find_split(data, "train")):
        study = load(dict(item))
        image, label = (pad(study[key].as_tensor()[None], divisor)[0] for key in ("image", "label"))
        if label.any():
            decoded = decode_study(committee.outsider(position), image, availability_of(chosen), amp=True)
            yield position, decoded, label[0, 0]


def main() -> None:
    """Print mean Dice after each click."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that the committee was trained on, with train/ and val/")
    parser.add_argument("--committee_weights", type=Path, required=True, help="of configs/train/committee.yaml")
    parser.add_argument(
        "--settings", nargs="+", default=[], help="numbers of lckd.gaussian_process to change, as NAME=VALUE"
    )
    options = parser.parse_args()
    for name, _, value in (setting.partition("=") for setting in options.settings):
        if not isinstance(getattr(gaussian_process, name, None), float):
            parser.error(f"lckd.gaussian_process has no number {name}; give NAME=VALUE")
        setattr(gaussian_process, name, float(value))
    members = [LCKDNet(Encoder(squeezed=0), Decoder(squeezed=0)) for _ in range(4)]
    committee = trained_network(Committee(members), str(options.committee_weights))
    dice: dict[str, list[list[float]]] = defaultdict(list)
    for subset in SUBSETS:
        for position, decoded, truth in tqdm(decodings(options.data, committee, subset), desc=subset, unit="study"):
            first = label_map_of(decoded.logits > 0)[0]
            for region in REGIONS:
                user = SimulatedUser(np.random.default_rng(position))
                clicked = session(answers(decoded), first, truth, region, CLICKS, user)
                dice[region].append([value for value, _ in clicked])
    print(table_row(["", *(f"{count} clicks" for count in range(CLICKS + 1))]))
    print(table_row(["---"] * (CLICKS + 2)))
    for region in REGIONS:
        print(table_row([region.upper(), *(f"{100 * value:.1f}" for value in np.mean(dice[region], 0))]))


if __name__ == "__main__":
    with sentences():
        main()
