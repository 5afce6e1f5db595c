"""LCKD: glioma segmentation from any subset of FLAIR, T1, T1ce and T2. Research use only."""

__version__ = "0.8.1"
