import pytest
import torch

from lckd import weights
from lckd.decoder import Decoder
from lckd.encoder import Encoder
from lckd.errors import StudyError
from lckd.network import LCKDNet
from lckd.weights import load_weights, metadata, save_weights, sha256_of


def tiny(width: int = 4) -> LCKDNet:
    return LCKDNet(Encoder((width, 6), (0, 1)), Decoder((width, 6), (1, 1)))


def test_saved_weights_come_back_in_half_precision(tmp_path):
    network, other = tiny(), tiny()
    digest = save_weights(network.state_dict(), tmp_path / "model.pt")
    assert load_weights(other, tmp_path / "model.pt") == digest == sha256_of(tmp_path / "model.pt")
    torch.testing.assert_close(other.decoder.head.weight, network.decoder.head.weight, rtol=1e-3, atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_the_same_weights_have_the_same_hash_under_any_name(tmp_path):
    state = tiny().state_dict()
    assert save_weights(state, tmp_path / "a.pt") == save_weights(state, tmp_path / "folder" / "b.pt")


def test_missing_weights_are_said_so(tmp_path):
    with pytest.raises(StudyError, match="are missing"):
        load_weights(tiny(), tmp_path / "nowhere.pt")


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_weights(tiny(8).state_dict(), tmp_path / "model.pt")
    with pytest.raises(StudyError, match="do not fit this network"):
        load_weights(tiny(), tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(StudyError, match="do not fit this network"):
        load_weights(tiny(), tmp_path / "model.pt")


def test_code_hidden_in_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"decoder.head.weight": Evil()}, tmp_path / "model.pt")
    with pytest.raises(StudyError):
        load_weights(tiny(), tmp_path / "model.pt")
    assert not (tmp_path / "pwned").exists()


def test_shipped_weights_of_another_hash_are_refused(tmp_path, monkeypatch):
    save_weights(LCKDNet().state_dict(), tmp_path / "model.pt")
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path / "model.pt")
    with pytest.raises(StudyError, match=r"have SHA-256 [0-9a-f]{64}, metadata\.json says"):
        load_weights(LCKDNet())


def test_the_shipped_weights_are_those_of_the_metadata_and_fit():
    assert load_weights(LCKDNet()) == metadata()["weights"]["sha256"]
    assert weights.WEIGHTS.stat().st_size <= 25e6
