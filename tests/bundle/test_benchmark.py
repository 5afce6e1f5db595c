import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lckd import benchmark
from lckd.__main__ import main
from lckd.benchmark import ALL_SIZES, Benchmark, Settings, parse_sizes
from lckd.benchmark_report import markdown
from lckd.contenders import (
    OURS,
    OURS_ALONE,
    PAPER,
    PAPER_OVERLAP,
    PAPER_WINDOW,
    SEGRESNET,
    builders,
    in_turns,
    ours,
    ours_at_once,
    paper,
    paper_windows,
    segresnet,
)
from lckd.errors import StudyError
from lckd.inferer import StudyInferer
from lckd.processes import run_python
from lckd.segmentation import Segmenter

CPU = torch.device("cpu")
TINY = (32, 32, 32)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple:
    """The folder and the result of every part but the server, as small and as short as can be."""
    output = tmp_path_factory.mktemp("benchmark")
    settings = Settings((TINY,), TINY, threads=1, runs=1, studies=2, device="cpu", precisions=("fp32",))
    with pytest.MonkeyPatch.context() as few:
        few.setattr(benchmark, "BATCHES", (2,))
        few.setattr(benchmark, "AT_ONCE", (1, 3))
        few.setattr(benchmark, "ENLARGED", (1.25,))
        result = Benchmark(output, settings).run(["network", "command", "batch", "growth"])
    return output, result


class TestContenders:
    def test_ours_gives_what_the_segmenter_and_the_network_give(self):
        contender = ours(4, TINY, CPU, "fp32")
        network = Segmenter(device="cpu").network
        with torch.inference_mode():
            expected = network(*contender.inputs)[0]
        torch.testing.assert_close(contender.run(), expected, rtol=1e-3, atol=1e-3)

    def test_a_second_run_finds_nothing_kept(self, monkeypatch):
        contender, kept = ours(1, TINY, CPU, "fp32"), []
        original = Segmenter.infer

        def recorded(self, prepared, warnings):
            kept.append((prepared.features, prepared.decoded))
            return original(self, prepared, warnings)

        monkeypatch.setattr(Segmenter, "infer", recorded)
        contender.run()
        contender.run()
        assert kept == [(None, None)] * 2

    def test_arithmetic_falls_with_missing_sequences(self):
        counted = [ours(count, TINY, CPU, "fp32").gmac() for count in (1, 2, 4)]
        assert counted[0] < counted[1] < counted[2]

    def test_segresnet_is_that_of_the_model_zoo(self):
        contender = segresnet((16, 16, 16), CPU, "fp32")
        assert contender.parameters() == pytest.approx(4.70e6, rel=0.01)
        assert contender.run().shape == (1, 3, 16, 16, 16)

    def test_arithmetic_of_a_convolution_is_counted_once(self):
        contender = segresnet((16, 16, 16), CPU, "fp32")
        first = contender.network.convInit.conv
        alone = type(contender)(contender.run, first, contender.inputs, passes=3)
        assert alone.gmac() == pytest.approx(3 * 27 * 4 * 16 * 16**3 / 1e9)

    def test_twelve_windows_of_the_paper_make_a_study(self):
        assert paper_windows((240, 240, 155)) == 12

    @pytest.mark.parametrize("size", [(144, 176, 144), (32, 200, 90), (161, 160, 81)])
    def test_windows_are_counted_as_they_are_run(self, size):
        windows = []

        def network(image, availability):
            windows.append(tuple(image.shape[2:]))
            return image[:, :3]

        StudyInferer(PAPER_WINDOW, PAPER_OVERLAP, divisor=32)(
            torch.zeros(1, 4, *size), network, torch.ones(1, 4, dtype=torch.bool)
        )
        assert len(windows) == paper_windows(size)

    def test_fewer_windows_are_extrapolated(self, monkeypatch):
        one = paper((32, 32, 100), CPU, "fp32")
        assert (one.passes, one.passes_run) == (2, 1)
        all_of_them = paper((32, 32, 100), CPU, "fp32", every_window=True)
        assert (all_of_them.passes, all_of_them.passes_run) == (2, 2)
        now = iter([0.0, 5.0])
        monkeypatch.setattr("time.perf_counter", lambda: next(now))
        assert type(one)(lambda: None, one.network, one.inputs, passes=6, passes_run=2).seconds() == 15.0

    def test_all_windows_of_the_paper_cover_the_image(self):
        assert paper(TINY, CPU, "fp32", every_window=True).run().shape == (1, 3, *TINY)

    def test_studies_at_once_give_what_each_gives_alone(self):
        contender = ours_at_once(2, TINY, CPU, "fp32")
        with torch.inference_mode():
            alone = contender.network(*(value[:1] for value in contender.inputs))
        logits = contender.run()
        assert logits.shape == (2, 3, *TINY)
        torch.testing.assert_close(logits[1:], alone, rtol=1e-3, atol=1e-3)

    def test_calls_take_turns(self):
        order = []
        calls = {"a": lambda: order.append("a") or len(order), "b": lambda: order.append("b") or len(order)}
        assert in_turns(calls, 2, "test") == {"a": [1, 3], "b": [2, 4]}
        assert order == ["a", "b", "a", "b"]


