"""Training from the command line: the bundle's train.yaml with what the user changes of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from lckd.errors import StudyError
from lckd.weights import BUNDLE

TRAIN = BUNDLE / "configs" / "train.yaml"


def run_training(
    data: str | Path, output: str | Path, overlays: Sequence[str | Path] = (), settings: Mapping[str, Any] | None = None
) -> None:
    """Train, or go on where an earlier training in ``output`` stopped.

    Args:
        data: folder with ``train/`` and ``val/``, or a data list with these sections.
        output: folder for checkpoints and logs.
        overlays: config files over train.yaml; trusted code.
        settings: values of keys of the config, e.g. ``{"iterations": 100}``.

    Raises:
        StudyError: an overlay is missing, or a setting is no key of the config (MONAI would add it in silence).
    """
    files = [str(TRAIN), *map(str, overlays)]
    for file in files:
        if not Path(file).is_file():
            raise StudyError(f"the config {file} does not exist; give YAML files, joined by commas")
    parser = ConfigParser()
    parser.read_config(files)
    settings = dict(settings or {})
    for key in settings:
        whole = key.replace("#", "::")
        # Below the top level a key may be new: arguments of a class that the config leaves at their defaults.
        if parser.get(whole.rpartition("::")[0] or whole, "absent") == "absent":
            raise StudyError(f"unknown setting '--{key}'; accepted are the keys of {TRAIN.name}, e.g. --iterations")
    # Folders that a user names are no strings: a string that begins with $ or @ would be an expression of the config.
    places: dict[str, Any] = {"bundle_root": str(BUNDLE), "dataset_dir": Path(data), "output_dir": Path(output)}
    workflow = ConfigWorkflow(files, workflow_type="train", run_id="training", **(places | settings))
    workflow.initialize()
    workflow.run()
    workflow.finalize()
