"""The command line: one verb per task."""

import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lckd import __version__
from lckd.errors import StudyError, sentences


def segment(
    *studies: str,
    output: str,
    flair: str | None = None,
    t1: str | None = None,
    t1ce: str | None = None,
    t2: str | None = None,
    channels: str | None = None,
    sequences: str | None = None,
    labels: str = "standard",
    probabilities: bool = False,
    preview: bool = True,
    device: str = "auto",
    precision: str = "auto",
    window: int | None = 192,
    overlap: float = 0.25,
    flips: bool = False,
    weights: str | None = None,
) -> None:
    """Segment gliomas in studies with any subset of FLAIR, T1, T1ce and T2.

    Images are expected skull-stripped and co-registered. Each study gets a folder with
    segmentation.nii.gz (1 necrotic core, 2 oedema, 3 enhancing tumour), report.json and preview.png.

    Examples:
        lckd segment STUDY_FOLDER --output OUT
        lckd segment --flair a.nii.gz --t1ce b.nii.gz --output OUT

    Args:
        studies: study folders, folders of study folders, data lists (.json) or 4-D NIfTI files.
        output: folder for the results, made if missing.
        flair: file of the FLAIR of a single study; likewise the next three.
        t1: file of the T1 without contrast.
        t1ce: file of the T1 with contrast.
        t2: file of the T2.
        channels: names of the channels of 4-D files, in order, e.g. flair,t1,t1ce,t2.
        sequences: use only these, e.g. flair+t2.
        labels: standard (1, 2, 3) or brats (1, 2, 4).
        probabilities: also write the probabilities of each region.
        preview: draw preview.png; --nopreview saves its time.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, fp32, bf16 or fp16.
        window: largest window in voxels per axis; smaller ones need less memory.
        overlap: fraction that neighbouring windows share, 0 to 0.9.
        flips: average over the study and its mirror image, for twice the time.
        weights: other weights than the shipped ones.
    """
    from lckd.datalist import find_studies, refuse_equal_ids, study_from_files
    from lckd.inferer import StudyInferer
    from lckd.loading import LoadStudy
    from lckd.outputs import Batch, StudyWriter
    from lckd.segmentation import Segmenter
    from lckd.sequences import SEQUENCES, parse_subset

    overlap = _number("overlap", overlap, 0, 0.9)
    largest = None if window in (None, "None") else int(_number("window", window, 32, 4096))
    files = {name: path for name, path in zip(SEQUENCES, (flair, t1, t1ce, t2), strict=True) if path is not None}
    names = None if channels is None else channels.split(",")
    items = [item for path in studies for item in find_studies(path, channels=names)]
    items += [study_from_files(files)] if files else []
    if not items:
        raise StudyError("no study was given; name a folder, a data list or files, as in --flair a.nii.gz")
    refuse_equal_ids(items)
    writer = StudyWriter(output, labels, probabilities, preview)
    segmenter = Segmenter(
        weights=weights,
        inferer=StudyInferer(largest, overlap, flips=flips),
        loading=LoadStudy(None if sequences is None else parse_subset(sequences)),
        device=device,
        precision=precision,
    )
    Batch(segmenter, writer).run(items)


def evaluate(
    studies: str,
    *,
    output: str,
    weights: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    flips: bool = False,
    postprocessing: bool = True,
) -> None:
    """Dice and HD95 of the 15 subsets on labelled studies: JSON, CSV, Markdown table and heat map.

    Args:
        studies: a folder of study folders with label maps, or a data list.
        output: folder for the tables.
        weights: other weights than the shipped ones.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, fp32, bf16 or fp16.
        flips: as in segmentation.
        postprocessing: as in segmentation; --nopostprocessing scores the thresholded probabilities.
    """
    from lckd.datalist import find_studies
    from lckd.inferer import StudyInferer
    from lckd.postprocessing import NO_POSTPROCESSING
    from lckd.segmentation import Segmenter
    from lckd.subset_evaluation import SubsetEvaluation

    segmenter = Segmenter(
        weights=weights,
        device=device,
        precision=precision,
        inferer=StudyInferer(flips=flips),
        postprocessing=None if postprocessing else NO_POSTPROCESSING,
    )
    SubsetEvaluation(segmenter, output).run(find_studies(studies))


