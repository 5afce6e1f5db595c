import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from lckd.blocks import Conv, depth_to_space, interpolate, normalize_instances, space_to_depth
from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.filling import fill, fuse
from lckd.inferer import availability_of, decode_subset, encode_study
from lckd.network import LCKDNet
from lckd.sequences import SEQUENCES, SUBSETS

WIDTHS, BLOCKS = (4, 6), (1, 1)


@pytest.fixture
def network() -> LCKDNet:
    torch.manual_seed(0)
    return LCKDNet(Encoder(WIDTHS, BLOCKS), Decoder(WIDTHS, BLOCKS)).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, 4, 8, 12, 8, generator=torch.Generator().manual_seed(1))


AVAILABILITY = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]], dtype=torch.bool)


@torch.no_grad()
@pytest.mark.parametrize("rubbish", [1e9, float("nan"), -3.0])
def test_a_missing_sequence_changes_not_a_bit(network, image, rubbish):
    spoilt = torch.where(AVAILABILITY[:, :, None, None, None], image, torch.tensor(rubbish))
    assert torch.equal(network(image, AVAILABILITY), network(spoilt, AVAILABILITY))


@torch.no_grad()
def test_without_availability_an_all_zero_channel_is_missing(network, image):
    zeroed = image * AVAILABILITY[:, :, None, None, None]
    assert torch.equal(network(zeroed), network(image, AVAILABILITY))


@torch.no_grad()
def test_permuting_the_batch_permutes_the_logits(network, image):
    order = [2, 0, 1]
    torch.testing.assert_close(network(image[order], AVAILABILITY[order]), network(image, AVAILABILITY)[order])


@torch.no_grad()
def test_a_study_gets_the_same_logits_alone_as_in_a_batch(network, image):
    torch.testing.assert_close(network(image[:1], AVAILABILITY[:1]), network(image, AVAILABILITY)[:1])


def test_a_missing_sequence_is_filled_with_the_mean_of_the_available():
    features = torch.arange(6.0).reshape(3, 2, 1, 1, 1)  # flair and t1ce of study 0, t2 of study 1
    availability = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    expected = [[[0, 1], [1, 2], [2, 3], [1, 2]], [[4, 5]] * 4]
    assert fill(features, availability).flatten(2).tolist() == expected


def test_fusing_is_a_convolution_over_the_filled_sequences():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(int(AVAILABILITY.sum()), 5, 2, 3, 4, generator=generator)
    weight, bias = torch.randn(6, 20, 1, 1, 1, generator=generator), torch.randn(6, generator=generator)
    expected = torch.nn.functional.conv3d(fill(features, AVAILABILITY).flatten(1, 2), weight, bias)
    torch.testing.assert_close(fuse(features, AVAILABILITY, weight, bias), expected)


def test_a_study_without_any_sequence_is_refused(network, image):
    with pytest.raises(ValueError, match="no available sequence"):
        network(image, torch.zeros(3, 4, dtype=torch.bool))


@torch.no_grad()
@pytest.mark.parametrize("subset", SUBSETS)
def test_kept_features_decode_to_the_same_logits_as_a_fresh_run(network, image, subset):
    features = encode_study(network, image[:1], torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(decode_subset(network, features, subset), network(image[:1], availability_of(subset)))


@torch.no_grad()
def test_cost_falls_with_the_number_of_sequences():
    network, image, operations = LCKDNet().eval(), torch.zeros(1, 4, 32, 32, 32), []
    for count in range(1, 5):
        with FlopCounterMode(display=False) as counter:
            network(image, torch.arange(4)[None] < count)
        operations.append(counter.get_total_flops())
    assert operations == sorted(operations)
    assert operations[0] < 0.45 * operations[3]


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_is_the_same_with_and_without_a_gradient(kernel):
    layer = Conv(6, 5, kernel, padding=kernel // 2, stride=kernel // 2 + 1)
    features = torch.randn(1, 6, 9, 7, 5)
    expected = layer(features)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        with torch.inference_mode():
            found = layer.to(memory_format=layout)(features.contiguous(memory_format=layout))
        torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "size"), [(24, (2, 3, 4)), (24, (3, 3, 3)), (32, (2, 3, 4)), (8, (4, 1, 1))])
def test_cubes_are_unfolded_alike_however_they_lie_in_memory(channels, size, precision):
    features = torch.randn(2, channels, *size).to(precision)
    last = features.to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        assert torch.equal(depth_to_space(last), depth_to_space(features))
        assert torch.equal(space_to_depth(depth_to_space(last)), features)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_interpolation_is_trilinear_however_channels_lie_in_memory(layout):
    features = torch.randn(2, 6, 3, 4, 5)
    with torch.no_grad():
        found = interpolate(features.to(memory_format=layout), [6, 8, 10])
    assert torch.allclose(found, F.interpolate(features, [6, 8, 10], mode="trilinear"), atol=1e-6)


@pytest.mark.parametrize("size", [(8, 6, 6), (5, 5, 5)])  # a number of voxels that four divides, and one it does not
@pytest.mark.parametrize("channels", [24, 32])
@pytest.mark.parametrize(("precision", "error"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_normalization_is_exact_however_channels_lie_in_memory(channels, size, precision, error):
    torch.manual_seed(3)
    features = (torch.randn(1, channels, *size) * 3 + 5 * torch.randn(channels, 1, 1, 1)).to(precision)
    weight, bias = torch.rand(1, channels) + 0.5, torch.randn(1, channels)
    exact = F.instance_norm(features.double(), weight=weight[0].double(), bias=bias[0].double())
    with torch.no_grad():
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            found = normalize_instances(features.to(memory_format=layout), weight, bias)
            assert found.dtype == precision
            assert (found - exact).abs().max() < error * exact.abs().max()


def test_the_default_network_has_at_most_6_million_parameters():
    assert sum(parameter.numel() for parameter in LCKDNet().parameters()) <= 6e6


@torch.no_grad()
def test_the_sequence_matters_even_for_the_same_voxels(network, image):
    same = image[:1, :1].expand(1, 4, -1, -1, -1)
    network.encoder.norms[0].weight[SEQUENCES.index("t2")] *= 2
    flair, t2 = (network(same, availability_of([name])) for name in ("flair", "t2"))
    assert not torch.allclose(flair, t2)


@torch.no_grad()
def test_a_full_resolution_variant_gives_logits_of_the_same_size(image):
    network = LCKDNet(Encoder(WIDTHS, BLOCKS, full_resolution=True), Decoder(WIDTHS, BLOCKS, full_resolution=True))
    assert network.eval()(image, AVAILABILITY).shape == (3, 3, 8, 12, 8)


def test_training_supervises_coarser_scales_too():
    network = LCKDNet(Encoder((2, 4, 6), (0, 1, 1)), Decoder((2, 4, 6), (1, 1, 1)))
    availability = torch.ones(1, 4, dtype=torch.bool)
    outputs = network.decode(network.encode(torch.randn(1, 4, 16, 16, 16), availability), availability)
    assert [tuple(output.shape[1:]) for output in outputs] == [(3, 16, 16, 16), (3, 4, 4, 4)]


@torch.no_grad()
def test_the_scripted_network_computes_the_same(network, image):
    torch.testing.assert_close(torch.jit.script(network)(image, AVAILABILITY), network(image, AVAILABILITY))
