"""Stands in for pydicom-seg, which MONAI Label 0.8.5 imports on every start but which cannot run with pydicom 3.

Nothing here uses it: DICOM SEG is written with highdicom. It can go when MONAI Label imports pydicom-seg only where
it writes with it, or has left it (MONAILabel issue 1841).
"""
