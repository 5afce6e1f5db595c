"""Series headers in the style of hospitals, practices and studies in twelve languages, from 2003 to 2026, 0.3 to 7 T.

Each with what a neuroradiographer calls it, having seen the whole exam. Written from the vendors' conventions, without
sight of the rules of identification or of their results. The format, and what "ask:" means, are those of
``series_corpus_c``.
"""

from collections.abc import Callable
from typing import Any

from series_corpus import Exam, Series, exam
from series_corpus_c import SCREENSHOT, Physics, machine

Machine = Callable[..., Series]

MAGNETOM: Physics = {
    # 3 T, body of most protocols since VD.
    "loc": dict(tr=7.4, te=3.1, fa=20, seq="GR", var="SP\\OSP", name="*fl2d1", slices=3, gap=14, thick=6, three=True),
    "scout": dict(tr=3.2, te=1.4, fa=9, seq="GR", var="SP", name="*fl3d1_ns", d3=True, thick=1.6, plane="sag"),
    "se": dict(tr=600, te=7.8, fa=75, seq="SE", var="SP\\OSP", name="*se2d1", ScanOptions="SAT1"),
    "tse": dict(tr=720, te=8.6, fa=140, etl=3, seq="SE", var="SK\\SP\\OSP", name="*tse2d1_3"),
    "tir": dict(tr=2200, te=10, ti=900, fa=140, etl=6, seq="SE\\IR", var="SK\\SP\\MP\\OSP", name="*tir2d1rr6"),
    "mpr": dict(tr=2100, te=3.2, ti=1100, fa=8, seq="GR\\IR", var="SK\\SP\\MP", name="*tfl3d1_16ns", d3=True),
    "mrac": dict(tr=3.6, te=2.46, fa=10, seq="GR", var="SP", name="*fl3d2", d3=True, thick=3.1, plane="cor"),
    "ute": dict(tr=11.9, te=0.07, fa=10, seq="GR", var="SP", name="*ute3d1", d3=True, thick=1.6),
    "t1spc": dict(tr=750, te=7.2, fa=120, etl=60, seq="SE", var="SK\\SP", name="*spc3d1_60ns", d3=True),
    "pdspc": dict(tr=2000, te=32, fa=120, etl=44, seq="SE", var="SK\\SP", name="*spc3d1rr44", d3=True, thick=0.6),
    "mp2": dict(tr=4000, te=2.9, ti=700, fa=4, seq="GR\\IR", var="SK\\SP\\MP", name="*tfl3d1_16ns", d3=True),
    "flair": dict(tr=8500, te=81, ti=2440, fa=150, etl=17, seq="SE\\IR", var="SK\\SP\\MP\\OSP", name="*tir2d1rr17"),
    "spcir": dict(
        tr=7000, te=394, ti=2050, fa=120, etl=270, seq="SE\\IR", var="SK\\SP\\MP", name="*spcir_270ns", d3=True
    ),
    "t2": dict(tr=6100, te=94, fa=140, etl=16, seq="SE", var="SK\\SP\\OSP", name="*tse2d1_16"),
    "blade": dict(tr=5300, te=114, fa=130, etl=30, seq="SE", var="SK\\SP\\OSP", name="*tseR2d1rr30"),
    "haste": dict(tr=1400, te=96, fa=150, etl=192, seq="SE", var="SK\\SP\\OSP", name="*h2d1_192"),
    "t2spc": dict(tr=2800, te=405, fa=120, etl=260, seq="SE", var="SK\\SP", name="*spc3d1_260ns", d3=True),
    "pdt2": dict(tr=3300, te=11, fa=150, etl=12, seq="SE", var="SK\\SP\\OSP", name="*tse2d2r_12", echo_two=(88, "t2")),
    "stir": dict(tr=5200, te=39, ti=210, fa=140, etl=9, seq="SE\\IR", var="SK\\SP\\MP\\OSP", name="*tir2d1_9"),
    "dir": dict(
        tr=7500, te=324, ti=2800, fa=120, etl=265, seq="SE\\IR", var="SK\\SP\\MP", name="*spcir_265ns", d3=True
    ),
    "psir": dict(tr=4200, te=10, ti=380, fa=150, etl=5, seq="SE\\IR", var="SK\\SP\\MP", name="*tir2d1rr5"),
    "hemo": dict(tr=660, te=18, fa=20, seq="GR", var="SP\\OSP", name="*fl2d1"),
    "t2map": dict(tr=2700, te=12.9, fa=180, etl=7, seq="SE", var="SP\\OSP", name="*se2d7", kind="DERIVED\\PRIMARY\\T2"),
    "swi": dict(tr=28, te=20, fa=15, seq="GR", var="SP", name="*swi3d1r", d3=True, thick=2),
    "dwi": dict(tr=5100, te=71, fa=90, seq="EP", var="SK\\SP", name="*ep_b1000t", b=1000, b0=True, ScanOptions="FS"),
    "trace": dict(
        tr=5100, te=71, fa=90, seq="EP", var="SK\\SP", name="*ep_b1000t", b=1000, kind="DERIVED\\PRIMARY\\DIFFUSION"
    ),
    "resolve": dict(tr=4800, te=58, fa=180, seq="EP", var="SK\\SP", name="*re_b1000t", b=1000, ScanOptions="FS"),
    "sepi": dict(tr=7700, te=58, fa=90, seq="EP\\SE", var="SK", name="epse2d1_90", thick=2),
    "adc": dict(
        tr=5100, te=71, fa=90, seq="EP", var="SK\\SP", name="*ep_b0_1000", kind="DERIVED\\PRIMARY\\DIFFUSION\\ADC\\NORM"
    ),
    "fa": dict(
        tr=8800, te=88, fa=90, seq="EP", var="SK\\SP", name="*ep_b0_1000", kind="DERIVED\\PRIMARY\\DIFFUSION\\FA"
    ),
    "dsc": dict(tr=1550, te=32, fa=90, seq="EP", var="SK\\SP", name="*epfid2d1_96", volumes=4, ScanOptions="FS"),
    "map": dict(
        tr=1550, te=32, fa=90, seq="EP", var="SK\\SP", name="*epfid2d1_96", kind="DERIVED\\PRIMARY\\PERFUSION\\RELCBF"
    ),
    "asl": dict(tr=5000, te=15, fa=180, seq="EP\\SE", var="SK", name="tgse3d1_1200", d3=True, thick=4),
    "bold": dict(tr=800, te=37, fa=52, seq="EP", var="SK", name="epfid2d1_104", volumes=4, thick=2),
    "tof": dict(tr=20, te=3.7, fa=17, seq="GR", var="SP", name="*fl3d1r_t70", d3=True, thick=0.6),
    "cemra": dict(tr=3.1, te=1.1, fa=25, seq="GR", var="SP", name="*fl3d1_ns", d3=True, thick=0.9, plane="cor"),
    "field": dict(tr=590, te=4.92, fa=60, seq="GR", var="SP", name="*fm2d2r", echo_two=(7.38, "other"), thick=3),
    "shot": SCREENSHOT | dict(name=""),
}

MAGNETOM_15: Physics = MAGNETOM | {
    # 1.5 and 1 T: longer echoes, no parallel imaging in the older ones.
    "loc": dict(tr=15, te=6, fa=30, seq="GR", var="SP\\OSP", name="*fl2d1", slices=3, gap=14, thick=8, three=True),
    "se": dict(tr=480, te=13, fa=90, seq="SE", var="SP\\OSP", name="*se2d1"),
    "tse": dict(tr=560, te=11, fa=150, etl=3, seq="SE", var="SK\\SP\\OSP", name="*tse2d1_3"),
    "mpr": dict(tr=1860, te=3.1, ti=1000, fa=15, seq="GR\\IR", var="SP\\MP", name="*tfl3d1_ns", d3=True),
    "fl3d": dict(tr=14, te=5.2, fa=25, seq="GR", var="SP", name="*fl3d1", d3=True, thick=1.5),
    "flair": dict(tr=9000, te=114, ti=2500, fa=180, etl=11, seq="SE\\IR", var="SK\\SP\\MP\\OSP", name="*tir2d1_11"),
    "t2": dict(tr=4200, te=112, fa=180, etl=11, seq="SE", var="SK\\SP\\OSP", name="*tse2d1_11"),
    "pdt2": dict(tr=3150, te=16, fa=180, etl=5, seq="SE", var="SK\\SP\\OSP", name="*tse2d2_5", echo_two=(98, "t2")),
    "hemo": dict(tr=780, te=25, fa=20, seq="GR", var="SP\\OSP", name="*fl2d1"),
    "dwi": dict(tr=3800, te=98, fa=90, seq="EP", var="SK\\SP", name="*ep_b1000t", b=1000, b0=True),
    "adc": dict(tr=3800, te=98, fa=90, seq="EP", var="SK\\SP", name="*ep_b0_1000", kind="DERIVED\\PRIMARY\\ADC\\ND"),
    "dsc": dict(tr=1440, te=46, fa=90, seq="EP", var="SK\\SP", name="*epfid2d1_128", volumes=4),
}

