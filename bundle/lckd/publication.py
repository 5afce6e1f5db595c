"""A training's result made the bundle's own: weights, their facts, and the model card's tables."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from lckd import click_evaluation, robustness, weights
from lckd.calibration import Calibration, reliability
from lckd.errors import StudyError
from lckd.evaluation import draw_heat_map, figure_of, markdown, table_row
from lckd.files import write_atomically, write_json
from lckd.sequences import REGION_NAMES, REGIONS, SEQUENCE_NAMES
from lckd.weights import AVERAGED, metadata, packed, save_weights, sha256_of

CARD = weights.BUNDLE / "docs" / "README.md"


def publish(
    checkpoint: str | Path,
    evaluation: str | Path | None = None,
    validation: str | Path | None = None,
    robustness_test: str | Path | None = None,
) -> str:
    """Write ``models/model.pt``, its facts into ``metadata.json``, and tables and pictures into the model card.

    What is not given is removed, for it was of the weights before.

    Args:
        checkpoint: of a training, e.g. its ``best.pt``; or a plain state dict.
        evaluation: ``evaluation.json`` of these weights on test studies.
        validation: the same on validation studies, from which the calibration is fitted.
        robustness_test: ``robustness.json`` of these weights.

    Returns:
        The SHA-256 of ``models/model.pt``.

    Raises:
        StudyError: a file is missing, is not what it should be, or is about other weights.
    """
    facts = metadata()
    state, (tested, validated, changed) = _read(checkpoint, evaluation, validation, robustness_test)
    learned = state.get(AVERAGED, state)
    digest = packed(learned)[1]
    for file, content in ((evaluation, tested), (validation, validated), (robustness_test, changed)):
        if content and content.get("weights") not in (digest, sha256_of(Path(checkpoint))):
            raise StudyError(f"{file} is about other weights than {checkpoint}; evaluate these")
        if any("found" not in record for record in content.get("records", [])):
            raise StudyError(f"{file} is of an older version, which did not note what was found; evaluate again")
    if facts.get("refinement", {}).get("network") != digest:
        facts.pop("refinement", None)  # what clicks bring was measured with other weights
    facts["weights"] = {
        "file": f"models/{weights.WEIGHTS.name}",
        "sha256": digest,
        "election": state.get("election", {}),
    }
    facts["weights"]["provenance"] = state.get("provenance", {})
    facts["evaluation"] = tested.get("table", {})
    means = tested["table"]["mean"] if tested else {}
    facts["eval_metrics"] = {f"mean_dice_{region}": means[region]["dice"] for region in means}
    facts["robustness"] = changed and changed | {"weights": digest}  # a checkpoint's hash would name no shipped file
    facts["calibration"] = {}
    if validated:
        calibration = Calibration.fitted(validated["records"])
        facts["calibration"] = calibration.facts() | {"test": calibration.assessed(tested["records"]) if tested else {}}
    save_weights(learned, weights.WEIGHTS)
    write_json(weights.METADATA, facts)
    _write_card(facts, tested)
    return digest


def publish_refinement(checkpoint: str | Path, clicks: str | Path | None = None) -> str:
    """Write ``models/refinement.pt``, its facts into ``metadata.json``, and what clicks bring into the model card.

    Args:
        checkpoint: of a training with ``configs/train/refinement.yaml`` over the shipped weights.
        clicks: ``clicks.json`` of ``lckd evaluate-clicks``, or of the benchmark, on test studies.

    Returns:
        The SHA-256 of ``models/refinement.pt``.

    Raises:
        StudyError: a file is missing, is not what it should be, or is about other weights.
    """
    facts = metadata()
    state, (measured,) = _read(checkpoint, clicks)
    learned = state.get(AVERAGED, state)
    digest = packed(learned)[1]
    network, about = facts["weights"]["sha256"], measured.get("weights", {})
    ours = about.get("network") == network and about.get("refinement") in (digest, sha256_of(Path(checkpoint)))
    if measured and not ours:
        raise StudyError(f"{clicks} is about other weights than these; evaluate these")
    facts["refinement"] = {
        "file": f"models/{weights.REFINEMENT_WEIGHTS.name}",
        "sha256": digest,
        "network": network,
        "provenance": state.get("provenance", {}),
    }
    save_weights(learned, weights.REFINEMENT_WEIGHTS)
    write_json(weights.METADATA, facts)
    table = click_evaluation.markdown(measured["records"]) if measured else "Not measured for these weights.\n"
    if measured:
        write_atomically(CARD.parent / "clicks.png", lambda path: click_evaluation.draw(path, measured["records"]))
    text = _replaced(CARD.read_text(encoding="utf-8"), "clicks", table)
    write_atomically(CARD, lambda path: path.write_text(text, encoding="utf-8"))
    return digest


def _read(checkpoint: str | Path, *tables: str | Path | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A training's checkpoint and its tables, empty for those that are not given."""
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True), [
            {} if table is None else json.loads(Path(table).read_text(encoding="utf-8")) for table in tables
        ]
    except (OSError, ValueError, RuntimeError) as error:
        raise StudyError(f"the files of a training cannot be read ({error}); give its checkpoint and tables") from error


