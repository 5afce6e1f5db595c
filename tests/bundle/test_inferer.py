import pytest
import torch

from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.inferer import StudyInferer, pad, padded_size
from lckd.network import LCKDNet

ALL = torch.ones(1, 4, dtype=torch.bool)


@pytest.fixture(scope="module")
def network() -> LCKDNet:
    torch.manual_seed(0)
    return LCKDNet(Encoder((4, 6), (0, 1)), Decoder((4, 6), (1, 1))).eval()


def image(*size: int) -> torch.Tensor:
    return torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_study_that_fits_is_one_window(network):
    inputs = image(16, 24, 16)
    torch.testing.assert_close(StudyInferer(divisor=4)(inputs, network, ALL), network(inputs, ALL))


@torch.no_grad()
@pytest.mark.parametrize("size", [(3, 5, 4), (17, 9, 30)])
def test_any_size_comes_back_as_it_was(network, size):
    assert StudyInferer(divisor=4)(image(*size), network, ALL).shape[2:] == size


@torch.no_grad()
def test_a_large_study_is_done_in_windows(network):
    sizes = []
    handle = network.encoder.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[2:]))
    StudyInferer(window=16, divisor=4)(image(40, 16, 16), network, ALL)
    handle.remove()
    assert len(sizes) == 3
    assert set(sizes) == {(16, 16, 16)}


@torch.no_grad()
def test_flips_make_the_result_symmetric(network):
    inputs = image(16, 16, 16)
    inferer = StudyInferer(divisor=4, flips=True)
    flipped = inferer(inputs.flip(2), network, ALL).flip(2)
    torch.testing.assert_close(inferer(inputs, network, ALL), flipped, rtol=1e-3, atol=1e-4)


def test_padding_reaches_the_padded_size_and_knows_where_the_image_lies():
    inputs = image(5, 9, 8)
    padded, inside = pad(inputs, 4)
    assert padded.shape[2:] == padded_size((5, 9, 8), 4) == (8, 12, 8)
    assert torch.equal(padded[inside], inputs)


@torch.no_grad()
def test_padding_is_that_of_the_sliding_window(network):
    inputs = image(17, 9, 30)
    padded, inside = pad(inputs, 4)
    torch.testing.assert_close(StudyInferer(divisor=4)(inputs, network, ALL), network(padded, ALL)[inside])
