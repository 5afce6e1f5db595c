import sys
from pathlib import Path

import pytest

from lckd.simulation import write_study

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make .venv/server.done")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "monailabel_app"))  # as MONAI Label does


@pytest.fixture
def studies(small_study, tmp_path) -> Path:
    """Three studies with four, two and one sequences."""
    for name, sequences in {"a": ("flair", "t1", "t1ce", "t2"), "b": ("flair", "t2"), "c": ("t1",)}.items():
        write_study(small_study, tmp_path / "studies" / name, study_id=name, sequences=sequences, label=False)
    return tmp_path / "studies"