def _write_card(facts: Mapping[str, Any], tested: Mapping[str, Any]) -> None:
    parts = {"election": _election(facts["weights"]["election"])}
    if tested:
        title = f"{len({record['study'] for record in tested['records']})} studies"
        title += f", weights {facts['weights']['sha256'][:12]}"
        parts["performance"] = markdown(tested["table"], title)
        picture = CARD.parent / "evaluation.png"
        write_atomically(picture, lambda path: draw_heat_map(path, tested["table"], title))
    if facts["calibration"].get("test"):
        parts["calibration"] = _calibration(facts["calibration"])
        picture = CARD.parent / "reliability.png"
        write_atomically(picture, lambda path: _draw_reliability(path, tested, Calibration.of(facts["calibration"])))
    if facts["robustness"]:
        parts["robustness"] = robustness.markdown(facts["robustness"])
    text = CARD.read_text(encoding="utf-8")
    for name in ("election", "performance", "calibration", "robustness"):
        text = _replaced(text, name, parts.get(name, "Not measured for these weights.\n"))
    write_atomically(CARD, lambda path: path.write_text(text, encoding="utf-8"))


def _replaced(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between the comments that mark where ``name`` goes."""
    start, end = f"<!-- {name}: written by lckd publish -->", f"<!-- end of {name} -->"
    if start not in text or end not in text:
        raise StudyError(f"{CARD} has no lines '{start}' and '{end}'; put them where the table belongs")
    return re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: f"{start}\n\n{content}\n{end}", text, flags=re.S)


def _election(election: Mapping[str, Any]) -> str:
    table = election.get("table")
    if not table:
        return "No election was held.\n"
    lines = [table_row(["alone", *(region.upper() for region in REGIONS)]), table_row(["---"] * (1 + len(REGIONS)))]
    lines += [
        table_row([SEQUENCE_NAMES[name], *(f"{100 * table[name][region]:.1f}" for region in REGIONS)]) for name in table
    ]
    winners = ", ".join(f"{SEQUENCE_NAMES[election['winners'][region]]} for {region.upper()}" for region in REGIONS)
    return "\n".join([*lines, "", f"Teachers: {winners}."]) + "\n"


def _calibration(facts: Mapping[str, Any]) -> str:
    test = facts["test"]
    head = ["", *(REGION_NAMES[region] for region in REGIONS)]
    rows = {
        "temperature, from the least to the largest of the subsets": [
            "{:.2f} to {:.2f}".format(*_extremes(row[region] for row in facts["temperature"].values()))
            for region in REGIONS
        ],
        "ECE on test, all subsets pooled": [f"{test['ece']['all'][region]:.4f}" for region in REGIONS],
        "the same without temperature": [f"{test['ece_uncalibrated']['all'][region]:.4f}" for region in REGIONS],
        "worst subset": [_worst(test["ece"], region) for region in REGIONS],
        "estimated against true Dice: correlation": [
            f"{test['dice_estimate'][region]['correlation']:.2f}" for region in REGIONS
        ],
        "estimated against true Dice: mean error": [
            f"{test['dice_estimate'][region]['mean_error']:.2f}" for region in REGIONS
        ],
    }
    lines = [
        table_row(head),
        table_row(["---"] * len(head)),
        *(table_row([name, *cells]) for name, cells in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def _extremes(values: Iterable[float]) -> tuple[float, float]:
    every = list(values)
    return min(every), max(every)


def _worst(ece: Mapping[str, Mapping[str, float]], region: str) -> str:
    subset = max((name for name in ece if name != "all"), key=lambda name: ece[name][region])
    return f"{ece[subset][region]:.4f} ({subset})"


def _draw_reliability(path: Path, tested: Mapping[str, Any], calibration: Calibration) -> None:
    """Frequency against probability, a panel per region, a thin line per subset and a thick one of all."""
    figure = figure_of((9.6, 3.6))
    subsets = list(tested["table"]["subsets"])
    for number, region in enumerate(REGIONS):
        axes = figure.add_subplot(1, len(REGIONS), number + 1)
        axes.plot((0, 1), (0, 1), color="grey", linestyle=":")
        for subset in (*subsets, "all"):
            curve = reliability(calibration.calibrated(tested["records"], region, subset))
            style = {"linewidth": 2.5, "color": "black"} if subset == "all" else {"linewidth": 0.7, "alpha": 0.6}
            axes.plot(curve["probability"], curve["frequency"], **style)
        axes.set(title=REGION_NAMES[region], xlabel="probability", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_ylabel("frequency" if number == 0 else "")
    figure.savefig(path, format="png", dpi=130)