SIGNA: Physics = {
    "loc": dict(tr=5.8, te=1.7, ti=0, fa=30, seq="GR", var="SS", slices=7, gap=10, thick=8, three=True),
    "cal": dict(tr=6, te=0.8, ti=0, fa=1, seq="GR", var="NONE", d3=True, thick=8, gap=8, slices=34),
    "t1fse": dict(tr=610, te=8.1, ti=0, fa=125, etl=3, seq="SE", var="SK"),
    "t1flair": dict(tr=2850, te=26, ti=985, fa=142, etl=8, seq="SE\\IR", var="SK"),
    "bravo": dict(tr=7.6, te=2.9, ti=450, fa=12, seq="GR", var="SS\\SP\\SK", d3=True),
    "mprage": dict(tr=6.9, te=2.6, ti=900, fa=9, seq="GR", var="SS\\SP\\SK", d3=True),
    "fspgr": dict(tr=7.1, te=2.1, ti=0, fa=15, seq="GR", var="SS\\SP", d3=True, thick=1.2),
    "silenz": dict(tr=820, te=0.02, ti=0, fa=3, seq="GR", var="SS\\SP", d3=True, thick=1.2),
    "cubet1": dict(tr=550, te=11, ti=0, fa=90, etl=26, seq="SE", var="SK", d3=True),
    "flair": dict(tr=9000, te=110, ti=2470, fa=160, etl=22, seq="SE\\IR", var="SK"),
    "propflair": dict(tr=9500, te=122, ti=2500, fa=142, etl=28, seq="SE\\IR\\RM", var="SK"),
    "cubeflair": dict(tr=7600, te=119, ti=2110, fa=90, etl=230, seq="SE\\IR", var="SK", d3=True),
    "t2": dict(tr=5600, te=108, ti=0, fa=125, etl=22, seq="SE", var="SK"),
    "prop": dict(tr=5900, te=92, ti=0, fa=142, etl=26, seq="SE\\RM", var="SK"),
    "cubet2": dict(tr=3000, te=84, ti=0, fa=90, etl=140, seq="SE", var="SK", d3=True),
    "pdt2": dict(tr=2600, te=18, ti=0, fa=90, etl=8, seq="SE", var="SK", echo_two=(90, "t2")),
    "stir": dict(tr=5000, te=42, ti=165, fa=111, etl=10, seq="SE\\IR", var="SK"),
    "dircube": dict(tr=7000, te=95, ti=2870, fa=90, etl=170, seq="SE\\IR", var="SK", d3=True, thick=1.4),
    "gre": dict(tr=560, te=18, ti=0, fa=20, seq="GR", var="NONE"),
    "swan": dict(tr=41, te=24, ti=0, fa=12, seq="GR", var="SS\\SP", d3=True, thick=2),
    "dwi": dict(tr=5800, te=78, ti=0, fa=90, seq="EP\\RM", var="NONE", b=1000, b0=True),
    "adc": dict(tr=5800, te=78, ti=0, fa=90, seq="EP\\RM", var="NONE", kind="DERIVED\\SECONDARY\\OTHER"),
    "dsc": dict(tr=1500, te=28, ti=0, fa=60, seq="EP\\GR", var="SS", volumes=4),
    "map": dict(tr=1500, te=28, ti=0, fa=60, seq="EP\\GR", var="SS", kind="DERIVED\\SECONDARY\\OTHER"),
    "dce": dict(tr=4.4, te=1.2, ti=0, fa=20, seq="GR", var="SS\\SP", d3=True, volumes=5, thick=5),
    "asl": dict(tr=4800, te=10.5, ti=1525, fa=111, seq="RM", var="NONE", d3=True, thick=4),
    "magic": dict(tr=4200, te=20, ti=0, fa=90, etl=16, seq="SE", var="SK", volumes=8),
    "bold": dict(tr=2000, te=30, ti=0, fa=77, seq="EP\\GR", var="SS", volumes=4),
    "shot": SCREENSHOT | dict(ti=None),
}

SIGNA_OLD: Physics = SIGNA | {
    # LX and EXCITE of 2003 to 2010, 1.5 T.
    "t1": dict(tr=400, te=14, ti=0, fa=90, seq="SE", var="NONE"),
    "fspgr": dict(tr=11.5, te=5.1, ti=0, fa=25, seq="GR", var="SS\\SP", d3=True, thick=1.5),
    "flair": dict(tr=10002, te=148, ti=2200, fa=90, etl=1, seq="SE\\IR", var="SK"),
    "t2": dict(tr=3800, te=102, ti=0, fa=90, etl=12, seq="SE", var="SK"),
    "gre": dict(tr=480, te=20, ti=0, fa=15, seq="GR", var="NONE"),
    "dwi": dict(tr=10000, te=99, ti=0, fa=90, seq="EP\\SE", var="NONE", b=1000, b0=True),
    "dsc": dict(tr=1900, te=55, ti=0, fa=60, seq="EP\\GR", var="SS", volumes=4),
    "tof": dict(tr=35, te=6.9, ti=0, fa=20, seq="GR", var="SS\\SP", d3=True, thick=1.4),
}

PHILIPS: Physics = {
    "loc": dict(tr=9.4, te=4.1, fa=20, seq="GR", var="SP", name="T1TFE", slices=5, gap=10, thick=10, three=True),
    "ref": dict(tr=4.1, te=0.8, fa=1, seq="GR", var="SP", name="T1FFE", d3=True, thick=6),
    "t1": dict(tr=520, te=12, fa=70, seq="SE", var="NONE", name="SE", flavour="T1"),
    "t1tse": dict(tr=680, te=10, fa=90, etl=5, seq="SE", var="SK", name="TSE", flavour="T1"),
    "t1ir": dict(tr=3000, te=15, ti=400, fa=90, etl=6, seq="IR", var="SK", name="TIR", flavour="T1"),
    "tfe": dict(tr=6.7, te=3, fa=8, seq="GR", var="MP", name="T1TFE", d3=True, flavour="T1"),
    "ffe3d": dict(tr=24, te=5.6, fa=30, seq="GR", var="SP", name="T1FFE", d3=True, flavour="T1", thick=1.5),
    "ffe2d": dict(tr=205, te=2.3, fa=80, seq="GR", var="SP", name="T1FFE", flavour="T1"),
    "t1view": dict(tr=400, te=29, fa=90, etl=25, seq="SE", var="SK", name="TSE", d3=True, flavour="T1"),
    "mdixon": dict(tr=6.4, te=1.7, fa=10, seq="GR", var="SP", name="T1FFE", d3=True, flavour="T1"),
    "flair": dict(tr=9000, te=120, ti=2500, fa=90, etl=27, seq="IR", var="SK", name="TIR", flavour="FLUID_ATTENUATED"),
    "flair3d": dict(
        tr=4800, te=290, ti=1650, fa=90, etl=170, seq="IR", var="SK", name="TIR", d3=True, flavour="FLUID_ATTENUATED"
    ),
    "t2": dict(tr=3600, te=90, fa=90, etl=16, seq="SE", var="SK", name="TSE", flavour="T2"),
    "t2view": dict(tr=2500, te=280, fa=90, etl=125, seq="SE", var="SK", name="TSE", d3=True, flavour="T2"),
    "pdt2": dict(
        tr=2900, te=15, fa=90, etl=10, seq="SE", var="SK", name="TSE", flavour="PROTON_DENSITY", echo_two=(95, "t2")
    ),
    "ffe": dict(tr=690, te=19, fa=18, seq="GR", var="SS", name="FFE", flavour="T2_STAR"),
    "swi": dict(tr=34, te=9.1, fa=17, seq="GR", var="SP", name="T1FFE", d3=True, thick=2, flavour="UNKNOWN"),
    "dwi": dict(
        tr=3900,
        te=86,
        fa=90,
        etl=51,
        seq="SE",
        var="SK",
        name="SEEPI",
        b=1000,
        b0=True,
        ScanOptions="FS",
        flavour="DIFFUSION",
    ),
    "adc": dict(
        tr=3900, te=86, fa=90, etl=51, seq="SE", var="SK", name="SEEPI", kind="ORIGINAL\\PRIMARY\\ADC_SE\\ADC\\SE"
    ),
    "dsc": dict(tr=1500, te=35, fa=75, etl=45, seq="GR", var="SK", name="FEEPI", volumes=4, flavour="PERFUSION"),
    "map": dict(tr=1500, te=35, fa=75, seq="GR", var="SK", name="FEEPI", kind="DERIVED\\SECONDARY\\PERFUSION"),
    "dce": dict(tr=3.9, te=1.8, fa=15, seq="GR", var="SP", name="T1FFE", d3=True, volumes=5, thick=5, flavour="T1"),
    "asl": dict(tr=4200, te=15, fa=90, etl=25, seq="GR", var="SK", name="FEEPI", volumes=2, flavour="PERFUSION"),
    "pca": dict(
        tr=16, te=5.3, fa=10, seq="GR", var="SP", name="T1FFE", d3=True, kind="ORIGINAL\\PRIMARY\\M_PCA\\M\\PCA"
    ),
    "drive": dict(
        tr=1500, te=210, fa=90, etl=55, seq="SE", var="SK", name="TSE", d3=True, slices=56, gap=0.6, thick=0.6
    ),
    "shot": SCREENSHOT | dict(name=""),
}

TOSHIBA: Physics = {
    # Toshiba, Canon, and Hitachi of 1.5 and 3 T.
    "loc": dict(tr=12, te=4.5, fa=20, seq="GR", var="SP", slices=3, gap=12, thick=8, three=True),
    "t1": dict(tr=520, te=13, fa=80, seq="SE", var="NONE"),
    "t1ir": dict(tr=2200, te=12, ti=900, fa=90, etl=5, seq="SE\\IR", var="SK\\MP"),
    "mprage": dict(tr=6.2, te=2.8, ti=900, fa=10, seq="GR\\IR", var="MP", d3=True),
    "ffe3d": dict(tr=11, te=4.6, fa=22, seq="GR", var="SP", d3=True, thick=1.3),
    "flair": dict(tr=9000, te=110, ti=2450, fa=90, etl=21, seq="SE\\IR", var="SK\\MP"),
    "mpvflair": dict(tr=6000, te=360, ti=1850, fa=90, etl=130, seq="SE\\IR", var="SK\\MP", d3=True),
    "t2": dict(tr=5000, te=102, fa=90, etl=17, seq="SE", var="SK"),
    "pd": dict(tr=2800, te=15, fa=90, etl=5, seq="SE", var="SK"),
    "stir": dict(tr=4500, te=50, ti=150, fa=90, etl=9, seq="SE\\IR", var="SK\\MP"),
    "fe": dict(tr=680, te=18, fa=20, seq="GR", var="SP"),
    "fsbb": dict(tr=32, te=20, fa=18, seq="GR", var="SP", d3=True, thick=1.6),
    "dwi": dict(tr=5600, te=84, fa=90, seq="EP\\SE", var="NONE", b=1000, b0=True),
    "adc": dict(tr=5600, te=84, fa=90, seq="EP\\SE", var="NONE", kind="DERIVED\\SECONDARY\\DIFFUSION\\ADC"),
    "dsc": dict(tr=1700, te=35, fa=70, seq="EP\\GR", var="NONE", volumes=4),
}

PERMANENT: Physics = {
    # Open permanent magnets of 0.3 and 0.4 T.
    "loc": dict(tr=50, te=9, fa=50, seq="GR", var="NONE", slices=3, gap=14, thick=10, three=True),
    "t1": dict(tr=460, te=22, fa=90, seq="SE", var="NONE", thick=6),
    "gr3d": dict(tr=20, te=8.4, fa=35, seq="GR", var="SP", d3=True, thick=2),
    "flair": dict(tr=8000, te=110, ti=1800, fa=90, etl=10, seq="SE\\IR", var="SK", thick=6),
    "t2": dict(tr=4000, te=125, fa=90, etl=10, seq="SE", var="SK", thick=6),
    "stir": dict(tr=2500, te=30, ti=95, fa=90, etl=5, seq="SE\\IR", var="SK", thick=6),
    "gre": dict(tr=820, te=32, fa=25, seq="GR", var="NONE", thick=6),
}

