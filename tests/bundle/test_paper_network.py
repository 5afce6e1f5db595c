import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lckd.losses import SegmentationLoss
from lckd.network import LCKDNet
from lckd.paper_network import ASPP, PaperDecoder, PaperEncoder, StandardizedConv3d

AVAILABILITY = torch.tensor([[True, False, True, False]])


@pytest.fixture
def network() -> LCKDNet:
    torch.manual_seed(0)
    encoder = PaperEncoder(widths=(4, 8, 8), depths=(1, 1), width=4)
    return LCKDNet(encoder, PaperDecoder(widths=(4, 8), width=4, channels=(4, 4)))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(1, 4, 16, 16, 8, generator=torch.Generator().manual_seed(1))


def test_logits_have_the_images_size(network, image):
    assert network(image, AVAILABILITY).shape == (1, 3, 16, 16, 8)


@torch.no_grad()
def test_a_missing_sequence_changes_not_a_bit(network, image):
    spoilt = torch.where(AVAILABILITY[:, :, None, None, None], image, torch.tensor(float("nan")))
    assert torch.equal(network(image, AVAILABILITY), network(spoilt, AVAILABILITY))


def test_its_size_is_the_papers():
    with torch.device("meta"):
        parameters = sum(p.numel() for part in (PaperEncoder(), PaperDecoder()) for p in part.parameters())
    assert 42e6 < parameters < 45.5e6


def test_its_cost_is_the_papers_and_falls_with_what_is_missing(monkeypatch):
    # Filling costs no multiplications, and needs values, which the meta device does not have.
    filled = lambda scale, availability: scale.new_empty(1, 4, *scale.shape[1:])  # noqa: E731
    monkeypatch.setattr("lckd.paper_network.fill", filled)
    with torch.device("meta"):
        encoder, decoder = PaperEncoder(), PaperDecoder()
        gmac = {}
        for count in (1, 4):
            with FlopCounterMode(display=False) as counter:
                features = encoder(torch.empty(count, 1, 160, 160, 80), torch.zeros(count, dtype=torch.long))
                decoder(features, torch.empty(1, 4, dtype=torch.bool))
            gmac[count] = counter.get_total_flops() / 2e9
    assert gmac[4] == pytest.approx(377, rel=0.05)  # counted on the reference implementation
    assert gmac[1] < 0.45 * gmac[4]


def test_a_few_steps_lower_the_loss(network, image):
    target = torch.zeros(1, 3, 16, 16, 8)
    target[..., 4:12, 4:12, 2:6] = 1
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(25):
        loss = SegmentationLoss()([network(image, AVAILABILITY)], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@torch.no_grad()
def test_the_image_pooling_branch_is_alive():
    torch.manual_seed(0)
    aspp, features = ASPP(4, 4), torch.randn(1, 4, 4, 4, 4)
    before = aspp(features)
    aspp.image.weight.mul_(3)
    assert not torch.allclose(before, aspp(features))


def test_kernels_are_standardized():
    kernels = StandardizedConv3d(3, 5, 3).standardized().flatten(1)
    torch.testing.assert_close(kernels.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(kernels.var(1, unbiased=False), torch.ones(5), atol=1e-2, rtol=0)
