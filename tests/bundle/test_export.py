"""The network in two parts: as ONNX files, as TensorRT is given them, and in inference_trt.yaml."""

from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.networks.trt_compiler import get_dynamic_axes
from torch import Tensor, nn

from lckd.datalist import find_studies
from lckd.errors import StudyError
from lckd.export import EngineDecoder, EngineEncoder, export_onnx, parts, with_engines
from lckd.inferer import availability_of, decode_subset, encode_study, join_features
from lckd.network import LCKDNet
from lckd.refinement import Decoded, decode
from lckd.segmentation import Segmenter
from lckd.sequences import SEQUENCES, SUBSETS
from lckd.simulation import write_study

ROOT = Path(__file__).resolve().parents[2]
INFERENCE = ROOT / "bundle" / "configs" / "inference.yaml"
OVERLAY = ROOT / "bundle" / "configs" / "inference_trt.yaml"
ALL = torch.ones(1, len(SEQUENCES), dtype=torch.bool)

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def workflow(run_id: str, output_dir: Path, **options: str) -> ConfigWorkflow:
    """What ``python -m monai.bundle run`` makes of inference.yaml and the overlay."""
    files, options = [str(INFERENCE), str(OVERLAY)], options | {"output_dir": str(output_dir)}
    made = ConfigWorkflow(config_file=files, logging_file=False, run_id=run_id, workflow_type="infer", **options)
    made.initialize()
    return made


class OnnxEngine(nn.Module):
    """An ONNX file in ONNX Runtime; like MONAI's engines it writes into the same memory at every call."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(file), options)
        self.results: list[Tensor] = []

    def forward(self, *inputs: Tensor | list[Tensor]) -> list[Tensor]:
        flat = [tensor for given in inputs for tensor in (given if isinstance(given, list) else [given])]
        names = [given.name for given in self.session.get_inputs()]
        found = self.session.run(None, {name: tensor.numpy() for name, tensor in zip(names, flat, strict=True)})
        if [result.shape for result in self.results] != [array.shape for array in found]:
            self.results = [torch.from_numpy(array).clone() for array in found]
        for result, array in zip(self.results, found, strict=True):
            result.copy_(torch.from_numpy(array))
        return self.results


@pytest.fixture(scope="module")
def network() -> LCKDNet:
    """The shipped network in plain torch."""
    return Segmenter(device="cpu", precision="fp32").network


@pytest.fixture(scope="module")
def engines(tmp_path_factory) -> LCKDNet:
    """The same with its exported parts in ONNX Runtime."""
    folder, segmenter = tmp_path_factory.mktemp("onnx"), Segmenter(device="cpu", precision="fp32")
    workflow("export", folder, device="cpu", precision="fp32").run()
    encoder = EngineEncoder(OnnxEngine(folder / "encoder.onnx"))
    decoder = EngineDecoder(OnnxEngine(folder / "decoder.onnx"), segmenter.network.decoder)
    return LCKDNet(encoder, decoder).eval()


@pytest.mark.parametrize("size", [(32, 48, 64), (80, 32, 48)], ids=str)
def test_the_exported_parts_give_every_subsets_logits(network, engines, size):
    image = 2 * torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = (encode_study(one, image, ALL) for one in (network, engines))
        for subset in SUBSETS:
            logits = decode_subset(network, expected, subset)
            assert logits.std() > 1  # far above the tolerance
            torch.testing.assert_close(decode_subset(engines, found, subset), logits, rtol=1e-4, atol=3e-4)


def test_what_refinement_needs_of_the_decoder_is_kept_too(network, engines):
    image = torch.randn(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected, found = (decode_in_turn(one, image, [("flair",), ("t1", "t2")]) for one in (network, engines))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other.features, one.features, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(other.logits, one.logits, rtol=1e-4, atol=3e-4)


def decode_in_turn(network: LCKDNet, image: Tensor, subsets: list[tuple[str, ...]]) -> list[Decoded]:
    features = encode_study(network, image, ALL)
    return [decode(network, join_features(features, subset), availability_of(subset)) for subset in subsets]


def test_the_profiles_hold_the_shapes_of_the_largest_window(network):
    largest = (64, 32, 48)
    made = parts(network, largest)
    with torch.inference_mode():
        features = network.encode(torch.randn(1, 4, *largest), ALL)
    assert [shapes[2] for shapes in made["decoder"].profile.values()] == [list(scale.shape) for scale in features]
    assert made["encoder"].profile["image"] == [[1, 1, 32, 32, 32], [1, 1, 64, 32, 48], [1, 1, 64, 32, 48]]


def test_only_the_images_size_varies(network):
    for part in parts(network, (192, 192, 192)).values():
        assert set(map(tuple, get_dynamic_axes([part.profile]).values())) == {(2, 3, 4)}


def test_every_key_of_the_overlay_exists_or_is_used():
    base, text = ConfigParser(), OVERLAY.read_text()
    base.read_config(str(INFERENCE))
    for key in yaml.safe_load(text):
        known = base.get(key.lstrip("+").replace("#", "::"), "absent") != "absent"
        assert known or f"@{key}" in text or key == "export", key


@without_gpu
def test_without_a_gpu_one_sentence_says_so(tmp_path):
    with pytest.raises(StudyError, match=r"TensorRT engines need an NVIDIA GPU .*; leave inference_trt.yaml away"):
        with_engines(Segmenter(device="cpu"), tmp_path / "engines")
    assert not list(tmp_path.iterdir())


@without_gpu
def test_the_overlay_ends_in_that_sentence(small_study, tmp_path, capsys):
    write_study(small_study, tmp_path / "study")
    with pytest.raises(SystemExit) as ended:
        workflow("inference", tmp_path / "out", dataset_dir=str(tmp_path / "study")).run()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("lckd: TensorRT engines need an NVIDIA GPU")


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StudyError, match="cannot be written"):
        export_onnx(Segmenter(device="cpu"), tmp_path / "file")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.slow
def test_tensorrt_segments_as_torch_does(small_study, tmp_path):
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    write_study(small_study, tmp_path / "study", sequences=("flair", "t2"))
    (item,) = find_studies(tmp_path / "study")
    plain, engines = (Segmenter(device="cuda", precision="fp32") for _ in range(2))
    found = with_engines(engines, tmp_path / "engines")(item)
    torch.testing.assert_close(found.probabilities, plain(item).probabilities, rtol=0, atol=2e-2)