class TestProcesses:
    def test_what_the_benchmark_holds_is_not_counted(self):
        held = np.ones(50_000_000)  # 400 MB
        finished = run_python(["-c", "print('done')"], threads=1)
        assert held.nbytes > 300e6 > 100e6 > finished.peak_mb * 1e6
        assert finished.said == "done"

    def test_what_the_process_holds_is_counted(self):
        finished = run_python(["-c", "held = b'1' * 200_000_000"], threads=1)
        assert 200 < finished.peak_mb < 300

    def test_seconds_and_threads_are_those_of_the_process(self):
        finished = run_python(["-c", "import os, time; time.sleep(0.3); print(os.environ['OMP_NUM_THREADS'])"], 3)
        assert finished.seconds >= 0.3
        assert finished.said == "3"

    def test_a_failure_is_told_with_its_last_line(self):
        with pytest.raises(StudyError, match="failed: python -c raise ValueError.*: ValueError: broken"):
            run_python(["-c", "raise ValueError('broken')"], threads=1)


class TestOptions:
    def test_sizes(self):
        assert parse_sizes("32,40,48") == ((32, 40, 48),)
        assert parse_sizes("all") == ALL_SIZES

    def test_the_field_of_view_is_that_of_brats(self):
        assert Settings().field == (240, 240, 155)

    @pytest.mark.parametrize(
        ("option", "value", "sentence"),
        [
            ("--size", "144,176", "--size is 144,176; accepted are three numbers of 32 to 512"),
            ("--size", "8,32,32", "--size is 8,32,32; accepted are three numbers of 32 to 512"),
            ("--parts", "network,gpu", "--parts is network,gpu; accepted are network, command"),
            ("--precisions", "int8", "--precisions is int8; accepted are fp32, bf16, fp16"),
            ("--threads", "0", "--threads is 0; accepted is 1 to 1024"),
            ("--device", "tpu", "unknown device 'tpu'"),
        ],
    )
    def test_a_wrong_one_is_refused(self, tmp_path, capsys, option, value, sentence):
        with pytest.raises(SystemExit) as stopped:
            main(["benchmark", "--output", str(tmp_path / "out"), option, value])
        assert stopped.value.code == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_an_output_that_cannot_be_written(self, tmp_path, capsys):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(SystemExit):
            main(["benchmark", "--output", str(tmp_path / "file"), "--parts", "batch"])
        assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
