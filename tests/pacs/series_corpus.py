"""Simulated series headers in the style of four vendors and seven languages, each with what a radiologist calls it."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, generate_uid

from lckd.pacs.identification import identify
from lckd.pacs.study import Instance, Study, build_study
from lckd.sequences import SEQUENCES

TECHNIQUES: dict[str, dict[str, Any]] = {
    # name: repetition, echo, inversion time (ms), flip angle, echo train, scanning sequence, variant, 3-D, Siemens name
    "loc": dict(tr=8, te=3.4, fa=20, seq="GR", var="SP", name="*fl2d1", slices=3, gap=10, thick=7, three=True),
    "flair2d": dict(tr=9000, te=93, ti=2500, fa=150, etl=16, seq="SE\\IR", var="SK\\SP\\MP", name="*tir2d1_16"),
    "flair3d": dict(
        tr=5000, te=387, ti=1800, fa=120, etl=278, seq="SE\\IR", var="SK\\SP\\MP", name="*spcir_278ns", d3=True
    ),
    "t1se": dict(tr=550, te=9, fa=90, etl=1, seq="SE", var="SP\\OSP", name="*se2d1"),
    "t1tse": dict(tr=680, te=11, fa=150, etl=3, seq="SE", var="SK\\SP", name="*tse2d1_3"),
    "t1flair": dict(tr=2100, te=11, ti=860, fa=150, etl=7, seq="SE\\IR", var="SK\\SP\\MP", name="*tir2d1_7"),
    "mprage": dict(tr=2300, te=2.98, ti=900, fa=9, etl=1, seq="GR\\IR", var="SP\\MP", name="*tfl3d1_16ns", d3=True),
    "spgr": dict(tr=8.2, te=3.2, ti=450, fa=12, etl=1, seq="GR", var="SS\\SP\\SK", name="*fl3d1", d3=True),
    "vibe": dict(tr=5.5, te=2.4, fa=12, etl=1, seq="GR", var="SP", name="*fl3d1_ns", d3=True),
    "t1space": dict(tr=700, te=11, fa=120, etl=40, seq="SE", var="SK\\SP", name="*spc3d1_40ns", d3=True),
    "t1flash": dict(tr=250, te=2.5, fa=70, etl=1, seq="GR", var="SP\\OSP", name="*fl2d1"),
    "t2tse": dict(tr=5200, te=98, fa=150, etl=15, seq="SE", var="SK\\SP", name="*tse2d1_15"),
    "t2space": dict(tr=3200, te=408, fa=120, etl=282, seq="SE", var="SK\\SP", name="*spc3d1_282ns", d3=True),
    "pd": dict(tr=3200, te=14, fa=150, etl=7, seq="SE", var="SK\\SP", name="*tse2d1_7"),
    "t2star": dict(tr=650, te=20, fa=20, etl=1, seq="GR", var="SP", name="*fl2d1"),
    "swi": dict(tr=28, te=20, fa=15, etl=1, seq="GR", var="SP", name="*swi3d1r", d3=True),
    "dwi": dict(tr=6300, te=89, fa=90, etl=1, seq="EP", var="SK\\SP", name="*ep_b1000t", b=1000),
    "adc": dict(tr=6300, te=89, fa=90, etl=1, seq="EP", var="SK\\SP", name="*ep_b0_1000", kind="DERIVED\\PRIMARY\\ADC"),
    "b0": dict(tr=6300, te=89, fa=90, etl=1, seq="EP\\SE", var="SK\\SP", name="*ep_b0", b=0),
    "dsc": dict(tr=1500, te=30, fa=90, etl=1, seq="EP", var="SK\\SP", name="*epfid2d1_96", volumes=4),
    "bold": dict(tr=2000, te=30, fa=77, etl=1, seq="EP", var="SK\\SP", name="*epfid2d1_64", volumes=4),
    "dce": dict(tr=4.6, te=1.7, fa=15, etl=1, seq="GR", var="SP", name="*fl3d1", d3=True, volumes=4),
    "asl": dict(tr=4600, te=16, fa=90, etl=1, seq="EP", var="SK\\SP", name="tgse3d1_720"),
    "tof": dict(tr=22, te=3.7, fa=18, etl=1, seq="GR", var="SP", name="*fl3d1r_tm", d3=True),
    "pca": dict(tr=60, te=7, fa=15, etl=1, seq="GR", var="SP", name="*fl2d1_pc"),
    "fiesta": dict(tr=5.5, te=2.5, fa=50, etl=1, seq="GR", var="SS", name="*tfi3d1", d3=True),
    "stir": dict(tr=5000, te=60, ti=160, fa=150, etl=9, seq="SE\\IR", var="SK\\SP\\MP", name="*tir2d1_9"),
    "dir": dict(tr=7500, te=308, ti=3000, fa=120, etl=250, seq="SE\\IR", var="SK\\SP\\MP", name="*spcir_250", d3=True),
    "psir": dict(tr=4500, te=13, ti=400, fa=150, etl=7, seq="SE\\IR", var="SK\\SP\\MP", name="*tir2d1rr7"),
    "field": dict(tr=500, te=4.9, fa=60, etl=1, seq="GR", var="SP", name="*fm2d2r"),
}
"""Physics per technique, as protocols for 1.5 and 3 T have them."""

VENDORS = {
    "siemens": ("SIEMENS", "Skyra", "ORIGINAL\\PRIMARY\\M\\ND\\NORM"),
    "ge": ("GE MEDICAL SYSTEMS", "DISCOVERY MR750", "ORIGINAL\\PRIMARY\\OTHER"),
    "philips": ("Philips Medical Systems", "Ingenia", "ORIGINAL\\PRIMARY\\M_{}\\M\\{}"),
    "canon": ("TOSHIBA_MEC", "Vantage Titan", "ORIGINAL\\PRIMARY\\OTHER"),
}

PLANES = {
    "ax": ([1, 0, 0, 0, 1, 0], (0, 0, 1)),
    "sag": ([0, 1, 0, 0, 0, -1], (-1, 0, 0)),
    "cor": ([1, 0, 0, 0, 0, -1], (0, 1, 0)),
}


@dataclass(frozen=True)
class Series:
    """A series and its label: ``flair``, ``t1``, ``t1ce``, ``t2`` or ``other``."""

    description: str
    technique: str
    label: str
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exam:
    """A study's series in the order they were acquired.

    ``trap`` says what is hard about it; ``stamp`` is a bolus tag that the console writes on every series.
    """

    trap: str
    vendor: str
    series: tuple[Series, ...]
    stamp: str = ""
    study_description: str = ""


def s(description: str, technique: str, label: str = "other", **changes: Any) -> Series:
    """A series."""
    return Series(description, technique, label, changes)


def exam(trap: str, vendor: str, *series: Series, stamp: str = "", study: str = "") -> Exam:
    """A study."""
    return Exam(trap, vendor, series, stamp, study)


MPR, SUB, MIP, SYNTHETIC = (
    "DERIVED\\SECONDARY\\MPR",
    "DERIVED\\SECONDARY\\SUB",
    "DERIVED\\SECONDARY\\PROJECTION IMAGE\\MIP",
    "DERIVED\\SECONDARY\\SYNTHETIC",
)

FIRST: tuple[Exam, ...] = (
    exam(
        "plain, German, MPRAGE after contrast next to 2-D T1 before",
        "siemens",
        s("localizer", "loc"),
        s("t2_tse_tra_5mm", "t2tse", "t2"),
        s("t2_tirm_tra_dark-fluid", "flair2d", "flair"),
        s("t1_se_tra nativ", "t1se", "t1"),
        s("ep2d_diff_3scan_trace_p2", "dwi"),
        s("ep2d_diff_3scan_trace_p2_ADC", "adc"),
        s("t2_fl2d_tra_hemo", "t2star"),
        s("t1_mprage_sag_p2_iso KM", "mprage", "t1ce", plane="sag", tag="Gadovist"),
        s("t1_mprage_sag_p2_iso KM_MPR_Tra", "mprage", kind=MPR, tag="Gadovist"),
    ),
    exam(
        "German words, no tags",
        "siemens",
        s("Survey", "loc"),
        s("T1 TSE sag ohne KM", "t1tse", "t1", plane="sag"),
        s("T2 TSE axial", "t2tse", "t2"),
        s("FLAIR cor", "flair2d", "flair", plane="cor"),
        s("SWI_Images", "swi"),
        s("mIP_Images(SW)", "swi", kind="DERIVED\\PRIMARY\\MNIP\\ND"),
        s("T1 TSE axial mit KM", "t1tse", "t1ce"),
        s("T1 TSE cor mit KM fs", "t1tse", "t1ce", plane="cor"),
    ),
    exam(
        "bolus tag stamped on every series, words tell",
        "siemens",
        s("AAHead_Scout", "loc"),
        s("t1_mprage_tra_pre", "mprage", "t1"),
        s("t2_spc_sag_p2_iso", "t2space", "t2", plane="sag"),
        s("t2_spc_da-fl_sag_p2_iso", "flair3d", "flair", plane="sag"),
        s("ep2d_perf_p2", "dsc"),
        s("ep2d_perf_p2_relCBV", "dsc", kind="DERIVED\\PRIMARY\\RELCBV", volumes=1),
        s("t1_mprage_tra_post", "mprage", "t1ce"),
        stamp="MAGNEVIST",
    ),
    exam(
        "bolus tag stamped on every series, equal names",
        "siemens",
        s("localizer", "loc"),
        s("t1_mprage_tra", "mprage", "t1"),
        s("t2_tse_tra_512", "t2tse", "t2"),
        s("t2_tirm_tra", "flair2d", "flair"),
        s("t1_mprage_tra", "mprage", "t1ce"),
        stamp="Dotarem",
    ),
    exam(
        "two equal names, tag on the second",
        "ge",
        s("3-Plane Loc", "loc"),
        s("Ax T1", "t1se", "t1"),
        s("Ax T2 FSE", "t2tse", "t2"),
        s("Ax T2 FLAIR", "flair2d", "flair"),
        s("Ax DWI B1000", "dwi"),
        s("Apparent Diffusion Coefficient (mm2/s)", "adc", kind="DERIVED\\PRIMARY\\ADC"),
        s("Ax T1", "t1se", "t1ce", tag="PROHANCE"),
    ),
    exam(
        "two equal names, no tag",
        "ge",
        s("3-PL LOC", "loc"),
        s("AX T1 FSPGR", "spgr", "t1"),
        s("AX T2 PROPELLER", "t2tse", "t2"),
        s("Sag CUBE T2 FLAIR", "flair3d", "flair", plane="sag"),
        s("AX T1 FSPGR", "spgr", "t1ce"),
    ),
    exam(
        "T1-FLAIR is T1",
        "ge",
        s("Loc", "loc"),
        s("Sag T1 FLAIR", "t1flair", "t1", plane="sag"),
        s("Ax T1FLAIR", "t1flair", "t1"),
        s("Ax T2FLAIR FS", "flair2d", "flair"),
        s("Ax T2 FRFSE", "t2tse", "t2"),
        s("Ax T2* GRE", "t2star"),
        s("Ax T1FLAIR +C", "t1flair", "t1ce", tag="GADAVIST"),
        s("SAG BRAVO +C", "spgr", "t1ce", plane="sag", tag="GADAVIST"),
        s("Ax BRAVO +C Reformat", "spgr", kind="DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE", tag="GADAVIST"),
    ),
    exam(
        "T2* against T2, SWAN, ASL, TOF",
        "ge",
        s("3Plane Loc SSFSE", "loc"),
        s("Ax T2* Flow Comp", "t2star"),
        s("Ax T2 FSE", "t2tse", "t2"),
        s("Ax SWAN", "swi"),
        s("Filt_Pha: Ax SWAN", "swi", kind="DERIVED\\SECONDARY\\PHASE"),
        s("3D ASL (non-contrast)", "asl"),
        s("Cerebral Blood Flow", "asl", kind="DERIVED\\SECONDARY\\CBF"),
        s("3D TOF MRA", "tof"),
        s("COL:3D TOF MRA", "tof", kind=MIP),
        s("Ax FLAIR", "flair2d", "flair"),
        s("Ax T1 non contrast", "t1se", "t1"),
        s("Ax T1 post", "t1se", "t1ce"),
    ),
    exam(
        "French, Philips",
        "philips",
        s("Repérage", "loc"),
        s("T1 SE SAG SANS INJ", "t1se", "t1", plane="sag"),
        s("T2 TSE AX", "t2tse", "t2"),
        s("FLAIR AX", "flair2d", "flair"),
        s("DIFFUSION b1000", "dwi"),
        s("dADC", "adc", kind="ORIGINAL\\PRIMARY\\ADC_SE\\ADC\\UNSPECIFIED"),
        s("T1 3D TFE GADO", "spgr", "t1ce", tag="Dotarem"),
        s("Perfusion T2*", "dsc", tag="Dotarem"),
    ),
    exam(
        "French, contrast in words only",
        "siemens",
        s("loca", "loc"),
        s("Axial T1 avant injection", "t1se", "t1"),
        s("Axial FLAIR", "flair2d", "flair"),
        s("Axial T2 EG", "t2star"),
        s("Axial T2 TSE", "t2tse", "t2"),
        s("Axial T1 après injection", "t1se", "t1ce"),
        s("3D T1 avec gadolinium", "mprage", "t1ce"),
    ),
    exam(
        "Spanish, Canon",
        "canon",
        s("LOCALIZADOR", "loc"),
        s("T1 SAG SIN CONTRASTE", "t1se", "t1", plane="sag"),
        s("T2 AXIAL", "t2tse", "t2"),
        s("FLAIR AXIAL", "flair2d", "flair"),
        s("DIFUSION B1000", "dwi"),
        s("ADC", "adc"),
        s("T2 GRE HEMO AXIAL", "t2star"),
        s("T1 AXIAL CON CONTRASTE", "t1se", "t1ce"),
        s("T1 CORONAL CON CONTRASTE", "t1se", "t1ce", plane="cor"),
    ),
    exam(
        "Italian, Philips",
        "philips",
        s("SURVEY", "loc"),
        s("T1W_SE sag senza mdc", "t1se", "t1", plane="sag"),
        s("T2W_TSE ax", "t2tse", "t2"),
        s("FLAIR_longTR ax", "flair2d", "flair"),
        s("DWI_ssh", "dwi"),
        s("VEN_BOLD", "swi"),
        s("T1W_3D_TFE con mdc", "spgr", "t1ce", tag="Gadovist 7 ml"),
        s("sT1W_3D_TFE MPR cor", "spgr", kind=MPR),
    ),
    exam(
        "Swedish",
        "siemens",
        s("lokaliserare", "loc"),
        s("T1 sag utan kontrast", "t1se", "t1", plane="sag"),
        s("T2 tra", "t2tse", "t2"),
        s("T2 FLAIR tra", "flair2d", "flair"),
        s("Diffusion tra", "dwi"),
        s("T1 MPRAGE tra med kontrast", "mprage", "t1ce"),
    ),
    exam(
        "Dutch, Philips",
        "philips",
        s("Survey_HeadSHC", "loc"),
        s("T1W tra zonder contrast", "t1se", "t1"),
        s("T2W_TSE tra", "t2tse", "t2"),
        s("FLAIR tra", "flair2d", "flair"),
        s("T2W_FFE", "t2star"),
        s("T1W tra met contrast", "t1se", "t1ce"),
        s("3D_T1W met gd", "spgr", "t1ce"),
    ),
    exam(
        "dual echo, PD and STIR",
        "philips",
        s("Survey", "loc"),
        s("PD+T2 TSE", "pd", "other", echo_two=(90, "t2")),
        s("STIR cor", "stir", plane="cor"),
        s("T1 SE", "t1se", "t1", tag="NONE"),
        s("FLAIR", "flair2d", "flair"),
        s("T1 SE Gd", "t1se", "t1ce", tag="gd"),
    ),
    exam(
        "missing descriptions",
        "siemens",
        s("", "loc"),
        s("", "t1se", "t1"),
        s("", "t2tse", "t2"),
        s("", "flair2d", "flair"),
        s("", "dwi"),
        s("", "b0"),
        s("", "t2star"),
        s("", "mprage", "t1ce", tag="Magnevist"),
    ),
    exam(
        "missing descriptions",
        "ge",
        s("", "loc"),
        s("", "t1flair", "t1"),
        s("", "t2tse", "t2"),
        s("", "flair2d", "flair"),
        s("", "stir"),
        s("", "tof"),
        s("", "fiesta"),
        s("", "t1flair", "t1ce", tag="OMNISCAN"),
    ),
    exam(
        "DWI b0, TENSOR, fMRI, field map",
        "siemens",
        s("localizer_32ch", "loc"),
        s("gre_field_mapping", "field"),
        s("rsfMRI_EPI_2.5mm", "bold"),
        s("ep2d_diff_mddw_30_p2", "dwi", b0=True),
        s("ep2d_diff_mddw_30_p2_FA", "adc", kind="DERIVED\\PRIMARY\\FA"),
        s("ep2d_diff_b0_PA", "b0"),
        s("resolve_4scan_trace_tra_TRACEW", "dwi"),
        s("t1_mprage_sag_ND", "mprage", "t1", plane="sag", tag="NONE"),
        s("t2_tse_tra", "t2tse", "t2"),
        s("t2_space_dark-fluid_sag", "flair3d", "flair", plane="sag"),
        study="MRT Kopf nativ",
    ),
    exam(
        "repeats after motion",
        "philips",
        s("SmartBrain", "loc"),
        s("T2W TSE", "t2tse", "t2"),
        s("T2W TSE repeat", "t2tse", "t2"),
        s("3D FLAIR", "flair3d", "flair"),
        s("3D FLAIR", "flair3d", "flair"),
        s("T1W 3D TFE pre Gd", "spgr", "t1"),
        s("T1W 3D TFE post Gd", "spgr", "t1ce", tag="Gadovist"),
        s("T1W 3D TFE post Gd", "spgr", "t1ce", tag="Gadovist"),
    ),
    exam(
        "subtraction, registered, MIP, dynamic",
        "siemens",
        s("t1_mprage_sag_pre", "mprage", "t1", plane="sag"),
        s("t1_twist_dyn", "dce", tag="Gadovist"),
        s("t1_vibe_dynamic", "dce", tag="Gadovist"),
        s("t1_mprage_sag_post", "mprage", "t1ce", plane="sag", tag="Gadovist"),
        s("t1_mprage_sag_post_SUB", "mprage", kind=SUB, plane="sag", tag="Gadovist"),
        s("t1_mprage_sag_post_registered", "mprage", kind="DERIVED\\SECONDARY\\REGISTERED", tag="Gadovist"),
        s("t1_mprage_MIP", "mprage", kind=MIP, tag="Gadovist"),
        s("t2_blade_tra", "t2tse", "t2"),
        s("t2_blade_tra_dark_fluid", "flair2d", "flair"),
    ),
    exam(
        "spine and orbit in the same study",
        "siemens",
        s("t1_tse_sag_HWS", "t1tse", plane="sag"),
        s("t2_tse_sag C-Spine", "t2tse", plane="sag"),
        s("t2_tirm_cor_orbita", "stir", plane="cor"),
        s("t1_tse_tra_fs_Orbit KM", "t1tse", tag="Gadovist"),
        s("T2 SAG CERVICAL", "t2tse", plane="sag"),
        s("t2_tse_tra Kopf", "t2tse", "t2"),
        s("t2_tirm_tra_dark fluid Kopf", "flair2d", "flair"),
        s("t1_se_tra Kopf KM", "t1se", "t1ce", tag="Gadovist"),
    ),
    exam(
        "synthetic and maps",
        "ge",
        s("Ax MAGiC", "t2tse"),
        s("SyT1: Ax MAGiC", "t2tse", kind=SYNTHETIC),
        s("SyT2 FLAIR: Ax MAGiC", "t2tse", kind=SYNTHETIC),
        s("T1MAP", "t1flair", kind="DERIVED\\SECONDARY\\T1 MAP"),
        s("T2_Map", "t2tse", kind="DERIVED\\SECONDARY\\T2 MAP"),
        s("Ax T2 FSE", "t2tse", "t2"),
        s("Ax T2 FLAIR", "flair2d", "flair"),
        s("Ax T1 FSPGR pre", "spgr", "t1"),
    ),
    exam(
        "MP2RAGE and PSIR",
        "siemens",
        s("t1_mp2rage_sag_p3_INV1", "mprage", plane="sag"),
        s("t1_mp2rage_sag_p3_INV2", "mprage", plane="sag"),
        s("t1_mp2rage_sag_p3_T1_Images", "mprage", plane="sag", kind="DERIVED\\PRIMARY\\M\\T1 MAP"),
        s("psir_tra", "psir"),
        s("DIR_space_sag", "dir", plane="sag"),
        s("t2_tse_tra", "t2tse", "t2"),
        s("FLAIR_3D_sag", "flair3d", "flair", plane="sag"),
        s("T1_MPRAGE_nativ", "mprage", "t1"),
        s("T1_MPRAGE_Kontrastmittel", "mprage", "t1ce"),
    ),
    exam(
        "wrong descriptions",
        "philips",
        s("T2W_TSE", "t1se", "t1"),
        s("T1W_SE", "t2tse", "t2"),
        s("FLAIR", "flair2d", "flair"),
        s("T1W_SE +C", "t1se", "t1ce", tag="Dotarem"),
    ),
    exam(
        "contrast contradicted by the tag",
        "siemens",
        s("t1_mprage_tra nativ", "mprage", "t1", tag="Gadovist"),
        s("t2_tse_tra", "t2tse", "t2"),
        s("t1_mprage_tra KM", "mprage", "t1ce", tag="Gadovist"),
        s("FLAIR tra", "flair2d", "flair"),
    ),
)

HELD_OUT: tuple[Exam, ...] = (
    exam(
        "Siemens VE11, KM with brand in the name",
        "siemens",
        s("AAHead_Scout_MPR_sag", "loc"),
        s("t1_fl3d_sag_iso", "mprage", "t1", plane="sag"),
        s("t2_tse_tra_448_3mm_dix", "t2tse", "t2"),
        s("t2_tirm_tra_dark-fluid_fs_3mm", "flair2d", "flair"),
        s("ep2d_diff_4scan_trace_tra_p2_ADC_DFC_MIX", "adc"),
        s("SWI_mag", "swi"),
        s("SWI_pha", "swi", kind="ORIGINAL\\PRIMARY\\P\\ND"),
        s("t1_mprage_sag_0.9_Gadovist 0.1ml/kg", "mprage", "t1ce", plane="sag", tag="Gadovist"),
        s("t1_tse_tra_fs_post", "t1tse", "t1ce", tag="Gadovist"),
        s("t1_mprage_sag_0.9_Gadovist_cor", "mprage", kind="DERIVED\\SECONDARY\\MPR\\NORM", tag="Gadovist"),
    ),
    exam(
        "German, Schädel, nach Gabe",
        "philips",
        s("Uebersicht", "loc"),
        s("T1w SE transversal v. KM", "t1se", "t1"),
        s("T2w TSE transversal", "t2tse", "t2"),
        s("FLAIR transversal", "flair2d", "flair"),
        s("DWI transversal", "dwi"),
        s("T2w FFE Blut", "t2star"),
        s("T1w SE transversal n. KM", "t1se", "t1ce"),
        s("T1w TFE 3D sag nach KM-Gabe", "spgr", "t1ce", plane="sag"),
    ),
    exam(
        "GE, terse",
        "ge",
        s("3 Plane LOC", "loc"),
        s("SAG T1", "t1se", "t1", plane="sag"),
        s("AX DWI", "dwi"),
        s("ADC:Oct 03 2020", "adc"),
        s("AX T2 FRFSE FS", "t2tse", "t2"),
        s("AX FLAIR FS", "flair2d", "flair"),
        s("AX GRE", "t2star"),
        s("AX T1 PRE", "t1se", "t1"),
        s("AX T1 +C", "t1se", "t1ce"),
        s("COR T1 +C FS", "t1se", "t1ce", plane="cor"),
        s("AX PERFUSION", "dsc"),
        s("+C SAG 3D BRAVO", "spgr", "t1ce", plane="sag"),
    ),
    exam(
        "GE, names of the sequences only",
        "ge",
        s("Calibration Scan", "loc"),
        s("ASSET calibration", "loc"),
        s("Ax FSPGR 3D", "spgr", "t1"),
        s("CUBE T2", "t2space", "t2"),
        s("CUBE FLAIR", "flair3d", "flair"),
        s("eSWAN", "swi"),
        s("IR PREP FSPGR GAD", "spgr", "t1ce"),
        s("PJN:eSWAN", "swi", kind="DERIVED\\SECONDARY\\PROJECTION IMAGE"),
    ),
    exam(
        "Canon, English",
        "canon",
        s("Locator", "loc"),
        s("FE_3D_T1 Ax", "spgr", "t1"),
        s("FSE_T2 Ax", "t2tse", "t2"),
        s("FLAIR Ax", "flair2d", "flair"),
        s("FSBB Ax", "swi"),
        s("DWI b=1000", "dwi"),
        s("FE_3D_T1 Ax CE", "spgr", "t1ce"),
        s("SE_T1 Sag CE", "t1se", "t1ce", plane="sag"),
    ),
    exam(
        "Canon, French",
        "canon",
        s("LOCA 3 PLANS", "loc"),
        s("AX T1 SE", "t1se", "t1"),
        s("AX T2 FSE", "t2tse", "t2"),
        s("AX T2 ETOILE", "t2star"),
        s("AX FLAIR", "flair2d", "flair"),
        s("AX T1 SE IV+", "t1se", "t1ce"),
        s("SAG 3D T1 INJ", "spgr", "t1ce", plane="sag"),
    ),
    exam(
        "French, Siemens",
        "siemens",
        s("REPERAGES", "loc"),
        s("SAG T1 SPIN ECHO", "t1se", "t1", plane="sag"),
        s("AXIALE T2 TSE", "t2tse", "t2"),
        s("FLAIR 3D SPACE", "flair3d", "flair"),
        s("AXIALES DIFFUSION b 1000", "dwi"),
        s("CARTOGRAPHIE ADC", "adc"),
        s("PERFUSION GADO", "dsc", tag="DOTAREM"),
        s("3D T1 MPRAGE GADO", "mprage", "t1ce", tag="DOTAREM"),
        s("RECON AXIALE 3D T1 GADO", "mprage", kind=MPR, tag="DOTAREM"),
    ),
    exam(
        "Spanish, Philips",
        "philips",
        s("localizador", "loc"),
        s("T1 TSE SAG", "t1tse", "t1", plane="sag"),
        s("T2 TSE TRA", "t2tse", "t2"),
        s("FLAIR TRA", "flair2d", "flair"),
        s("T2 FFE TRA hemosiderina", "t2star"),
        s("Difusión", "dwi"),
        s("T1 3D TRA Gd", "spgr", "t1ce", tag="Gadovist"),
        s("T1 SE COR C+", "t1se", "t1ce", plane="cor", tag="Gadovist"),
    ),
    exam(
        "Spanish, GE, s/c and c/c",
        "ge",
        s("LOC 3 PLANOS", "loc"),
        s("AX T1 S/C", "t1se", "t1"),
        s("AX T2", "t2tse", "t2"),
        s("AX T2 FLAIR", "flair2d", "flair"),
        s("AX T1 C/C", "t1se", "t1ce"),
    ),
    exam(
        "Italian, Siemens",
        "siemens",
        s("localizzatore", "loc"),
        s("t1_se_sag_basale", "t1se", "t1", plane="sag"),
        s("t2_tse_assiale", "t2tse", "t2"),
        s("flair_assiale", "flair2d", "flair"),
        s("diffusione_assiale", "dwi"),
        s("perfusione", "dsc"),
        s("t1_mprage_dopo mdc", "mprage", "t1ce"),
        s("t1_se_cor_dopo mdc", "t1se", "t1ce", plane="cor"),
    ),
    exam(
        "Swedish, GE",
        "ge",
        s("3-plan lokaliserare", "loc"),
        s("Tra T1 före kontrast", "t1se", "t1"),
        s("Tra T2", "t2tse", "t2"),
        s("Tra FLAIR", "flair2d", "flair"),
        s("Tra T2*", "t2star"),
        s("Tra T1 efter kontrast", "t1se", "t1ce"),
        s("Sag 3D T1 Gd", "spgr", "t1ce", plane="sag"),
    ),
    exam(
        "Dutch, Siemens",
        "siemens",
        s("localizer", "loc"),
        s("t1_se_sag blanco", "t1se", "t1", plane="sag"),
        s("t2_tse_tra", "t2tse", "t2"),
        s("t2_flair_tra", "flair2d", "flair"),
        s("t1_mprage_tra na gadolinium", "mprage", "t1ce"),
        s("t1_mprage_tra na gadolinium_verschil", "mprage", kind=SUB),
    ),
    exam(
        "anonymized: no descriptions, no tags, no times of contrast",
        "philips",
        s("", "loc"),
        s("", "t1se", "t1"),
        s("", "t2tse", "t2"),
        s("", "flair3d", "flair"),
        s("", "dsc"),
        s("", "t1se", "t1ce"),
    ),
    exam(
        "only after contrast, tagged from the start",
        "siemens",
        s("t1_mprage_sag", "mprage", "t1ce", plane="sag", tag="Gadovist"),
        s("t2_flair", "flair2d", "flair", tag="Gadovist"),
        s("t2_tse", "t2tse", "t2", tag="Gadovist"),
    ),
    exam(
        "one T1, nothing said",
        "siemens",
        s("MPRAGE", "mprage", "t1"),
        s("FLAIR", "flair2d", "flair"),
        s("T2", "t2tse", "t2"),
    ),
    exam(
        "trial names, BraTS habits",
        "ge",
        s("T1PRE", "spgr", "t1"),
        s("T1POST", "spgr", "t1ce"),
        s("T2FLAIR", "flair3d", "flair"),
        s("T2W", "t2tse", "t2"),
        s("T1POST_SUBTRACTION", "spgr", kind=SUB),
        s("T1POST_registered_T1PRE", "spgr", kind="DERIVED\\SECONDARY\\REGISTERED"),
    ),
    exam(
        "intra-operative and navigation names",
        "siemens",
        s("Neuronavigation T1 KM", "mprage", "t1ce", tag="Gadovist"),
        s("Navi FLAIR 3D", "flair3d", "flair"),
        s("Navi T2 SPACE", "t2space", "t2"),
        s("T1 nativ Navi", "mprage", "t1"),
        s("CISS 3D KHBW", "fiesta"),
        s("TOF arteriell", "tof"),
        s("Venöse Angio PC", "pca"),
        s("ARTERIAL SPIN LABELING", "asl"),
    ),
)

SECOND_HELD_OUT: tuple[Exam, ...] = (
    exam(
        "words that look like something else",
        "siemens",
        s("scout_head", "loc"),
        s("t1_mprage_sub-mm_post-OP nativ", "mprage", "t1"),
        s("t2_tse_tra_SENSE2 rep", "t2tse", "t2"),
        s("flair after perfusion", "flair2d", "flair"),
        s("t1_mprage_tra_after_perf_Gd", "mprage", "t1ce", tag="Clariscan"),
        s("t2_tse_tra head/neck coil", "t2tse", "t2"),
        s("restore_t2_cor", "t2tse", "t2", plane="cor"),
    ),
    exam(
        "W and W/O in names",
        "ge",
        s("Loc 3pl", "loc"),
        s("AX T1 W/O", "t1se", "t1"),
        s("AX T1 W", "t1se", "t1ce"),
        s("AX T2", "t2tse", "t2"),
        s("AX FLAIR W/O", "flair2d", "flair"),
        s("SAG T1 W/WO", "t1se", "t1ce", plane="sag"),
    ),
    exam(
        "gadolinium only by abbreviations",
        "philips",
        s("SURVEY MST", "loc"),
        s("sT1W_3D_TFE", "spgr", "t1"),
        s("T2W_TSE_hr", "t2tse", "t2"),
        s("sFLAIR_3D_VISTA", "flair3d", "flair"),
        s("SWIp", "swi"),
        s("DTI_high_iso", "dwi"),
        s("FE_EPI_PERF", "dsc"),
        s("sT1W_3D_TFE_GADO", "spgr", "t1ce"),
        s("T1W_IR_GADO", "t1flair", "t1ce"),
    ),
    exam(
        "equal names after perfusion, tag on everything since",
        "philips",
        s("Survey", "loc"),
        s("3D T1 TFE", "spgr", "t1"),
        s("3D FLAIR", "flair3d", "flair"),
        s("DSC perfusie", "dsc", tag="Gadovist"),
        s("3D T1 TFE", "spgr", "t1ce", tag="Gadovist"),
        s("T2 TSE", "t2tse", "t2", tag="Gadovist"),
    ),
    exam(
        "equal names, three times, perfusion between, no tags",
        "ge",
        s("AX T1", "t1se", "t1"),
        s("AX T1", "t1se", "t1"),
        s("DSC", "dsc"),
        s("AX T1", "t1se", "t1ce"),
        s("AX T2", "t2tse", "t2"),
    ),
    exam(
        "German, stamped, MPRAGE twice, FLAIR after contrast",
        "siemens",
        s("localizer", "loc"),
        s("t1_mprage_tra_nativ", "mprage", "t1"),
        s("t2_tse_tra", "t2tse", "t2"),
        s("t1_mprage_tra_+KM", "mprage", "t1ce"),
        s("t2_flair_tra_+KM", "flair2d", "flair"),
        s("t1_mprage_tra_+KM_MPR_cor", "mprage", kind=MPR),
        stamp="Prohance",
    ),
    exam(
        "technique words of Philips and Canon",
        "canon",
        s("LOC", "loc"),
        s("T1 MultiVane", "t1tse", "t1"),
        s("JET T2", "t2tse", "t2"),
        s("FASE3D FLAIR", "flair3d", "flair"),
        s("T2*WI", "t2star"),
        s("T1 MultiVane CE", "t1tse", "t1ce"),
        s("mASTAR perfusion", "asl"),
        s("3D MRA", "tof"),
    ),
    exam(
        "black blood, vessel wall, spine and cisternography",
        "siemens",
        s("t1_space_black blood_cor nativ", "t1space", "t1", plane="cor"),
        s("t1_space_black blood_cor KM", "t1space", "t1ce", plane="cor", tag="Dotarem"),
        s("t2_ci3d_tra", "fiesta"),
        s("t2_trufi3d", "fiesta"),
        s("t2_tse_sag_HWS/BWS", "t2tse", plane="sag"),
        s("t2_tse_tra_Schädel", "t2tse", "t2"),
        s("FLAIR_tra_Schädel", "flair2d", "flair"),
    ),
    exam(
        "wrong tags: TI zero, TE of the T2, no sequence tags",
        "philips",
        s("FLAIR", "flair2d", "flair", ti=0),
        s("T2 TSE", "t2tse", "t2", seq="RM", var="NONE"),
        s("T1 SE pre", "t1se", "t1", seq="RM", var="NONE"),
        s("T1 SE post", "t1se", "t1ce", seq="RM", var="NONE"),
    ),
    exam(
        "Italian, GE",
        "ge",
        s("3-pl T2* FGRE S", "loc"),
        s("AX T1 SE BASE", "t1se", "t1"),
        s("AX FLAIR", "flair2d", "flair"),
        s("AX T2 FSE", "t2tse", "t2"),
        s("AX DWI ASSET", "dwi"),
        s("AX T1 SE MDC", "t1se", "t1ce", tag="MULTIHANCE"),
        s("FSPGR 3D MDC", "spgr", "t1ce", tag="MULTIHANCE"),
    ),
    exam(
        "Swedish and Danish",
        "philips",
        s("survey", "loc"),
        s("T1 TRA UDEN K", "t1se", "t1"),
        s("T2 TRA", "t2tse", "t2"),
        s("FLAIR TRA", "flair2d", "flair"),
        s("T1 TRA MED K", "t1se", "t1ce"),
        s("3D T1 m gd", "spgr", "t1ce"),
    ),
    exam(
        "only a FLAIR and a T2, by English sentences",
        "ge",
        s("Axial T2 weighted fluid attenuated inversion recovery", "flair2d", "flair"),
        s("Axial T2 weighted fast spin echo", "t2tse", "t2"),
        s("Axial T1 weighted contrast-enhanced", "t1se", "t1ce"),
        s("Susceptibility weighted imaging", "swi"),
        s("Axial T1 weighted without contrast", "t1se", "t1"),
    ),
)


Labels = dict[tuple[str, int], tuple[str, str]]
"""(SeriesInstanceUID, stack) -> (label, description)."""


def built(exam: Exam) -> tuple[Study, Labels]:
    """The exam as a study of headers, and the label of every stack."""
    uid = generate_uid()
    instances: list[Instance] = []
    wanted: dict[str, tuple[Series, str]] = {}
    for number, series in enumerate(exam.series, start=1):
        series_uid = generate_uid()
        instances += _instances(exam, series, number, uid, series_uid)
        wanted[series_uid] = (series, series.label)
    study = build_study(uid, instances)
    labels: Labels = {}
    for stack in study.stacks:
        series, label = wanted[stack.series_uid]
        second = series.changes.get("echo_two")
        if second and float(stack.header.EchoTime) == second[0]:
            label = second[1]
        labels[stack.series_uid, stack.number] = (label, series.description)
    return study, labels


def _instances(exam: Exam, series: Series, number: int, study_uid: str, series_uid: str) -> Iterator[Instance]:
    facts = {**TECHNIQUES[series.technique], **series.changes}
    header = _header(exam, series, facts, number)
    header.StudyInstanceUID, header.SeriesInstanceUID = study_uid, series_uid
    echoes = [facts["te"], *([facts["echo_two"][0]] if "echo_two" in facts else [])]
    weightings = [0, facts["b"]] if facts.get("b0") else [facts.get("b")]
    planes = ["ax", "sag", "cor"] if facts.get("three") else [facts.get("plane", "ax")]
    for volume in range(facts.get("volumes", 1)):
        for echo in echoes:
            for weighting in weightings:
                for plane in planes:
                    header.EchoTime, header.AcquisitionNumber = echo, volume + 1
                    if facts.get("volumes", 1) > 1:
                        header.TemporalPositionIdentifier = volume + 1
                    if weighting is not None:
                        header.DiffusionBValue = float(weighting)
                    yield from _slices(header, facts, plane)


def _slices(header: Dataset, facts: dict[str, Any], plane: str) -> Iterator[Instance]:
    cosines, normal = PLANES[plane]
    spaced = facts.get("gap", 5.5 if facts.get("d3") else 7.0)
    count = facts.get("slices", 24 if facts.get("d3") else 17)
    header.ImageOrientationPatient = cosines
    header.SOPInstanceUID = generate_uid(prefix="1.2.3.")[:20] + "000"
    header.ImagePositionPatient = [_fixed(-110)] * 3
    first = Instance(Path(f"{header.SeriesNumber}"), header, patient="one")
    for index in range(count):
        yield _moved(first, index, [-110 + n * spaced * index for n in normal])


def _fixed(value: float) -> str:
    return f"{value:+09.3f}"


def _moved(first: Instance, index: int, position: list[float]) -> Instance:
    """A slice that differs in place and UID only; thousands of headers encoded one by one would take a minute."""
    moved = copy.copy(first)
    moved.sop_uid = f"{first.sop_uid[:-3]}{index:03d}"
    places = ["\\".join([_fixed(-110)] * 3), "\\".join(map(_fixed, position))]
    encoded = first._encoded.replace(first.sop_uid.encode(), moved.sop_uid.encode())
    moved._encoded = encoded.replace(*(place.encode() for place in places))
    return moved


def _header(exam: Exam, series: Series, facts: dict[str, Any], number: int) -> Dataset:
    manufacturer, model, kind = VENDORS[exam.vendor]
    sequence, variant = facts["seq"].split("\\"), facts["var"].split("\\")
    short = "IR" if "IR" in sequence else "FFE" if sequence[0] == "GR" else "SE"
    header = Dataset()
    header.SOPClassUID, header.Modality, header.Manufacturer = MRImageStorage, "MR", manufacturer
    header.ManufacturerModelName, header.StudyDescription = model, exam.study_description
    header.ImageType = (facts.get("kind") or kind.format(short, short)).split("\\")
    header.StudyDate = header.AcquisitionDate = "20210304"
    header.StudyTime = "100000"
    # A protocol of 4 minutes per series.
    header.AcquisitionTime = f"{10 + number * 4 // 60:02d}{number * 4 % 60:02d}00"
    header.SeriesDescription, header.SeriesNumber = series.description, number
    header.ScanningSequence = sequence if len(sequence) > 1 else sequence[0]
    header.SequenceVariant = variant if len(variant) > 1 else variant[0]
    header.MRAcquisitionType = "3D" if facts.get("d3") else "2D"
    if exam.vendor == "siemens":
        header.SequenceName = facts["name"]
    header.RepetitionTime, header.FlipAngle, header.EchoTrainLength = facts["tr"], facts["fa"], facts.get("etl", 1)
    if "ti" in facts:
        header.InversionTime = facts["ti"]
    header.SliceThickness = facts.get("thick", 1.0 if facts.get("d3") else 5.0)
    header.Rows = header.Columns = 256
    header.PixelSpacing = [0.9, 0.9]
    agent = facts.get("tag", exam.stamp)
    if agent:
        header.ContrastBolusAgent = agent
    for keyword, value in facts.items():
        if keyword[0].isupper():
            setattr(header, keyword, value)
    return header


@dataclass(frozen=True)
class Outcome:
    """What identification made of a stack."""

    trap: str
    vendor: str
    description: str
    label: str
    found: str
    asked: bool
    why: str

    @property
    def right(self) -> bool:
        return self.found == self.label

    @property
    def silently_wrong(self) -> bool:
        return not self.right and not self.asked


def outcomes(exams: tuple[Exam, ...]) -> list[Outcome]:
    """Identification's answer to every stack of ``exams``."""
    result = []
    for one in exams:
        study, labels = built(one)
        identification = identify(study)
        for decision in identification.decisions:
            label, description = labels[decision.stack.series_uid, decision.stack.number]
            shown = f"{decision.stack.series_uid} stack {decision.stack.number}"
            unsure = decision.confidence < identification.low_confidence and (decision.sequence or label != "other")
            # An unsure stack does no harm where another is used instead, or where it is none of the four.
            harmless = unsure and not decision.used and label in (*identification.chosen, "other")
            asked = bool(harmless) or any(shown in question for question in identification.review)
            why = f"{decision.confidence:.2f} {'; '.join(decision.reasons)}"
            found = decision.sequence or "other"
            result.append(Outcome(one.trap, one.vendor, description, label, found, asked, why))
    return result


def confusion(found: list[Outcome]) -> str:
    """The confusion table in Markdown: labels down, answers across, asked in brackets."""
    names = (*SEQUENCES, "other")
    lines = ["| label | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label in names:
        cells = []
        for name in names:
            hits = [outcome for outcome in found if (outcome.label, outcome.found) == (label, name)]
            asked = sum(outcome.asked for outcome in hits)
            cells.append(f"{len(hits)} ({asked} asked)" if asked else str(len(hits)))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