UNITED: Physics = {
    # United Imaging, 1.5 and 3 T: names are those of its own sequences.
    "loc": dict(tr=6.5, te=2.4, fa=20, seq="GR", var="SP", slices=3, gap=12, thick=8, three=True, SequenceName="gre"),
    "t1": dict(tr=620, te=9.3, fa=90, etl=2, seq="SE", var="SK", SequenceName="fse"),
    "gre": dict(tr=7.8, te=3.1, ti=930, fa=10, seq="GR\\IR", var="SP\\MP", d3=True, SequenceName="gre_fsp"),
    "matrixt1": dict(tr=700, te=13, fa=90, etl=50, seq="SE", var="SK", d3=True, SequenceName="fse_mx"),
    "flair": dict(tr=8000, te=105, ti=2300, fa=130, etl=20, seq="SE\\IR", var="SK", SequenceName="fse_ir"),
    "matrixflair": dict(
        tr=6500, te=410, ti=1930, fa=60, etl=220, seq="SE\\IR", var="SK", d3=True, SequenceName="fse_ir_mx"
    ),
    "t2": dict(tr=4700, te=106, fa=130, etl=19, seq="SE", var="SK", SequenceName="fse"),
    "arms": dict(tr=4900, te=111, fa=130, etl=27, seq="SE", var="SK", SequenceName="fse_arms"),
    "dwi": dict(tr=3600, te=75, fa=90, seq="EP\\SE", var="SK", b=1000, b0=True, SequenceName="epi_dwi"),
    "adc": dict(
        tr=3600, te=75, fa=90, seq="EP\\SE", var="SK", SequenceName="epi_dwi", kind="DERIVED\\SECONDARY\\DWI\\ADC"
    ),
    "swi": dict(tr=33, te=20, fa=15, seq="GR", var="SP", d3=True, thick=2, SequenceName="gre_swi"),
    "dsc": dict(tr=1600, te=30, fa=80, seq="EP\\GR", var="SK", volumes=4, SequenceName="epi_fid"),
    "asl": dict(tr=4700, te=14, fa=90, seq="SE", var="SK", d3=True, thick=4, SequenceName="asl_3d"),
}

MPR, MIP = "DERIVED\\SECONDARY\\MPR\\CSA MPR\\CSAPARALLEL\\M\\NORM", "DERIVED\\SECONDARY\\MIP\\CSA MIP\\M\\NORM"
INLINE_MPR, INLINE_SUB = "DERIVED\\PRIMARY\\MPR\\M\\NORM\\DIS3D", "DERIVED\\PRIMARY\\M\\SUB\\NORM"
MNIP, PHASE = "DERIVED\\PRIMARY\\MNIP\\SWI\\NORM", "ORIGINAL\\PRIMARY\\P\\ND\\NORM"
TRACE = "DERIVED\\PRIMARY\\DIFFUSION\\TRACEW\\NORM"
NOT_CORRECTED, DIS3D = "ORIGINAL\\PRIMARY\\M\\ND", "ORIGINAL\\PRIMARY\\M\\NORM\\DIS3D"
WATER, FAT, IN_PHASE, OPPOSED = (
    f"DERIVED\\PRIMARY\\DIXON\\{name}\\NORM" for name in ("WATER", "FAT", "IN_PHASE", "OPP_PHASE")
)
XA_MPR, XA_ADC, XA_MIP = (f"DERIVED\\PRIMARY\\{name}\\NONE" for name in ("MPR", "ADC", "MIN_IP"))
GE_REFORMAT = "DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE"
GE_MIP = "DERIVED\\SECONDARY\\PROJECTION IMAGE\\COLLAPSE"
GE_WATER, GE_FAT, GE_IN = (f"DERIVED\\PRIMARY\\DIXON\\{name}" for name in ("WATER", "FAT", "IN_PHASE"))
GE_PHASE, GE_SUB = "DERIVED\\SECONDARY\\PHASE", "DERIVED\\SECONDARY\\SUBTRACT"
SYNTHETIC = "DERIVED\\SECONDARY\\SYNTHETIC"
PHILIPS_MPR, PHILIPS_MIP = "DERIVED\\SECONDARY\\MPR", "DERIVED\\SECONDARY\\PROJECTION IMAGE\\MIP"
PHILIPS_PHASE, PHILIPS_SUB = "ORIGINAL\\PRIMARY\\PHASE MAP\\P\\FFE", "DERIVED\\SECONDARY\\SUBTRACTION"
REPORT = dict(kind="OTHER\\CSA REPORT")

SELLA = dict(slices=11, gap=2.5, thick=2.5, PixelSpacing=[0.4, 0.4])
IAC = dict(slices=14, gap=2.2, thick=2, PixelSpacing=[0.3, 0.3])
SPINE = dict(plane="sag", slices=13, gap=3.5, thick=3, PixelSpacing=[0.8, 0.8])
NECK = dict(slices=30, gap=4.4, thick=4, PixelSpacing=[0.5, 0.5])
TIMELESS = dict(AcquisitionTime=None, StudyTime="", AcquisitionDate=None)
UNTOLD = dict(tr=None, te=None, ti=None, fa=None, etl=None, seq="", var="", kind="ORIGINAL\\PRIMARY", ScanOptions=None)
"""What some converters leave of the physics: nothing."""


def _on(date: str, software: str) -> dict[str, Any]:
    return dict(StudyDate=date, AcquisitionDate=date, SoftwareVersions=software)


def _siemens(model: str, tesla: float, date: str, software: str, enhanced: bool = False, **more: Any) -> Machine:
    physics = MAGNETOM if tesla > 2 else MAGNETOM_15
    facts = dict(ManufacturerModelName=model, MagneticFieldStrength=tesla, **_on(date, software), **more)
    return machine(physics, enhanced, **facts)


def _ge(model: str, tesla: float, date: str, software: str, protocol: str, physics: Physics = SIGNA) -> Machine:
    return machine(
        physics,
        ManufacturerModelName=model,
        MagneticFieldStrength=tesla,
        ProtocolName=protocol,
        BodyPartExamined="HEAD",
        **_on(date, software),
    )


def _philips(model: str, tesla: float, date: str, software: str, enhanced: bool = False, **more: Any) -> Machine:
    facts = dict(ManufacturerModelName=model, MagneticFieldStrength=tesla, **_on(date, software), **more)
    return machine(PHILIPS, enhanced, **facts)


def _other(
    maker: str, model: str, tesla: float, date: str, software: str, physics: Physics = TOSHIBA, **more: Any
) -> Machine:
    facts = dict(ManufacturerModelName=model, MagneticFieldStrength=tesla, **_on(date, software), **more)
    return machine(physics, Manufacturer=maker, **facts)


sonata = _siemens("Sonata", 1.5, "20030611", "syngo MR 2002B 4VA21A")
harmony = _siemens("MAGNETOM_Harmony", 1.0, "20050314", "syngo MR A25")
trio = _siemens("TrioTim", 3, "20091020", "syngo MR B15", BodyPartExamined="HEAD")
amira = _siemens("MAGNETOM Amira", 1.5, "20190213", "syngo MR E12", BodyPartExamined="BRAIN")
avanto_fit = _siemens("Avanto_fit", 1.5, "20180625", "syngo MR E11")
lumina = _siemens("MAGNETOM Lumina", 3, "20231107", "syngo MR XA50", Manufacturer="Siemens Healthineers")
cima = _siemens("MAGNETOM Cima.X", 3, "20250902", "syngo MR XA61", True, Manufacturer="Siemens Healthineers")
altea = _siemens("MAGNETOM Altea", 1.5, "20240117", "syngo MR XA51", True, Manufacturer="Siemens Healthineers")
biograph = _siemens("Biograph_mMR", 3, "20170509", "syngo MR E11", BodyPartExamined="BRAIN")
prisma_fit = _siemens("Prisma_fit", 3, "20200818", "syngo MR E11", BodyPartExamined="HEAD")
terra_x = _siemens(
    "MAGNETOM Terra.X", 7, "20260121", "syngo MR XA60", Manufacturer="Siemens Healthineers", BodyPartExamined="BRAIN"
)
spectra = _siemens("Spectra", 3, "20150922", "syngo MR D13", BodyPartExamined="SKULL")
skyra_fit = _siemens("Skyra_fit", 3, "20211202", "syngo MR E11", BodyPartExamined="HEAD")
lx = _ge("GENESIS_SIGNA", 1.5, "20031119", "09", "BRAIN/SEIZURE", SIGNA_OLD)
excite_hd = _ge("SIGNA HDx", 1.5, "20080407", "14\\LX\\MR Software release:14.0_M5", "ENCEFALO", SIGNA_OLD)
hdxt3 = _ge("Signa HDxt", 3, "20120703", "15\\LX\\MR Software release:HD16.0_V02", "P BRAIN TUMOR")
artist = _ge("SIGNA Artist", 1.5, "20200211", "28\\LX\\MR Software release:DV28.0_R02", "HJERNE TUMOR")
hero = _ge("SIGNA Hero", 3, "20240528", "30\\LX\\MR Software release:RX30.1_R01", "BTIP 3T v2")
voyager = _ge("SIGNA Voyager", 1.5, "20220315", "29\\LX\\MR Software release:MR29.1", "CRANE INJ 1.5T")
mr750 = _ge("DISCOVERY MR750", 3, "20160801", "25\\LX\\MR Software release:DV25.0_R01", "Epilepsia 3T")
signa7 = _ge("SIGNA 7.0T", 7, "20230620", "30\\LX\\MR Software release:SIGNA_30.0", "7T Neuro")
gyroscan = _philips("Gyroscan Intera", 1.5, "20040203", "NT 10.1.1")
achieva3 = _philips("Achieva", 3, "20110530", "3.2.2\\3.2.2.0", BodyPartExamined="HEAD")
panorama = _philips("Panorama HFO", 1.0, "20100412", "2.5.3\\2.5.3.4")
ingenia15 = _philips("Ingenia", 1.5, "20170320", "5.3.0\\5.3.0.0", BodyPartExamined="BRAIN")
ingenia_cx = _philips("Ingenia CX", 3, "20190606", "5.4.1\\5.4.1.2", BodyPartExamined="HEAD")
elition_x = _philips("Ingenia Elition X", 3, "20241010", "5.9.0\\5.9.0.0", True)
mr7700 = _philips("MR 7700", 3, "20260305", "12.1.0\\12.1.0.0", True)
mr5300 = _philips("MR 5300", 1.5, "20230412", "5.8.1\\5.8.1.0", True)
vantage = _other("TOSHIBA", "MRT200SP5", 1.5, "20061204", "V9.30*R358")
titan3 = _other("TOSHIBA_MEC", "Titan3T", 3, "20131016", "V2.50*R005")
elan = _other("CANON_MEC", "Vantage Elan", 1.5, "20190724", "V4.51*SP0003")
aperto = _other("HITACHI", "APERTO", 0.4, "20070911", "V4.0N", PERMANENT)
airis_elite = _other("Hitachi Medical Corporation", "AIRIS Elite", 0.3, "20130227", "V6.1K", PERMANENT)
trillium = _other("HITACHI", "TRILLIUM OVAL", 3, "20160512", "V5.1E")
umr790 = _other("UIH", "uMR 790", 3, "20210915", "V10", UNITED, kind="ORIGINAL\\PRIMARY\\M")
umr570 = _other("UIH", "uMR 570", 1.5, "20191128", "R004", UNITED, kind="ORIGINAL\\PRIMARY\\M")
# Exports of studies and archives that took something away from all series.
bare_siemens = machine(MAGNETOM, ProtocolName=None, ManufacturerModelName=None, SequenceName=None)
bare_ge = machine(SIGNA, ProtocolName=None, ManufacturerModelName=None)
timeless_philips = machine(PHILIPS, ProtocolName=None, ManufacturerModelName="Ingenia", **TIMELESS)
timeless_ge = machine(SIGNA, ProtocolName="BRAIN", **TIMELESS)