class TestMeasured:
    def test_the_file_holds_the_result(self, measured):
        output, result = measured
        assert {file.name for file in output.iterdir()} == {"benchmark.json", "benchmark.md", "benchmark.png"}
        written = json.loads((output / "benchmark.json").read_text())
        assert written == json.loads(json.dumps(result))
        assert (output / "benchmark.md").read_text() == markdown(written)

    def test_the_picture_shows_something(self, measured):
        picture = np.asarray(Image.open(measured[0] / "benchmark.png").convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50

    def test_networks(self, measured):
        part = measured[1]["network"]["sizes"]["32x32x32"]
        rows = part["contenders"]
        assert list(rows) == list(builders(TINY, CPU, "fp32"))
        for row in rows.values():
            assert row["seconds"]["fp32"]["min"] <= row["best_s"] <= row["seconds"]["fp32"]["max"]
            assert row["gflop_s"] == pytest.approx(2 * row["gmac"] / row["best_s"], abs=0.1)
            assert row["cold_s"] > 0 and row["peak_mb"] > 100
        peak = max(part["peaks_gflop_s"]["fp32"].values())
        assert rows[OURS]["share_of_peak"] == pytest.approx(rows[OURS]["gflop_s"] / peak, abs=0.01)
        ratios = part["ratios"]
        assert ratios["SegResNet / ours"] == pytest.approx(rows[SEGRESNET]["best_s"] / rows[OURS]["best_s"], abs=1e-3)
        assert ratios["paper's / ours"] == pytest.approx(rows[PAPER]["best_s"] / rows[OURS]["best_s"], abs=1e-3)
        alone = rows[OURS_ALONE]["best_s"] / rows[OURS]["best_s"]
        assert ratios["one / four sequences"] == pytest.approx(alone, abs=1e-3)
        assert rows[PAPER]["gmac"] > rows[SEGRESNET]["gmac"] > rows[OURS]["gmac"] > rows[OURS_ALONE]["gmac"]

    def test_commands(self, measured):
        command = measured[1]["command"]
        assert set(command) == {"4 sequences", "1 sequence", "--help"}
        steps = command["4 sequences"]["steps_of_last_s"]
        assert 0 < steps["network"] < steps["total"] < command["4 sequences"]["seconds"]["max"]

    def test_a_batch(self, measured):
        batch = measured[1]["batch"]
        assert batch["studies_per_hour"] == pytest.approx(3600 * 2 / batch["seconds"], rel=0.01)

    def test_growth(self, measured):
        growth = measured[1]["growth"]
        assert [point["at"] for point in growth["sequences"]] == [1, 2, 3, 4]
        assert [point["at"] for point in growth["studies"]] == [2]
        assert [point["at"] for point in growth["million voxels"]] == [0.064]
        assert [point["at"] for point in growth["studies at once"]] == [1, 3]
        studies = growth["studies"][0]
        assert studies["studies_per_hour"] == pytest.approx(3600 * 2 / studies["seconds"]["median"], abs=1)
        assert all(point["seconds"]["min"] > 0 for points in growth.values() for point in points)


@pytest.mark.slow
def test_the_server_answers_a_stock_client(tmp_path, capsys):
    pytest.importorskip("monailabel", reason="MONAI Label is not installed: make .venv/server.done")
    tiny = ["--size", "32,32,32", "--runs", "1", "--threads", "1", "--device", "cpu"]
    main(["benchmark", "--output", str(tmp_path), "--parts", "server", *tiny])
    server = json.loads((tmp_path / "benchmark.json").read_text())["server"]
    for study in ("4_sequences", "1_sequence"):
        figures = server["studies"][study]
        assert min(figures["first_s"], figures["again"]["min"], figures["click"]["min"]) > 0
    assert "server, 4 sequences: first" in capsys.readouterr().out


def test_without_a_server_its_part_is_skipped_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "monailabel.client.client", None)
    monkeypatch.delitem(sys.modules, "lckd.benchmark_server", raising=False)
    settings = Settings((TINY,), TINY, threads=1, runs=1, device="cpu")
    result = Benchmark(tmp_path, settings).run(["server"])
    assert "is not installed" in result["server"]["skipped"]
    assert "Not measured" in (tmp_path / "benchmark.md").read_text()