def evaluate_clicks(
    studies: str,
    *,
    output: str,
    clicks: int = 10,
    weights: str | None = None,
    refinement: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> None:
    """Dice after each click of a simulated user, for four subsets and each region: JSON, CSV, Markdown table and plot.

    Args:
        studies: a folder of study folders with label maps, or a data list.
        output: folder for the tables.
        clicks: per region.
        weights: other weights of the network than the shipped ones.
        refinement: other weights of the refinement than the shipped ones.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, fp32, bf16 or fp16.
    """
    from lckd.click_evaluation import ClickEvaluation
    from lckd.datalist import find_studies
    from lckd.interaction import Refiner
    from lckd.segmentation import Segmenter

    count = int(_number("clicks", clicks, 1, 100))
    segmenter = Segmenter(weights=weights, device=device, precision=precision)
    ClickEvaluation(segmenter, Refiner(weights=refinement), output, clicks=count).run(find_studies(studies))


def demo(output: str = "demo", seed: int = 0, missing: str = "t1ce") -> None:
    """Simulate a glioma study, take a sequence away, segment the rest and compare with the truth.

    Args:
        output: folder for the simulated study and its segmentation.
        seed: of the simulated brain and tumour.
        missing: the sequences that are taken away, e.g. t1ce or t1+t2.
    """
    from lckd.demo import run_demo
    from lckd.sequences import parse_subset

    run_demo(Path(output), int(_number("seed", seed, 0, 2**31)), parse_subset(missing))


def simulate(
    output: str,
    *,
    count: int = 1,
    seed: int = 0,
    tumour_ml: float | None = None,
    sequences: str | None = None,
    dicom: bool = False,
) -> None:
    """Write simulated studies with their label maps, one folder each; no patient's image is in them.

    Examples:
        lckd simulate STUDIES --count 3
        lckd simulate DATA/train --count 8 --seed 1000 --tumour_ml 0
        lckd simulate EXPORT --dicom

    Args:
        output: folder for the study folders, made if missing.
        count: how many.
        seed: of the first one; the next has the next seed.
        tumour_ml: volume of the whole tumour, 0 for healthy brains; drawn if not given.
        sequences: write only these, e.g. flair+t2.
        dicom: write them as a PACS exports them: moved heads in thick slices, useless series; no label map.
    """
    from tqdm import tqdm

    from lckd.sequences import SEQUENCES, parse_subset
    from lckd.simulation import simulate_study, write_study

    subset = SEQUENCES if sequences is None else parse_subset(sequences)
    first, volume = int(_number("seed", seed, 0, 2**31)), tumour_ml
    if volume is not None:
        volume = _number("tumour_ml", volume, 0, 1000)
    as_dicom = _flag("dicom", dicom)
    for number in tqdm(range(first, first + int(_number("count", count, 1, 10_000))), unit="study"):
        study, folder = simulate_study(seed=number, tumour_volume_ml=volume), Path(output) / f"simulated_{number:05}"
        if as_dicom:
            from lckd.pacs.simulated_export import write_export

            write_export(study, folder, subset, motion_degrees=4, motion_mm=6, seed=number)
        else:
            write_study(study, folder, sequences=subset)


def pacs(
    export: str,
    *,
    output: str | None = None,
    dry_run: bool = False,
    override: str | None = None,
    rules: str | None = None,
    accept_low_confidence: bool = False,
    sequences: str | None = None,
    mask: str | None = None,
    seg_type: str = "binary",
    rtstruct: bool = False,
    jobs: int = 1,
    device: str = "auto",
    precision: str = "auto",
    weights: str | None = None,
    send: str | None = None,
    stow: str | None = None,
) -> None:
    """Segment the studies of a PACS export: DICOM in; DICOM SEG, NIfTI, report and pictures out.

    Exit codes: 0 all is fine, 1 a study failed, 2 a mistake in the call, 3 a study needs review.

    Examples:
        lckd pacs EXPORT --dry-run
        lckd pacs EXPORT --output OUT
        lckd pacs EXPORT --output OUT --override SERIES.yaml --send pacs.hospital:104/ARCHIVE

    Args:
        export: folder, .zip, DICOMDIR or DICOM file, with one or many studies.
        output: folder for the results, made if missing; what is finished in it is not done again.
        dry_run: only say which series would be used and why; with --output also as JSON and CSV.
        override: file that says what series are: YAML, JSON or CSV.
        rules: file with a site's own words for its series, YAML.
        accept_low_confidence: use studies that would otherwise need review.
        sequences: use only these, e.g. flair+t2.
        mask: brain mask of a single study, on the grid of its reference series or any other in its world.
        seg_type: binary, which every viewer reads, or labelmap.
        rtstruct: write the contours for radiotherapy, too, as rtstruct.dcm.
        jobs: studies at a time, each in a process of its own.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, fp32, bf16 or fp16.
        weights: other weights than the shipped ones.
        send: send each DICOM SEG and RTSTRUCT by C-STORE, to HOST:PORT/AET.
        stow: send each DICOM SEG and RTSTRUCT by STOW-RS, to the URL of a DICOMweb service.
    """
    try:
        from lckd.pacs.command import run_pacs
    except ImportError as error:
        raise StudyError(f"{error.name} is missing; install what pacs needs with pip install 'lckd[pacs]'") from error
    code = run_pacs(
        export,
        output=output,
        dry=_flag("dry_run", dry_run),
        override=override,
        rules=rules,
        accept_low_confidence=_flag("accept_low_confidence", accept_low_confidence),
        sequences=sequences,
        mask=mask,
        seg_type=seg_type,
        rtstruct=_flag("rtstruct", rtstruct),
        jobs=int(_number("jobs", jobs, 1, 256)),
        device=device,
        precision=precision,
        weights=weights,
        send=send,
        stow=stow,
    )
    if code:
        sys.exit(code)


def robustness(
    studies: str, *, output: str, weights: str | None = None, device: str = "auto", precision: str = "auto"
) -> None:
    """Dice under thick slices, noise, rotation and the like, and what is found in healthy brains.

    Args:
        studies: a folder of study folders with label maps, or a data list.
        output: folder for the tables.
        weights: other weights than the shipped ones.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, fp32, bf16 or fp16.
    """
    from lckd.datalist import find_studies
    from lckd.robustness import RobustnessTest
    from lckd.segmentation import Segmenter

    segmenter = Segmenter(weights=weights, device=device, precision=precision)
    RobustnessTest(segmenter, output).run(find_studies(studies))


def train(data: str, *, output: str, config: str | None = None, **settings: Any) -> None:
    """Train on labelled studies with any sequences; goes on where an earlier run in the same folder stopped.

    The same as monai.bundle run training with the bundle's train.yaml.

    Examples:
        lckd train DATA --output RUN
        lckd train DATA --output RUN --config configs/train/brats2018.yaml --device cuda:0 --iterations 20000

    Args:
        data: folder with train/ and val/, each a folder of study folders with label maps.
        output: folder for checkpoints and logs.
        config: overlays on train.yaml, joined by commas. They are code: use only those you trust.
        settings: any key of train.yaml, e.g. --seed 1 --iterations 2000 --initial_weights best.pt.
    """
    from lckd.training import run_training

    run_training(data, output, config.split(",") if config else [], settings)


def benchmark(
    *,
    output: str,
    parts: str = "network,command,batch,server,growth",
    size: str = "144,176,144",
    threads: int = 2,
    runs: int = 5,
    studies: int = 12,
    device: str = "auto",
    precisions: str = "fp32,bf16",
    all_windows: bool = False,
) -> None:
    """Measure speed and memory on this machine, side by side with other networks: JSON, Markdown tables and a figure.

    Wants an otherwise idle machine. All studies are simulated.

    Examples:
        lckd benchmark --output OUT
        lckd benchmark --output OUT --parts network --size all --precisions fp32

    Args:
        output: folder for benchmark.json, benchmark.md and benchmark.png.
        parts: network (beside MONAI's SegResNet and the paper's), command, batch, server and growth.
        size: voxels of the image and of the brain in simulated studies, or all for three images.
        threads: of the processor.
        runs: of each figure; the median is shown.
        studies: in the batch.
        device: auto, cpu, cuda, cuda:1 or mps.
        precisions: that each network tries, of fp32, bf16 and fp16; its fastest is shown.
        all_windows: run all windows of the paper's network, not one from which the rest follows.
    """
    from lckd.benchmark import ALL_SIZES, BRAIN, PARTS, PRECISIONS, Benchmark, Settings, parse_names, parse_sizes
    from lckd.benchmark_report import summary

    sizes = parse_sizes(size)
    settings = Settings(
        sizes=sizes,
        brain=BRAIN if sizes == ALL_SIZES else sizes[0],
        threads=int(_number("threads", threads, 1, 1024)),
        runs=int(_number("runs", runs, 1, 1000)),
        studies=int(_number("studies", studies, 1, 10_000)),
        device=device,
        precisions=parse_names("precisions", precisions, PRECISIONS),
        every_window=_flag("all_windows", all_windows),
    )
    chosen = parse_names("parts", parts, PARTS)
    for line in summary(Benchmark(output, settings).run(chosen)):
        print(line)


def publish(
    checkpoint: str,
    evaluation: str | None = None,
    validation: str | None = None,
    robustness: str | None = None,
    refinement: bool = False,
    clicks: str | None = None,
) -> None:
    """Make a training's weights the bundle's own: models/model.pt, facts in metadata.json, tables in the model card.

    Args:
        checkpoint: best.pt or a checkpoint of a training.
        evaluation: evaluation.json of these weights on test studies, for the expected Dice in reports.
        validation: the same on validation studies, which calibrates probabilities and estimates.
        robustness: robustness.json of these weights.
        refinement: the training was one of the refinement: models/refinement.pt.
        clicks: clicks.json of these weights of the refinement.
    """
    from lckd.publication import publish as make_own
    from lckd.publication import publish_refinement

    if refinement:
        publish_refinement(checkpoint, clicks)
    else:
        make_own(checkpoint, evaluation, validation, robustness)


def serve(
    studies: str,
    labels: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    users: str | None = None,
    weights: str | None = None,
    precompute: bool = False,
    upload_mb: int = 2048,
) -> None:
    """Start the MONAI Label server, for the stock MONAI Label module of 3D Slicer.

    Examples:
        lckd serve STUDIES
        lckd serve STUDIES --host 0.0.0.0 --users users.txt

    Args:
        studies: folder of study folders, a flat folder whose files share prefixes, or a data list (.json).
        labels: folder for labels; STUDIES-labels if not given.
        host: address to listen on; any but this machine's own needs --token or --users.
        port: to listen on; 0 takes a free one.
        token: password that every user has to give; better in the environment variable LCKD_TOKEN.
        users: file of users with hashed passwords; lckd password NAME makes a line of it.
        weights: other weights than the shipped ones.
        precompute: segment all unfinished studies in the background.
        upload_mb: most megabytes that a request may send.
    """
    try:
        from monailabel_app.server import serve as run_server
    except ImportError as error:
        raise StudyError(f"{error.name} is missing, which the server needs; make server installs it") from error
    port, limit = int(_number("port", port, 0, 65535)), int(_number("upload_mb", upload_mb, 1, 2**20))
    conf = {"labels": labels, "weights": weights, "precompute": "true" if precompute else None}
    run_server(studies, conf, host, port, token, users, limit * 2**20)


def password(name: str) -> str:
    """Ask for a user's password; prints the line for the file that lckd serve --users reads.

    Args:
        name: of the user.
    """
    import getpass

    from monailabel_app.guard import user_line

    return user_line(name, getpass.getpass(f"password of {name}: "))


def version() -> str:
    """The version of this package."""
    return __version__


VERBS: dict[str, Callable[..., Any]] = {
    "segment": segment,
    "pacs": pacs,
    "evaluate": evaluate,
    "evaluate-clicks": evaluate_clicks,
    "simulate": simulate,
    "robustness": robustness,
    "benchmark": benchmark,
    "train": train,
    "demo": demo,
    "publish": publish,
    "serve": serve,
    "password": password,
    "version": version,
}


def main(arguments: list[str] | None = None) -> None:
    """Run a verb; a user's mistake ends in one sentence and exit code 2."""
    import fire
    from fire.decorators import SetParseFns

    from lckd.memory import keep_freed_memory

    keep_freed_memory()
    # MONAI announces its own deprecations to its users' users.
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    arguments = sys.argv[1:] if arguments is None else arguments
    asked_for_help = {"--help", "-h"} & set(arguments)  # which would list the parse functions, too
    for verb in () if asked_for_help else VERBS.values():
        # Paths and names stay text: fire would read 1e5 as a number and a,b as a tuple.
        texts = [p.name for p in inspect.signature(verb).parameters.values() if "str" in str(p.annotation)]
        SetParseFns(str, **dict.fromkeys(texts, str))(verb)
    try:
        with sentences():
            _check_options(arguments)
            fire.Fire(VERBS, command=_with_values(arguments), name="lckd")
    except KeyboardInterrupt:
        print("lckd: stopped; what was finished is kept", file=sys.stderr)
        sys.exit(130)


def _number(option: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise StudyError(f"--{option} is {value}; accepted is {low} to {high}")
    return value


def _flag(option: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise StudyError(f"--{option.replace('_', '-')} is {value}; accepted are True and False, or no value at all")
    return value


def _with_values(arguments: list[str]) -> list[str]:
    """Switches with their value; without one, fire would take the word that follows for it."""
    if not arguments or arguments[0] not in VERBS:
        return arguments
    parameters = inspect.signature(VERBS[arguments[0]]).parameters.values()
    switches = {f"--{parameter.name}" for parameter in parameters if parameter.annotation is bool}
    return [f"{word}=True" if word.replace("-", "_").replace("__", "--", 1) in switches else word for word in arguments]


def _check_options(arguments: list[str]) -> None:
    """Refuse an unknown or a forgotten option before anything runs; fire would tell only afterwards."""
    if not arguments or arguments[0] not in VERBS or {"--help", "-h"} & set(arguments):
        return
    parameters = list(inspect.signature(VERBS[arguments[0]]).parameters.values())
    known = [parameter.name for parameter in parameters]
    given = [word.partition("=")[0][2:].replace("-", "_") for word in arguments[1:] if word.startswith("--")]
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)  # checked by the verb itself
    for name in () if free else given:
        if name not in {*known, *(f"no{option}" for option in known)}:
            raise StudyError(f"unknown option '--{name}' of {arguments[0]}; accepted are --{', --'.join(known)}")
    for parameter in parameters:
        needed = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        if needed and parameter.name not in given:
            raise StudyError(f"{arguments[0]} needs --{parameter.name}; see lckd {arguments[0]} --help")


if __name__ == "__main__":
    main()