CORPUS_E: tuple[Exam, ...] = (
    exam(
        "Sonata of 2003, plane first, 'i.v.' is after the injection, double echo, no tags",
        "siemens",
        sonata("Scout", "loc"),
        sonata("sag T1 SE 5mm", "se", "t1", plane="sag"),
        sonata("tra PD/T2 TSE", "pdt2"),
        sonata("tra FLAIR", "flair", "flair"),
        sonata("tra FLASH Blut", "hemo"),
        sonata("tra EPI b0-500-1000", "dwi"),
        sonata("tra EPI ADC-Karte", "adc"),
        sonata("tra T1 SE 5mm", "se", "t1"),
        sonata("tra T1 SE 5mm i.v.", "se", "t1ce"),
        sonata("cor T1 SE 5mm i.v.", "se", "t1ce", plane="cor"),
        sonata("3D FLASH i.v.", "fl3d", "t1ce"),
        sonata("Subtraktion tra i.v.", "se", kind="DERIVED\\PRIMARY\\M\\SUB\\ND"),
        study="Schädel",
    ),
    exam(
        "Harmony of 1 T, Austria, agent in the tag of the last two only",
        "siemens",
        harmony("uebersicht 3 ebenen", "loc"),
        harmony("TSE T2 axial 6", "t2", "t2", thick=6),
        harmony("TSE T2 coronal 5", "t2", "t2", plane="cor"),
        harmony("TIRM axial 6", "flair", "flair", thick=6, ti=2300),
        harmony("SE T1 axial 6", "se", "t1", thick=6),
        harmony("SE T1 axial 6", "se", "t1ce", thick=6, tag="OMNISCAN 15"),
        harmony("SE T1 sagittal 4", "se", "t1ce", plane="sag", thick=4, tag="OMNISCAN 15"),
        study="MR Gehirnschädel",
    ),
    exam(
        "Trio, French research, no FLAIR, motion-corrected copies of the functional series",
        "siemens",
        trio("S01_localizer", "loc"),
        trio("S02_gre_field_mapping_2.4mm", "field"),
        trio("S03_gre_field_mapping_2.4mm", "field", kind=PHASE),
        trio("S04_ep2d_bold_repos", "bold", tr=2400, te=30, name="*epfid2d1_64"),
        trio("S05_MoCoSeries", "bold", tr=2400, te=30, name="*epfid2d1_64", kind="DERIVED\\PRIMARY\\M\\ND\\MOCO"),
        trio("S06_t1_mprage_sag_iso_1mm", "mpr", "t1", plane="sag", tr=2300, te=4.2, ti=900),
        trio("S07_t2_tse_axial_2mm", "t2", "t2", thick=2),
        trio("S08_DTI_60dir_b1500", "dwi", b=1500),
        trio("S09_DTI_60dir_b1500_TENSOR", "fa", kind="DERIVED\\PRIMARY\\DIFFUSION\\TENSOR"),
        trio("S10_t2_map_multi-echo", "t2map", kind=NOT_CORRECTED, echo_two=(25.8, "other")),
        trio("S11_t2_map_multi-echo_T2Map", "t2map"),
        study="PROTOCOLE_MEMODYN",
    ),
    exam(
        "study of connectivity: T1w and T2w, vNav setters, single-band references, spin-echo field maps",
        "siemens",
        prisma_fit("Localizer_aligned", "loc"),
        prisma_fit("SpinEchoFieldMap_AP", "sepi"),
        prisma_fit("SpinEchoFieldMap_PA", "sepi"),
        prisma_fit("rfMRI_REST_AP_SBRef", "bold", volumes=1),
        prisma_fit("rfMRI_REST_AP", "bold"),
        prisma_fit("T1w_setter", "scout", tr=11, te=5, fa=2, name="ABCD3d1_32ns", thick=8, slices=32),
        prisma_fit("T1w_MPR_vNav_4e", "mpr", "t1", plane="sag", tr=2500, te=2.2, ti=1000, kind=NOT_CORRECTED),
        prisma_fit("T1w_MPR_vNav_4e", "mpr", "t1", plane="sag", tr=2500, te=2.2, ti=1000),
        prisma_fit("T2w_SPC_vNav", "t2spc", "t2", plane="sag", tr=3200, te=564),
        prisma_fit("dMRI_dir98_AP_SBRef", "sepi", te=89, tr=3230),
        prisma_fit("dMRI_dir98_AP", "dwi", tr=3230, te=89, name="ep_b1500#10"),
        prisma_fit("PCASLhr_SPIN_FM", "asl", tr=3580, te=19),
        study="LIFESPAN_V2",
    ),
    exam(
        "study of ageing: the manual's names, hippocampus, no contrast",
        "siemens",
        prisma_fit("3 Plane Localizer", "loc"),
        prisma_fit("Accelerated Sagittal MPRAGE_ND", "mpr", "t1", plane="sag", kind=NOT_CORRECTED, tr=2300, te=2.98),
        prisma_fit("Accelerated Sagittal MPRAGE", "mpr", "t1", plane="sag", kind=DIS3D, tr=2300, te=2.98),
        prisma_fit("Sagittal 3D FLAIR", "spcir", "flair", plane="sag", tr=4800, te=441, ti=1650),
        prisma_fit("Axial T2 STAR", "hemo", te=20),
        prisma_fit("Axial MB DTI", "dwi", tr=3300, te=71),
        prisma_fit("Axial MB rsfMRI (Eyes Open)", "bold"),
        prisma_fit("Axial 3D PASL (Eyes Open)", "asl"),
        prisma_fit("Perfusion_Weighted", "asl", kind="DERIVED\\PRIMARY\\ASL\\PERFUSION_ASL"),
        prisma_fit("HighResHippocampus", "t2", "t2", plane="cor", tr=8020, te=50, thick=2, slices=30, gap=2),
        study="AGEING3 W1",
    ),
    exam(
        "Turkish, Amira, 'KONTRASTSIZ' and 'KONTRASTLI'",
        "siemens",
        amira("LOKALIZER", "loc"),
        amira("T1 SAJ KONTRASTSIZ", "se", "t1", plane="sag"),
        amira("T1 AKS KONTRASTSIZ", "se", "t1"),
        amira("T2 AKS TSE", "t2", "t2"),
        amira("T2 KOR TSE", "t2", "t2", plane="cor"),
        amira("FLAIR AKS", "flair", "flair"),
        amira("DIFUZYON AKS", "dwi"),
        amira("DIFUZYON AKS_ADC", "adc"),
        amira("SWI AKS", "swi", tr=49, te=40),
        amira("T1 AKS KONTRASTLI", "se", "t1ce"),
        amira("T1 KOR KONTRASTLI", "se", "t1ce", plane="cor"),
        amira("T1 SAJ KONTRASTLI", "se", "t1ce", plane="sag"),
        study="KONTRASTLI BEYIN MR",
    ),
    exam(
        "Turkish, United Imaging, 'pre' and 'post IVKM'",
        "canon",
        umr570("scout_3p", "loc"),
        umr570("t2_arms_aks", "arms", "t2"),
        umr570("t2_flair_aks", "flair", "flair"),
        umr570("t1_fse_aks pre", "t1", "t1"),
        umr570("epi_dwi_aks_b1000", "dwi"),
        umr570("epi_dwi_aks_b1000_ADC", "adc"),
        umr570("swi_aks", "swi"),
        umr570("swi_aks_MinIP", "swi", kind="DERIVED\\SECONDARY\\SWI\\MINIP"),
        umr570("t1_fse_aks post IVKM", "t1", "t1ce"),
        umr570("t1_gre_fsp_3d_sag post IVKM", "gre", "t1ce", plane="sag"),
        umr570("t1_gre_fsp_3d post IVKM MPR_TRA", "gre", kind="DERIVED\\SECONDARY\\MPR"),
        study="BEYIN IVKM",
    ),
    exam(
        "Czech, Avanto, 'nativ' and 'po KL'",
        "siemens",
        avanto_fit("localizer 3 roviny", "loc"),
        avanto_fit("t2_tse_tra", "t2", "t2"),
        avanto_fit("FLAIR_tra", "flair", "flair"),
        avanto_fit("t2_tse_cor", "t2", "t2", plane="cor"),
        avanto_fit("DWI_tra_TRACEW", "trace", kind=TRACE),
        avanto_fit("DWI_tra_ADC", "adc"),
        avanto_fit("t1_se_tra nativ", "se", "t1"),
        avanto_fit("t2_fl2d_tra hemo", "hemo"),
        avanto_fit("t1_se_tra po KL", "se", "t1ce"),
        avanto_fit("t1_mpr_sag_iso po KL", "mpr", "t1ce", plane="sag"),
        avanto_fit("t1_mpr_sag_iso po KL_MPR tra", "mpr", kind=MPR),
        study="MR mozku nativně + i.v. KL",
    ),
    exam(
        "Czech, Philips, 'bez k.l.' and 's k.l.', stamped on all",
        "philips",
        ingenia15("Survey", "loc"),
        ingenia15("Ref_dS_HeadNeck", "ref"),
        ingenia15("T2W_TSE tra", "t2", "t2"),
        ingenia15("FLAIR tra", "flair", "flair"),
        ingenia15("T1W_TSE tra bez k.l.", "t1tse", "t1"),
        ingenia15("DWI tra", "dwi"),
        ingenia15("dADC map", "adc"),
        ingenia15("T2W_FFE tra", "ffe"),
        ingenia15("T1W_TSE tra s k.l.", "t1tse", "t1ce"),
        ingenia15("T1W_3D_TFE s k.l.", "tfe", "t1ce"),
        stamp="Gadovist 1,0 mmol/ml",
        study="MR mozku",
    ),
    exam(
        "Polish, Skyra, words of the injection, T1 with fat suppression",
        "siemens",
        skyra_fit("localizer", "loc"),
        skyra_fit("t2_tse_tra", "t2", "t2"),
        skyra_fit("t2_flair_tra_fs", "flair", "flair", ScanOptions="FS"),
        skyra_fit("t1_tse_tra przed kontrastem", "tse", "t1"),
        skyra_fit("dyfuzja_tra", "dwi"),
        skyra_fit("dyfuzja_tra_ADC", "adc"),
        skyra_fit("SWI_tra", "swi"),
        skyra_fit("SWI_tra mIP", "swi", kind=MNIP, thick=14),
        skyra_fit("perfuzja_DSC", "dsc"),
        skyra_fit("t1_tse_tra_fs po kontraście", "tse", "t1ce", ScanOptions="FS"),
        skyra_fit("t1_tse_cor_fs po kontraście", "tse", "t1ce", plane="cor", ScanOptions="FS"),
        skyra_fit("t1_mprage_sag po kontraście", "mpr", "t1ce", plane="sag"),
        skyra_fit("SVS_se_135", "shot"),
        study="MR głowy z kontrastem",
    ),
    exam(
        "Danish, GE, 'før' and 'm. k.', T1-FLAIR",
        "ge",
        artist("3 plan lok", "loc"),
        artist("Cal", "cal"),
        artist("Tra T2 Propeller", "prop", "t2"),
        artist("Sag Cube T2 Flair", "cubeflair", "flair", plane="sag"),
        artist("Tra T1 Flair før k.", "t1flair", "t1"),
        artist("Tra DWI", "dwi"),
        artist("ADC Tra DWI", "adc"),
        artist("Tra SWAN", "swan"),
        artist("Tra Perf DSC", "dsc", tag="Dotarem"),
        artist("Tra T1 Flair m. k.", "t1flair", "t1ce", tag="Dotarem"),
        artist("Sag Bravo m. k.", "bravo", "t1ce", plane="sag", tag="Dotarem"),
        artist("Cor Bravo m. k. 2 mm", "bravo", kind=GE_REFORMAT, plane="cor", tag="Dotarem"),
        study="MR Cerebrum m. kontrast",
    ),
    exam(
        "Danish, PET/MR: attenuation maps, UTE, FLAIR after contrast",
        "siemens",
        biograph("Head_AAScout", "scout"),
        biograph("Head_MRAC_PET_HiRes_in", "mrac", kind=IN_PHASE),
        biograph("Head_MRAC_PET_HiRes_opp", "mrac", kind=OPPOSED),
        biograph("Head_MRAC_PET_UTE_UMAP", "ute", kind="DERIVED\\PRIMARY\\M\\ND\\UMAP"),
        biograph("Head_MRAC_PET_UTE", "ute"),
        biograph("t1_mprage_sag_iso_før_kontrast", "mpr", "t1", plane="sag"),
        biograph("t2_blade_tra_3mm", "blade", "t2", thick=3),
        biograph("ep2d_diff_tra_b0_b1000", "dwi"),
        biograph("ep2d_diff_tra_b0_b1000_ADC", "adc"),
        biograph("t2_spc_flair_sag_efter_kontrast", "spcir", "flair", plane="sag"),
        biograph("t1_mprage_sag_iso_efter_kontrast", "mpr", "t1ce", plane="sag"),
        biograph("t1_mprage_tra_rekon_efter_kontrast", "mpr", kind=INLINE_MPR),
        study="PET/MR cerebrum FET",
    ),
    exam(
        "Portuguese, GE, 'sem' and 'pós', FLAIR after contrast, angiography",
        "ge",
        excite_hd("LOCALIZADOR 3P", "loc"),
        excite_hd("SAG T1 SEM", "t1", "t1", plane="sag"),
        excite_hd("AX T2 FSE", "t2", "t2"),
        excite_hd("AX DIFUSÃO", "dwi"),
        excite_hd("AX GRE T2*", "gre"),
        excite_hd("AX T1 SEM", "t1", "t1"),
        excite_hd("ANGIO TOF 3D", "tof"),
        excite_hd("COL:ANGIO TOF 3D", "tof", kind=GE_MIP),
        excite_hd("AX T1 PÓS GADOLÍNIO", "t1", "t1ce"),
        excite_hd("COR FLAIR PÓS", "flair", "flair", plane="cor"),
        excite_hd("COR SPGR 3D PÓS GADOLÍNIO", "fspgr", "t1ce", plane="cor"),
        study="RM ENCÉFALO C/ GADOLÍNIO",
    ),
    exam(
        "Brazilian, Philips, prefixes of the console, 'GD' at the front",
        "philips",
        ingenia_cx("LOC", "loc"),
        ingenia_cx("WIP SAG 3D T1 TFE", "tfe", "t1", plane="sag"),
        ingenia_cx("WIP AX FLAIR SPIR", "flair", "flair", ScanOptions="FS"),
        ingenia_cx("AX T2 MVXD", "t2", "t2"),
        ingenia_cx("AX DWI B1000", "dwi"),
        ingenia_cx("MAPA ADC", "adc"),
        ingenia_cx("AX SWIp", "swi"),
        ingenia_cx("AX SWIp", "swi", kind=PHILIPS_PHASE),
        ingenia_cx("PERFUSAO T2*", "dsc"),
        ingenia_cx("GD SAG 3D T1 TFE", "tfe", "t1ce", plane="sag"),
        ingenia_cx("GD AX T1 SE MTC", "t1", "t1ce", tr=650, ScanOptions="MT"),
        ingenia_cx("GD REFORM COR 3D T1", "tfe", kind=PHILIPS_MPR, plane="cor"),
        study="RM CRANIO",
    ),
    exam(
        "Spanish, Canon 3 T, 'PRE CIV' and 'POST CIV', T2 with fat suppression",
        "canon",
        titan3("LOC", "loc"),
        titan3("SAG T1 FLAIR", "t1ir", "t1", plane="sag"),
        titan3("TRA T2 FATSAT", "t2", "t2", ScanOptions="FS"),
        titan3("TRA FLAIR", "flair", "flair"),
        titan3("TRA DWI", "dwi"),
        titan3("TRA ADC", "adc"),
        titan3("TRA T2* EG", "fe"),
        titan3("3D T1 PRE CIV", "mprage", "t1"),
        titan3("PERFUSION CIV", "dsc", tag="GADOVIST"),
        titan3("3D T1 POST CIV", "mprage", "t1ce", tag="GADOVIST"),
        titan3("3D T1 POST CIV MPR SAG", "mprage", kind="DERIVED\\SECONDARY\\MPR", plane="sag", tag="GADOVIST"),
        study="RM CEREBRAL SIN/CON CIV",
    ),
    exam(
        "Italian, open magnet of 0.4 T, 'DOPO GD'",
        "canon",
        aperto("SCOUT", "loc"),
        aperto("SE T1 SAG", "t1", "t1", plane="sag"),
        aperto("FSE T2 ASS", "t2", "t2"),
        aperto("FLAIR ASS", "flair", "flair"),
        aperto("GE T2* ASS", "gre"),
        aperto("SE T1 ASS", "t1", "t1"),
        aperto("SE T1 ASS DOPO GD", "t1", "t1ce"),
        aperto("SE T1 COR DOPO GD", "t1", "t1ce", plane="cor"),
        study="RM ENCEFALO",
    ),
    exam(
        "Swedish, Philips of 2024, enhanced, 'f Gd' and 'e Gd'",
        "philips",
        elition_x("Survey", "loc"),
        elition_x("3D T1 TFE sag f Gd", "tfe", "t1", plane="sag"),
        elition_x("3D BrainVIEW FLAIR sag", "flair3d", "flair", plane="sag"),
        elition_x("T2 TSE tra 2mm", "t2", "t2", thick=2),
        elition_x("DWI tra", "dwi"),
        elition_x("DWI tra ADC", "adc", kind=XA_ADC, AcquisitionContrast="DIFFUSION"),
        elition_x("SWIp tra", "swi"),
        elition_x("Perf FEEPI", "dsc"),
        elition_x("3D T1 TFE sag e Gd", "tfe", "t1ce", plane="sag"),
        elition_x("3D BrainVIEW T1 BB e Gd", "t1view", "t1ce", plane="sag"),
        elition_x("Tra MPR T1 e Gd", "tfe", kind=PHILIPS_MPR),
        study="MR Hjärna med och utan iv kontrast",
    ),
    exam(
        "Swedish, Siemens XA, equal names, agent in the code sequence of the second",
        "siemens",
        altea("loc", "loc"),
        altea("t1_mprage_sag", "mpr", "t1", plane="sag"),
        altea("t2_tse_tra", "t2", "t2"),
        altea("t2_space_dark-fluid_sag", "spcir", "flair", plane="sag", te=338),
        altea("resolve_tra", "resolve", tr=4100, te=69, flavour="DIFFUSION"),
        altea("resolve_tra_ADC", "adc", kind=XA_ADC),
        altea("t2_swi_tra", "swi", tr=48, te=40),
        altea("t1_mprage_sag", "mpr", "t1ce", plane="sag", tag="Gadoterat"),
        altea("t1_mprage_sag_MPR_tra", "mpr", kind=XA_MPR, tag="Gadoterat"),
        altea("t2_tse_dixon_cor_W", "t2", "t2", plane="cor", kind=WATER, tag="Gadoterat"),
        altea("t2_tse_dixon_cor_F", "t2", plane="cor", kind=FAT, tag="Gadoterat"),
        study="MR Hjärna",
    ),
    exam(
        "Dutch, Siemens, 'zonder' and 'met', black-blood T1, study word for the planning",
        "siemens",
        skyra_fit("AAHead", "scout"),
        skyra_fit("t1_mprage_tra zonder", "mpr", "t1"),
        skyra_fit("t2_tse_tra 3mm", "t2", "t2", thick=3),
        skyra_fit("flair_3d_sag", "spcir", "flair", plane="sag"),
        skyra_fit("resolve_tra", "resolve"),
        skyra_fit("resolve_tra_ADC", "adc"),
        skyra_fit("asl_3d_tra", "asl"),
        skyra_fit("asl_3d_tra_relCBF", "asl", kind="DERIVED\\PRIMARY\\ASL\\RELCBF"),
        skyra_fit("t1_mprage_tra met", "mpr", "t1ce"),
        skyra_fit("t1_spc_blackblood_sag met", "t1spc", "t1ce", plane="sag"),
        skyra_fit("t1_mprage_tra met_verschil", "mpr", kind=INLINE_SUB),
        study="MRI cerebrum (radiotherapie)",
    ),
    exam(
        "Dutch, Gyroscan of 2004, T1 FFE, 'na Gd', dual echo, PCA",
        "philips",
        gyroscan("SURV", "loc"),
        gyroscan("T1/SE/SAG", "t1", "t1", plane="sag", te=15),
        gyroscan("PD-T2/TSE/TRA", "pdt2"),
        gyroscan("FLAIR/TRA", "flair", "flair", tr=8000, te=110, ti=2250),
        gyroscan("T1/FFE/TRA", "ffe2d", "t1", tr=190, te=4.6),
        gyroscan("T1/FFE/TRA na Gd", "ffe2d", "t1ce", tr=190, te=4.6),
        gyroscan("T1/3D/FFE na Gd", "ffe3d", "t1ce"),
        gyroscan("PCA/VEN", "pca"),
        gyroscan("PCA/VEN MIP", "pca", kind=PHILIPS_MIP),
        study="MRI HERSENEN",
    ),
    exam(
        "French, GE 1.5 T, 'SANS' and 'AVEC', subtractions, T2 of the whole head after injection",
        "ge",
        voyager("LOCA", "loc"),
        voyager("AX DIFF", "dwi"),
        voyager("ADC AX DIFF", "adc"),
        voyager("AX FLAIR PROP", "propflair", "flair"),
        voyager("AX SWAN", "swan"),
        voyager("Filt_Pha:AX SWAN", "swan", kind=GE_PHASE),
        voyager("SAG CUBE T1 SANS", "cubet1", "t1", plane="sag"),
        voyager("PERFUSION GADO", "dsc"),
        voyager("AX T2 PROP", "prop", "t2"),
        voyager("SAG CUBE T1 AVEC", "cubet1", "t1ce", plane="sag"),
        voyager("SOUSTRACTION CUBE T1", "cubet1", kind=GE_SUB, plane="sag"),
        voyager("AX REFORMAT CUBE T1 AVEC", "cubet1", kind=GE_REFORMAT),
        study="IRM ENCEPHALE",
    ),
    exam(
        "consensus protocol of American trials: T2 between injection and T1, agent stamped by the work list",
        "ge",
        hero("3-Plane Localizer", "loc"),
        hero("Sag 3D T1 Pre BTIP", "mprage", "t1", plane="sag"),
        hero("Ax 2D T2 FLAIR BTIP", "flair", "flair"),
        hero("Ax DWI BTIP", "dwi"),
        hero("Ax DWI BTIP ADC", "adc"),
        hero("Ax DSC BTIP", "dsc"),
        hero("rCBV Ax DSC BTIP", "map"),
        hero("Ax 2D T2 BTIP", "t2", "t2"),
        hero("Sag 3D T1 Post BTIP", "mprage", "t1ce", plane="sag"),
        hero("Sag 3D T1 Post BTIP Sub", "mprage", kind=GE_SUB, plane="sag"),
        stamp="gadopiclenol",
        study="MR BRAIN BTIP W AND WO CONTRAST",
    ),
    exam(
        "American, GE, Flex (Dixon) T1 in water and fat, AIR Recon DL copies",
        "ge",
        hero("Loc", "loc"),
        hero("InPhase: Ax T1 FSE Flex", "t1fse", "t1", kind=GE_IN),
        hero("WATER: Ax T1 FSE Flex", "t1fse", "t1", kind=GE_WATER),
        hero("FAT: Ax T1 FSE Flex", "t1fse", kind=GE_FAT),
        hero("Ax T2 PROPELLER AIR DL", "prop", "t2"),
        hero("ORIG Ax T2 PROPELLER", "prop", "t2"),
        hero("Sag T2 FLAIR CUBE AIR", "cubeflair", "flair", plane="sag"),
        hero("Ax DWI MUSE", "dwi"),
        hero("WATER: Ax T1 FSE Flex POST", "t1fse", "t1ce", kind=GE_WATER, tag="GADAVIST 8 CC"),
        hero("FAT: Ax T1 FSE Flex POST", "t1fse", kind=GE_FAT, tag="GADAVIST 8 CC"),
        hero("Sag BRAVO POST", "bravo", "t1ce", plane="sag", tag="GADAVIST 8 CC"),
        hero("Screen Save", "shot"),
        study="MRI BRAIN W WO",
    ),
    exam(
        "American, LX of 2003, equal names, 'POST' only on the coronal",
        "ge",
        lx("SAG LOC", "loc"),
        lx("SAG T1", "t1", "t1", plane="sag"),
        lx("AX PD/T2", "pdt2"),
        lx("AX FLAIR", "flair", "flair"),
        lx("AX DIFF", "dwi"),
        lx("AX T1", "t1", "t1"),
        lx("AX T1", "t1", "t1ce", tag="MAGNEVIST 20CC"),
        lx("COR T1 POST", "t1", "t1ce", plane="cor", tag="MAGNEVIST 20CC"),
        lx("PJN:COW", "tof", kind=GE_MIP),
        study="MRI HEAD W/WO",
    ),
    exam(
        "American, GE 3 T of 2012: permeability with flip angles, MR spectroscopy, colour maps",
        "ge",
        hdxt3("3PLANE", "loc"),
        hdxt3("HNS ASSET CAL", "cal"),
        hdxt3("SAG T1 FLAIR NON", "t1flair", "t1", plane="sag"),
        hdxt3("AX T2 FRFSE", "t2", "t2"),
        hdxt3("AX T2 FLAIR", "flair", "flair"),
        hdxt3("T1 MAP FA 2", "dce", volumes=1, fa=2),
        hdxt3("T1 MAP FA 15", "dce", volumes=1, fa=15),
        hdxt3("DCE DYNAMIC", "dce", tag="MULTIHANCE"),
        hdxt3("KTRANS", "dce", volumes=1, kind="DERIVED\\SECONDARY\\OTHER", tag="MULTIHANCE"),
        hdxt3("AX T1 FLAIR GAD", "t1flair", "t1ce", tag="MULTIHANCE"),
        hdxt3("AX SPGR 3D GAD", "fspgr", "t1ce", tag="MULTIHANCE"),
        hdxt3("PROBE 2D CSI TE 144", "shot"),
        hdxt3("Cho/NAA color", "shot", SamplesPerPixel=3),
        study="MRI BRAIN TUMOR W PERF",
    ),
    exam(
        "British, Philips, 'pre Gad' and 'post Gad', mDIXON T2 in three images, drive",
        "philips",
        mr5300("Survey Head", "loc"),
        mr5300("T1W pre Gad Sag 3D", "tfe", "t1", plane="sag"),
        mr5300("T2W mDIXON Ax W", "t2", "t2", kind="DERIVED\\PRIMARY\\T2\\WATER"),
        mr5300("T2W mDIXON Ax F", "t2", kind="DERIVED\\PRIMARY\\T2\\FAT"),
        mr5300("T2W mDIXON Ax IP", "t2", "t2", kind="DERIVED\\PRIMARY\\T2\\IN_PHASE"),
        mr5300("FLAIR Cor", "flair", "flair", plane="cor"),
        mr5300("DWI Ax b1000", "dwi"),
        mr5300("eADC Ax", "adc", kind="DERIVED\\PRIMARY\\DIFFUSION\\ADC"),
        mr5300("DRIVE IAMs", "drive"),
        mr5300("T1W post Gad Sag 3D", "tfe", "t1ce", plane="sag"),
        mr5300("T1W FS post Gad IAMs", "t1tse", **IAC, ScanOptions="FS"),
        study="MRI Head and IAMs with contrast",
    ),
    exam(
        "German, Cima.X of 2025, deep reconstruction, 'vor' and 'nach', inline subtraction",
        "siemens",
        cima("AA Scout Kopf", "scout"),
        cima("T1 MPRAGE CS sag vor", "mpr", "t1", plane="sag"),
        cima("FLAIR SPACE CS sag", "spcir", "flair", plane="sag"),
        cima("T2 TSE DR tra 3mm", "t2", "t2", thick=3),
        cima("DWI MS-EPI DR tra", "dwi", flavour="DIFFUSION"),
        cima("DWI MS-EPI DR tra_ADC", "adc", kind=XA_ADC),
        cima("SWI Wave tra", "swi"),
        cima("SWI Wave tra_mIP", "swi", kind=XA_MIP),
        cima("DSC tra", "dsc", tag="Elucirem"),
        cima("T1 MPRAGE CS sag nach", "mpr", "t1ce", plane="sag", tag="Elucirem"),
        cima("T1 MPRAGE CS sag nach_SUB", "mpr", plane="sag", kind="DERIVED\\PRIMARY\\SUBTRACTION", tag="Elucirem"),
        cima("T1 SPACE BB CS sag nach", "t1spc", "t1ce", plane="sag", tag="Elucirem"),
        study="MRT Kopf Tumor nativ/KM",
    ),
    exam(
        "German, children: single-shot T2 under sedation, T2 repeated, spine after contrast",
        "siemens",
        amira("loc", "loc"),
        amira("HASTE tra schnell", "haste", "t2"),
        amira("T2 tra 3mm", "t2", "t2", thick=3),
        amira("T2 tra 3mm Wdh Bewegung", "t2", "t2", thick=3),
        amira("FLAIR cor 3mm", "flair", "flair", plane="cor", thick=3),
        amira("T1 IR tra 3mm", "tir", "t1", thick=3),
        amira("Diff tra", "dwi"),
        amira("Diff tra_ADC", "adc"),
        amira("T1 SE tra 3mm KM", "se", "t1ce", thick=3, tag="Gadovist 1.2 ml"),
        amira("MPRAGE sag KM", "mpr", "t1ce", plane="sag", tag="Gadovist 1.2 ml"),
        amira("T1 TSE sag WS KM oben", "tse", **SPINE, tag="Gadovist 1.2 ml"),
        amira("T1 TSE sag WS KM unten", "tse", **SPINE, tag="Gadovist 1.2 ml"),
        study="MRT Schädel + WS in Sedierung",
    ),
    exam(
        "German, multiple sclerosis: PD/T2, DIR, PSIR, T2 spine, T1 after contrast alone",
        "siemens",
        lumina("Localizer", "loc"),
        lumina("DIR 3D sag", "dir", plane="sag"),
        lumina("FLAIR 3D sag", "spcir", "flair", plane="sag"),
        lumina("FLAIR 3D sag MPR tra", "spcir", kind=MPR),
        lumina("PD+T2 tra", "pdt2"),
        lumina("PSIR cor", "psir", plane="cor"),
        lumina("PSIR cor", "psir", plane="cor", kind="ORIGINAL\\PRIMARY\\R\\REAL"),
        lumina("SWI tra", "swi"),
        lumina("STIR sag HWS", "stir", **SPINE),
        lumina("T2 sag HWS", "t2", **SPINE),
        lumina("T1 SE tra 10min p. KM", "se", "t1ce", tag="Dotarem"),
        lumina("PhoenixZIPReport", "shot", **REPORT),
        study="MRT Schädel/HWS (ED)",
    ),
    exam(
        "7 T of 2026: MP2RAGE before and after the agent, T2*, quantitative susceptibility",
        "siemens",
        terra_x("localizer_7T", "loc"),
        terra_x("mp2rage_0.75_pre_INV1", "mp2", plane="sag", thick=0.75),
        terra_x("mp2rage_0.75_pre_INV2", "mp2", plane="sag", thick=0.75, ti=2500, fa=6),
        terra_x("mp2rage_0.75_pre_UNI-DEN", "mp2", "t1", plane="sag", kind="DERIVED\\PRIMARY\\M\\UNI\\DEN"),
        terra_x("mp2rage_0.75_pre_T1map", "mp2", plane="sag", kind="DERIVED\\PRIMARY\\M\\T1"),
        terra_x("space_flair_0.8_fat-nav", "spcir", "flair", plane="sag", tr=9000, te=271, ti=2250),
        terra_x("tse_t2_tra_0.3x0.3x1.5", "t2", "t2", tr=7600, te=63, etl=9, thick=1.5, name="*tse2d1_9"),
        terra_x("gre_t2star_me_0.5", "swi", tr=34, te=6.1, fa=11, name="*fl3d5", echo_two=(14.2, "other")),
        terra_x("gre_t2star_me_0.5_QSM", "swi", kind="DERIVED\\SECONDARY\\QSM"),
        terra_x("mp2rage_0.75_post_INV1", "mp2", plane="sag", thick=0.75, tag="Gadoterate"),
        terra_x("mp2rage_0.75_post_INV2", "mp2", plane="sag", thick=0.75, ti=2500, fa=6, tag="Gadoterate"),
        terra_x(
            "mp2rage_0.75_post_UNI-DEN",
            "mp2",
            "t1ce",
            plane="sag",
            kind="DERIVED\\PRIMARY\\M\\UNI\\DEN",
            tag="Gadoterate",
        ),
        study="7T_GLIO_PILOT",
    ),
    exam(
        "7 T, GE, zero echo time of the skull, susceptibility map, agent named by its class",
        "ge",
        signa7("3Plane Loc 7T", "loc"),
        signa7("Sag 3D MPRAGE 0.8 pre", "mprage", "t1", plane="sag", tr=8.1, te=3.5, ti=1100, thick=0.8),
        signa7("Sag CUBE FLAIR 0.8", "cubeflair", "flair", plane="sag", thick=0.8),
        signa7("Ax T2 FSE 0.4x0.4x2", "t2", "t2", te=72, thick=2),
        signa7("Ax SWAN 0.3", "swan", tr=30, te=14),
        signa7("QSM: Ax SWAN 0.3", "swan", kind="DERIVED\\SECONDARY\\OTHER"),
        signa7("Ax ZTE Skull", "silenz"),
        signa7("Sag 3D MPRAGE 0.8 +Gd", "mprage", "t1ce", plane="sag", tr=8.1, te=3.5, ti=1100, thick=0.8, tag="GBCA"),
        study="7T CLINICAL NEURO",
    ),
    exam(
        "epilepsy without contrast, Spanish, GE: STIR, double inversion, hippocampal planes",
        "ge",
        mr750("LOC 3P", "loc"),
        mr750("SAG 3D T1 BRAVO", "bravo", "t1", plane="sag"),
        mr750("COR FLAIR HIPOC", "flair", "flair", plane="cor", thick=3),
        mr750("COR T2 HIPOC", "t2", "t2", plane="cor", thick=3),
        mr750("COR STIR", "stir", plane="cor"),
        mr750("SAG CUBE DIR", "dircube", plane="sag"),
        mr750("SAG CUBE T2", "cubet2", "t2", plane="sag"),
        mr750("AX SWAN", "swan"),
        mr750("AX DTI 32 DIR", "dwi"),
        mr750("fMRI LENGUAJE", "bold"),
        mr750("ASL POSTCRITICO", "asl"),
        study="RM CEREBRAL EPILEPSIA",
    ),
    exam(
        "stroke: no T1 at all, T2 as echo-planar, angiography of neck and head",
        "siemens",
        avanto_fit("Loc_Stroke", "loc"),
        avanto_fit("ep2d_diff_stroke_TRACEW", "trace", kind=TRACE),
        avanto_fit("ep2d_diff_stroke_ADC", "adc"),
        avanto_fit("flair_quick_tra", "flair", "flair"),
        avanto_fit("ep_t2star_quick", "sepi", seq="EP", te=44, tr=3600, name="*epfid2d1_128"),
        avanto_fit("tof_fl3d_quick", "tof"),
        avanto_fit("tof_fl3d_quick_MIP_RL", "tof", kind=MIP),
        avanto_fit("ep2d_perf_stroke", "dsc", tag="Dotarem"),
        avanto_fit("ep2d_perf_stroke_TMAX", "map", kind="DERIVED\\PRIMARY\\PERFUSION\\TMAX", tag="Dotarem"),
        avanto_fit("CE-MRA supraaortal", "cemra", tag="Dotarem"),
        avanto_fit("CE-MRA supraaortal_SUB_MIP", "cemra", kind=MIP, tag="Dotarem"),
        study="Stroke-MRT",
    ),
    exam(
        "vessel wall imaging, Swiss French: T1 SPACE black blood before and after, PD SPACE",
        "siemens",
        prisma_fit("Localisateur", "loc"),
        prisma_fit("tof_3D_Willis", "tof"),
        prisma_fit("PD_space_paroi_sag", "pdspc", plane="sag"),
        prisma_fit("T1_space_dante_paroi_sag", "t1spc", "t1", plane="sag", te=15, thick=0.6),
        prisma_fit("T2_tse_ax", "t2", "t2"),
        prisma_fit("FLAIR_ax", "flair", "flair"),
        prisma_fit("DWI_ax", "dwi"),
        prisma_fit("T1_space_dante_paroi_sag_Gd", "t1spc", "t1ce", plane="sag", te=15, thick=0.6),
        prisma_fit("T1_space_paroi_Gd_MPR_ax", "t1spc", kind=MPR),
        study="IRM cérébrale paroi vasculaire",
    ),
    exam(
        "radiosurgery with the frame, British, Philips: thin T1, T2 and FLAIR, after contrast",
        "philips",
        achieva3("Survey", "loc"),
        achieva3("GK T2 3D 1mm", "t2view", "t2"),
        achieva3("GK T1 FFE 1mm Gd", "ffe3d", "t1ce", tr=25, te=3.8, thick=1, tag="DOTAREM 20ML"),
        achieva3("GK T1 TSE BB Gd", "t1view", "t1ce", tag="DOTAREM 20ML"),
        achieva3("GK FLAIR Gd", "flair3d", "flair", tag="DOTAREM 20ML"),
        achieva3("GK T1 FFE Gd MPR Cor", "ffe3d", kind=PHILIPS_MPR, plane="cor", tag="DOTAREM 20ML"),
        study="Gamma Knife planning",
    ),
    exam(
        "surgery with an MR in the theatre, American, Siemens: agent before and during",
        "siemens",
        avanto_fit("LOC IMRI", "loc"),
        avanto_fit("AX T2 PREOP", "t2", "t2"),
        avanto_fit("AX MPRAGE PREOP NON CON", "mpr", "t1"),
        avanto_fit("AX MPRAGE PREOP CON", "mpr", "t1ce", tag="DOTAREM"),
        avanto_fit("AX FLAIR INTRAOP", "flair", "flair", tag="DOTAREM"),
        avanto_fit("AX T2 INTRAOP HASTE", "haste", "t2", tag="DOTAREM"),
        avanto_fit("AX DWI INTRAOP", "dwi", tag="DOTAREM"),
        avanto_fit("AX MPRAGE INTRAOP CON", "mpr", "t1ce", tag="DOTAREM"),
        avanto_fit("AX SUB INTRAOP", "mpr", kind=INLINE_SUB, tag="DOTAREM"),
        study="IMRI CRANIOTOMY",
    ),
    exam(
        "Panorama of 1 T, Dutch, claustrophobic: equal names, agent 'YES' in the second, dynamic of the sella",
        "philips",
        panorama("SURVEY", "loc"),
        panorama("T1W_SE sag", "t1", "t1", plane="sag"),
        panorama("T2W_TSE tra", "t2", "t2", te=110),
        panorama("FLAIR tra", "flair", "flair"),
        panorama("T1W_SE tra", "t1", "t1"),
        panorama("T1W_SE tra", "t1", "t1ce", tag="YES"),
        panorama("T1W_TSE cor hypofyse dyn", "t1tse", **SELLA, plane="cor", volumes=4, tag="YES"),
        panorama("T1W_SE cor", "t1", "t1ce", plane="cor", tag="YES"),
        study="MRI hersenen + hypofyse",
    ),
    exam(
        "permanent magnet of 0.3 T, Portuguese, STIR at low field, 'C/ GD'",
        "canon",
        airis_elite("SCANO", "loc"),
        airis_elite("T1 SAG", "t1", "t1", plane="sag"),
        airis_elite("T2 AX", "t2", "t2"),
        airis_elite("FLAIR AX", "flair", "flair"),
        airis_elite("STIR COR", "stir", plane="cor"),
        airis_elite("T1 AX", "t1", "t1"),
        airis_elite("T1 AX C/ GD", "t1", "t1ce"),
        airis_elite("T1 3D GR C/ GD", "gr3d", "t1ce"),
        study="RM CRANIANA",
    ),
    exam(
        "Hitachi of 3 T, Italian, 'basale' in front, isoFSE, BSI",
        "canon",
        trillium("Scanogramma", "loc"),
        trillium("Basale T1 SE Sag", "t1", "t1", plane="sag"),
        trillium("T2 RADAR Ass", "t2", "t2"),
        trillium("isoFSE FLAIR Sag", "mpvflair", "flair", plane="sag"),
        trillium("DWI Ass", "dwi"),
        trillium("ADC Ass", "adc"),
        trillium("BSI Ass", "fsbb"),
        trillium("Basale T1 3D", "mprage", "t1"),
        trillium("MDC T1 3D", "mprage", "t1ce"),
        trillium("MDC T1 SE Cor FatSat", "t1", "t1ce", plane="cor", ScanOptions="FS"),
        study="RM encefalo con mdc",
    ),
    exam(
        "Toshiba of 2006, Spanish, terse, plain and 'GD', PD and T2 as two series",
        "canon",
        vantage("LOC", "loc"),
        vantage("SAG SE T1", "t1", "t1", plane="sag"),
        vantage("AX FSE DP", "pd"),
        vantage("AX FSE T2", "t2", "t2"),
        vantage("AX FLAIR", "flair", "flair"),
        vantage("AX FE T2", "fe"),
        vantage("AX DW", "dwi"),
        vantage("AX SE T1 GD", "t1", "t1ce"),
        vantage("COR SE T1 GD", "t1", "t1ce", plane="cor"),
        vantage("3D FE T1 GD", "ffe3d", "t1ce"),
        study="CEREBRO",
    ),
    exam(
        "Canon, American, 'WO' and 'W', tag NONE before; STIR of the neck",
        "canon",
        elan("Locator", "loc", tag="NONE"),
        elan("SAG T1 WO", "t1", "t1", plane="sag", tag="NONE"),
        elan("AX T2 JET FS", "t2", "t2", tag="NONE", ScanOptions="FS"),
        elan("AX FLAIR FS", "flair", "flair", tag="NONE", ScanOptions="FS"),
        elan("AX DWI", "dwi", tag="NONE"),
        elan("AX ADC", "adc", tag="NONE"),
        elan("AX T2STAR", "fe", tag="NONE"),
        elan("AX STIR NECK", "stir", **NECK, tag="NONE"),
        elan("AX T1 W", "t1", "t1ce", tag="PROHANCE 15ML"),
        elan("COR T1 W FS", "t1", "t1ce", plane="cor", tag="PROHANCE 15ML", ScanOptions="FS"),
        elan("AX T1 NECK W FS", "t1", **NECK, tag="PROHANCE 15ML", ScanOptions="FS"),
        study="MRI BRAIN AND NECK W WO",
    ),
    exam(
        "United Imaging, English, its own names of sequences, agent in the route only",
        "canon",
        umr790("3plane_scout", "loc"),
        umr790("t1_gre_fsp_3d_sag_iso", "gre", "t1", plane="sag"),
        umr790("t2_fse_tra_3mm", "t2", "t2", thick=3),
        umr790("t2_matrix_flair_sag_iso", "matrixflair", "flair", plane="sag"),
        umr790("epi_dwi_tra_b1000", "dwi"),
        umr790("epi_dwi_tra_b1000_ADC", "adc"),
        umr790("swi_tra_2mm", "swi"),
        umr790("asl_3d_tra", "asl"),
        umr790("epi_dsc_tra", "dsc", ContrastBolusRoute="IV"),
        umr790("t1_gre_fsp_3d_sag_iso", "gre", "t1ce", plane="sag", ContrastBolusRoute="IV"),
        umr790("t1_matrix_bb_sag_iso", "matrixt1", "t1ce", plane="sag", ContrastBolusRoute="IV"),
        umr790("t1_gre_fsp_3d_sag_iso_MPR_tra", "gre", kind="DERIVED\\SECONDARY\\MPR", ContrastBolusRoute="IV"),
        study="Head^Tumor",
    ),
    exam(
        "radiotherapy linac and planning, Philips, enhanced: synthetic CT, T1 of one name but for the agent",
        "philips",
        mr7700("Survey_MRRT", "loc"),
        mr7700("MRCAT Brain", "mdixon", thick=2.5, kind="DERIVED\\SECONDARY\\MRCAT"),
        mr7700("3D_FLAIR_RT_SmartSpeed", "flair3d", "flair"),
        mr7700("3D_T2_RT_SmartSpeed", "t2view", "t2"),
        mr7700("3D_T1_RT_SmartSpeed", "tfe", "t1"),
        mr7700("3D_T1_RT_SmartSpeed_Gd", "tfe", "t1ce", tag="Gadobutrol"),
        mr7700("3D_T1_BB_RT_SmartSpeed_Gd", "t1view", "t1ce", tag="Gadobutrol"),
        mr7700("4D_THRIVE_Ktrans_Gd", "dce", tag="Gadobutrol"),
        study="MRRT Brain Simulation",
    ),
    exam(
        "synthetic MR beside the real series, Swedish, GE",
        "ge",
        artist("3-plan", "loc"),
        artist("Tra MAGiC", "magic"),
        artist("T1W: Tra MAGiC", "magic", volumes=1, kind=SYNTHETIC, tr=650, te=10),
        artist("T2W: Tra MAGiC", "magic", volumes=1, kind=SYNTHETIC, tr=4500, te=100),
        artist("T2W FLAIR: Tra MAGiC", "magic", volumes=1, kind=SYNTHETIC, tr=15000, te=100, ti=3000),
        artist("PSIR: Tra MAGiC", "magic", volumes=1, kind=SYNTHETIC, tr=6000, te=10, ti=500),
        artist("Sag T2 FLAIR Cube FS", "cubeflair", "flair", plane="sag", ScanOptions="FS"),
        artist("Tra T2 Frfse", "t2", "t2"),
        artist("Sag T1 Cube före", "cubet1", "t1", plane="sag"),
        artist("Sag T1 Cube efter", "cubet1", "t1ce", plane="sag"),
        artist("Tra T1 Cube efter rek", "cubet1", kind=GE_REFORMAT),
        study="MR hjärna",
    ),
    exam(
        "names of a benchmark: t1n, t1c, t2w, t2f",
        "ge",
        bare_ge("t1n", "bravo", "t1"),
        bare_ge("t2w", "cubet2", "t2"),
        bare_ge("t2f", "cubeflair", "flair"),
        bare_ge("dwi_b1000", "dwi"),
        bare_ge("adc", "adc"),
        bare_ge("t1c", "bravo", "t1ce"),
        bare_ge("t1c_minus_t1n", "bravo", kind=GE_SUB),
    ),
    exam(
        "no descriptions, T1 by SPACE and T1 by inversion before and after, agent kept",
        "siemens",
        bare_siemens("", "scout"),
        bare_siemens("", "tir", "t1"),
        bare_siemens("", "blade", "t2"),
        bare_siemens("", "spcir", "flair", plane="sag"),
        bare_siemens("", "swi"),
        bare_siemens("", "stir", plane="cor"),
        bare_siemens("", "adc"),
        bare_siemens("", "t1spc", "t1ce", plane="sag", tag="Gadoteridol"),
        bare_siemens("", "mpr", "t1ce", tag="Gadoteridol"),
        bare_siemens("", "mpr", kind=MPR, plane="cor", tag="Gadoteridol"),
    ),
    exam(
        "trial, sites and visits in the names, CET1, T1 after a half dose before the perfusion",
        "philips",
        ingenia_cx("XN204_V03_LOC", "loc"),
        ingenia_cx("XN204_V03_T1", "tfe", "t1"),
        ingenia_cx("XN204_V03_T2FLAIR", "flair3d", "flair"),
        ingenia_cx("XN204_V03_T2", "t2", "t2"),
        ingenia_cx("XN204_V03_DTI", "dwi"),
        ingenia_cx("XN204_V03_DCE_HALFDOSE", "dce"),
        ingenia_cx("XN204_V03_DSC", "dsc"),
        ingenia_cx("XN204_V03_CET1", "tfe", "t1ce"),
        ingenia_cx("XN204_V03_CET1_SUB", "tfe", kind=PHILIPS_SUB),
        ingenia_cx("XN204_V03_DSC_rCBVcorr", "map"),
        study="XN204 PHASE II",
    ),
    exam(
        "the FLAIR is called T2 and the T1-FLAIR is called FLAIR: the times tell",
        "ge",
        voyager("LOC", "loc"),
        voyager("AX T2", "t2", "t2"),
        voyager("AX T2 IR", "flair", "flair"),
        voyager("SAG FLAIR T1", "t1flair", "t1", plane="sag"),
        voyager("AX T2 EG", "gre"),
        voyager("AX DIFFUSION", "dwi"),
        voyager("AX FLAIR T1 GD", "t1flair", "t1ce", tag="DOTAREM"),
        voyager("VOL T1 GD", "bravo", "t1ce", tag="DOTAREM"),
        study="IRM CRANE",
    ),
    exam(
        "one T1 only, after the perfusion, no tag and no word",
        "siemens",
        spectra("localizer", "loc"),
        spectra("t2_tse_tra_448", "t2", "t2"),
        spectra("t2_tirm_tra_darkfluid", "flair", "flair"),
        spectra("ep2d_diff_tra", "dwi"),
        spectra("ep2d_diff_tra_ADC", "adc"),
        spectra("ep2d_perf_tra", "dsc"),
        spectra("ep2d_perf_tra_TTP", "map", kind="DERIVED\\PRIMARY\\PERFUSION\\TTP"),
        spectra("t1_mprage_tra_iso", "mpr", "t1ce"),
        study="MRT Schädel mit KM",
    ),
    exam(
        "an ordinary exam without contrast, the agent field says NO everywhere",
        "philips",
        achieva3("Survey", "loc"),
        achieva3("T1 3D TFE SENSE", "tfe", "t1"),
        achieva3("T2 TSE SENSE", "t2", "t2"),
        achieva3("FLAIR SPIR SENSE", "flair", "flair", ScanOptions="FS"),
        achieva3("T2 FFE SENSE", "ffe"),
        achieva3("DWI SENSE", "dwi"),
        achieva3("pCASL SENSE", "asl"),
        achieva3("MRS SV PRESS 144", "shot"),
        achieva3("T1 IR COR SENSE", "t1ir", "t1", plane="cor"),
        stamp="NO",
        study="MRI brain without contrast",
    ),
    exam(
        "ask: two T1 of one name, no times, no agent, the archive numbered them by size",
        "philips",
        timeless_philips("T1 3D", "tfe", "t1ce", SeriesNumber=4),
        timeless_philips("T1 3D", "tfe", "t1", SeriesNumber=3),
        timeless_philips("FLAIR 3D", "flair3d", "flair", SeriesNumber=1),
        timeless_philips("T2 2D", "t2", "t2", SeriesNumber=2),
        study="BRAIN",
    ),
    exam(
        "ask: one T1, agent 'Y' on everything, no word",
        "ge",
        timeless_ge("AX T2", "prop", "t2"),
        timeless_ge("AX FLAIR", "propflair", "flair"),
        timeless_ge("SAG T1 3D", "bravo", "t1ce", plane="sag"),
        timeless_ge("AX DWI", "dwi"),
        stamp="Y",
        study="MR HEAD",
    ),
    exam(
        "ask: converted without any physics, named by numbers",
        "siemens",
        *(
            bare_siemens(name, run, label, **UNTOLD)
            for name, run, label in (
                ("vol_001", "mpr", "t1"),
                ("vol_002", "t2", "t2"),
                ("vol_003", "flair", "flair"),
                ("vol_004", "mpr", "t1ce"),
            )
        ),
        study="EXPORT",
    ),
    exam(
        "ask: the protocol 'post' was started before the injection by mistake and repeated after it",
        "ge",
        artist("LOC", "loc"),
        artist("AX T2", "t2", "t2"),
        artist("AX T1 POST", "t1fse", "t1"),
        artist("AX FLAIR", "flair", "flair"),
        artist("AX DWI", "dwi"),
        artist("AX T1 POST", "t1fse", "t1ce"),
        study="MRI BRAIN",
    ),
)
