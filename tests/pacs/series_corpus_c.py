"""Series headers in the style of European university hospitals, each with what a neuroradiologist calls it.

Written from the vendors' conventions and the habits of technicians, without sight of the rules of identification or of
their results, so that errors can be counted on names that nobody tuned for. A trap that begins with "ask:" is a study
whose headers do not tell a reader everything: its labels are the truth, and a question is the right answer.
A change that begins with a capital letter is an attribute of that keyword.
"""

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from series_corpus import Exam, Series, exam, s

Physics = dict[str, dict[str, Any]]

SCREENSHOT = dict(
    kind="DERIVED\\SECONDARY\\SCREEN SAVE",
    seq="",
    var="",
    tr=None,
    te=None,
    fa=None,
    etl=None,
    slices=1,
    ScanOptions=None,
)

SIEMENS: Physics = {
    "loc": dict(tr=8.6, te=4, fa=20, seq="GR", var="SP\\OSP", name="*fl2d1", slices=5, gap=10, thick=7, three=True),
    "scout": dict(tr=3.15, te=1.37, fa=8, seq="GR", var="SP", name="*fl3d1_ns", d3=True, thick=1.6, plane="sag"),
    "mprage": dict(tr=1900, te=2.52, ti=900, fa=9, seq="GR\\IR", var="SP\\MP", name="*tfl3d1_16ns", d3=True),
    "mp2rage": dict(tr=5000, te=2.98, ti=700, fa=4, seq="GR\\IR", var="SP\\MP", name="*tfl3d1_16ns", d3=True),
    "t1se": dict(tr=500, te=8.4, fa=70, seq="SE", var="SP\\OSP", name="*se2d1", ScanOptions="SAT1"),
    "t1tse": dict(tr=650, te=9.1, fa=150, etl=2, seq="SE", var="SK\\SP\\OSP", name="*tse2d1_2"),
    "t1tir": dict(tr=2000, te=9, ti=859.4, fa=150, etl=7, seq="SE\\IR", var="SK\\SP\\MP\\OSP", name="*tir2d1_7"),
    "fl2d": dict(tr=240, te=2.46, fa=70, seq="GR", var="SP\\OSP", name="*fl2d1"),
    "vibe": dict(tr=5.2, te=2.3, fa=12, seq="GR", var="SP", name="*fl3d1r", d3=True),
    "dixon": dict(tr=6.7, te=2.39, fa=12, seq="GR", var="SP", name="*fl3d2", d3=True, ScanOptions="DIX"),
    "t1spc": dict(tr=650, te=12, fa=120, etl=42, seq="SE", var="SK\\SP", name="*spc3d1rr42ns", d3=True),
    "flair": dict(tr=9000, te=87, ti=2500, fa=150, etl=19, seq="SE\\IR", var="SK\\SP\\MP\\OSP", name="*tir2d1_19"),
    "spcir": dict(
        tr=5000, te=389, ti=1800, fa=120, etl=278, seq="SE\\IR", var="SK\\SP\\MP", name="*spcir_278ns", d3=True
    ),
    "t2": dict(tr=5500, te=103, fa=150, etl=18, seq="SE", var="SK\\SP\\OSP", name="*tse2d1_18"),
    "blade": dict(tr=4800, te=108, fa=150, etl=36, seq="SE", var="SK\\SP\\OSP", name="*tseR2d1rr36"),
    "haste": dict(tr=1500, te=92, fa=150, etl=172, seq="SE", var="SK\\SP\\OSP", name="*h2d1_172"),
    "t2spc": dict(tr=3200, te=412, fa=120, etl=282, seq="SE", var="SK\\SP", name="*spc3d1rr282ns", d3=True),
    "pd": dict(tr=3800, te=12, fa=150, etl=6, seq="SE", var="SK\\SP\\OSP", name="*tse2d2_6"),
    "stir": dict(tr=4500, te=41, ti=220, fa=150, etl=11, seq="SE\\IR", var="SK\\SP\\MP\\OSP", name="*tir2d1_11"),
    "dir": dict(
        tr=7500, te=318, ti=3000, fa=120, etl=256, seq="SE\\IR", var="SK\\SP\\MP", name="*spcir_256ns", d3=True
    ),
    "psir": dict(tr=5000, te=9.8, ti=400, fa=150, etl=5, seq="SE\\IR", var="SK\\SP\\MP", name="*tir2d1rr5"),
    "hemo": dict(tr=620, te=19.9, fa=20, seq="GR", var="SP\\OSP", name="*fl2d1"),
    "swi": dict(tr=27, te=20, fa=15, seq="GR", var="SP", name="*swi3d1r", d3=True, thick=1.5),
    "dwi": dict(
        tr=4500, te=77, fa=90, seq="EP", var="SK\\SP", name="*ep_b1000t", b=1000, b0=True, ScanOptions="PFP\\FS"
    ),
    "resolve": dict(tr=5200, te=62, fa=180, seq="EP", var="SK\\SP", name="*re_b1000t", b=1000, ScanOptions="FS"),
    "adc": dict(
        tr=4500, te=77, fa=90, seq="EP", var="SK\\SP", name="*ep_b0_1000", kind="DERIVED\\PRIMARY\\DIFFUSION\\ADC"
    ),
    "fa": dict(
        tr=8200, te=86, fa=90, seq="EP", var="SK\\SP", name="*ep_b0_1000", kind="DERIVED\\PRIMARY\\DIFFUSION\\FA\\ND"
    ),
    "dsc": dict(tr=1600, te=30, fa=90, seq="EP", var="SK\\SP", name="*epfid2d1_128", volumes=4, ScanOptions="FS"),
    "map": dict(
        tr=1600, te=30, fa=90, seq="EP", var="SK\\SP", name="*epfid2d1_128", kind="DERIVED\\PRIMARY\\PERFUSION\\GBP"
    ),
    "dce": dict(tr=4.1, te=1.5, fa=20, seq="GR", var="SP", name="*fl3d1", d3=True, volumes=4, thick=3.6),
    "asl": dict(tr=4600, te=16.2, fa=180, seq="EP\\SE", var="SK", name="tgse3d1_1116", d3=True, thick=3),
    "bold": dict(tr=2000, te=30, fa=80, seq="EP", var="SK\\SP", name="*epfid2d1_64", volumes=4),
    "tof": dict(tr=21, te=3.42, fa=18, seq="GR", var="SP", name="*fl3d1r_t70", d3=True, thick=0.5),
    "pc": dict(tr=49, te=7.2, fa=12, seq="GR", var="SP", name="*fl2d1_v15", thick=50, slices=1),
    "ciss": dict(tr=5.7, te=2.6, fa=50, seq="GR", var="SS", name="*ci3d2r", d3=True, slices=56, gap=0.7, thick=0.7),
    "field": dict(tr=488, te=4.92, fa=60, seq="GR", var="SP", name="*fm2d2r", echo_two=(7.38, "other"), thick=3),
    "b1": dict(tr=6320, te=1.83, fa=8, seq="GR", var="SP\\MP", name="*tfl2d1_16", thick=8),
    "shot": SCREENSHOT | dict(name=""),
}

GE: Physics = {
    "loc": dict(tr=5.2, te=1.6, ti=0, fa=30, seq="GR", var="SS", slices=5, gap=10, thick=8, three=True),
    "cal": dict(tr=150, te=2.1, ti=0, fa=30, seq="GR", var="NONE", thick=10, gap=10, slices=30),
    "t1se": dict(tr=617, te=11, ti=0, fa=90, seq="SE", var="SS"),
    "t1fse": dict(tr=640, te=9.6, ti=0, fa=111, etl=2, seq="SE", var="SK"),
    "t1flair": dict(tr=2600, te=24.4, ti=920, fa=142, etl=8, seq="SE\\IR", var="SK"),
    "bravo": dict(tr=8.5, te=3.2, ti=450, fa=12, seq="GR", var="SS\\SP\\SK", d3=True),
    "mprage": dict(tr=7.6, te=3.1, ti=1000, fa=8, seq="GR", var="SS\\SP\\SK", d3=True),
    "fspgr": dict(tr=9.2, te=2.4, ti=0, fa=13, seq="GR", var="SS\\SP", d3=True, thick=1.4),
    "cubet1": dict(tr=602, te=14.7, ti=0, fa=90, etl=24, seq="SE", var="SK", d3=True),
    "flair": dict(tr=9500, te=118, ti=2474, fa=160, etl=24, seq="SE\\IR", var="SK"),
    "cubeflair": dict(tr=6300, te=113, ti=1808, fa=90, etl=190, seq="SE\\IR", var="SK", d3=True, thick=1.2),
    "t2": dict(tr=5200, te=102, ti=0, fa=111, etl=20, seq="SE", var="SK"),
    "prop": dict(tr=6100, te=96, ti=0, fa=142, etl=28, seq="SE\\RM", var="SK"),
    "cubet2": dict(tr=2500, te=88, ti=0, fa=90, etl=120, seq="SE", var="SK", d3=True, thick=1.2),
    "swan": dict(tr=38, te=23.2, ti=0, fa=15, seq="GR", var="SS\\SP", d3=True, thick=2),
    "gre": dict(tr=520, te=15, ti=0, fa=20, seq="GR", var="NONE"),
    "dwi": dict(tr=6200, te=72, ti=0, fa=90, seq="EP\\RM", var="NONE", b=1000, b0=True),
    "adc": dict(tr=6200, te=72, ti=0, fa=90, seq="EP\\RM", var="NONE", kind="DERIVED\\PRIMARY\\OTHER"),
    "dsc": dict(tr=1800, te=25, ti=0, fa=60, seq="EP\\GR", var="SS", volumes=4),
    "map": dict(tr=1800, te=25, ti=0, fa=60, seq="EP\\GR", var="SS", kind="DERIVED\\SECONDARY\\OTHER"),
    "asl": dict(tr=4850, te=10.6, ti=2025, fa=111, seq="RM", var="NONE", d3=True, thick=4),
    "tof": dict(tr=22, te=2.6, ti=0, fa=15, seq="GR", var="SS\\SP", d3=True, thick=1.2),
    "pc": dict(tr=19, te=5.1, ti=0, fa=8, seq="GR", var="NONE", d3=True, thick=1.6),
    "fiesta": dict(tr=5.4, te=2, ti=0, fa=50, seq="GR", var="SS\\SK", d3=True, slices=56, gap=0.8, thick=0.8),
    "stir": dict(tr=4600, te=48, ti=170, fa=111, etl=12, seq="SE\\IR", var="SK"),
    "shot": SCREENSHOT | dict(ti=None),
}

PHILIPS: Physics = {
    "loc": dict(tr=11, te=4.6, fa=15, seq="GR", var="SP", name="T1FFE", slices=5, gap=10, thick=10, three=True),
    "ref": dict(tr=4, te=0.75, fa=1, seq="GR", var="SP", name="T1FFE", d3=True, thick=6),
    "tfe": dict(tr=8.1, te=3.7, fa=8, seq="GR", var="MP", name="T1TFE", d3=True, flavour="T1"),
    "ffe3d": dict(tr=9.8, te=4.6, fa=18, seq="GR", var="SP", name="T1FFE", d3=True, flavour="T1"),
    "ffe2d": dict(tr=230, te=2.3, fa=80, seq="GR", var="SP", name="T1FFE", flavour="T1"),
    "t1se": dict(tr=560, te=10, fa=70, seq="SE", var="NONE", name="SE", flavour="T1"),
    "t1tse": dict(tr=600, te=8.7, fa=90, etl=4, seq="SE", var="SK", name="TSE", flavour="T1"),
    "t1ir": dict(tr=2000, te=20, ti=800, fa=90, etl=7, seq="IR", var="SK", name="TIR", flavour="T1"),
    "t1vista": dict(tr=500, te=27, fa=90, etl=22, seq="SE", var="SK", name="TSE", d3=True, flavour="T1"),
    "flair": dict(tr=11000, te=125, ti=2800, fa=90, etl=24, seq="IR", var="SK", name="TIR", flavour="FLUID_ATTENUATED"),
    "vistaflair": dict(
        tr=4800, te=317, ti=1650, fa=90, etl=182, seq="IR", var="SK", name="TIR", d3=True, flavour="FLUID_ATTENUATED"
    ),
    "t2": dict(tr=3000, te=80, fa=90, etl=15, seq="SE", var="SK", name="TSE", flavour="T2"),
    "t2vista": dict(tr=2500, te=260, fa=90, etl=133, seq="SE", var="SK", name="TSE", d3=True, flavour="T2"),
    "stir": dict(tr=3800, te=30, ti=200, fa=90, etl=10, seq="IR", var="SK", name="TIR", flavour="UNKNOWN"),
    "ffe": dict(tr=720, te=16, fa=18, seq="GR", var="SS", name="FFE", flavour="T2_STAR"),
    "swi": dict(tr=31, te=7.2, fa=17, seq="GR", var="SP", name="T1FFE", d3=True, thick=2, flavour="UNKNOWN"),
    "dwi": dict(
        tr=3400,
        te=81,
        fa=90,
        etl=61,
        seq="SE",
        var="SK",
        name="SEEPI",
        b=1000,
        b0=True,
        ScanOptions="FS",
        flavour="DIFFUSION",
    ),
    "adc": dict(
        tr=3400,
        te=81,
        fa=90,
        etl=61,
        seq="SE",
        var="SK",
        name="SEEPI",
        kind="ORIGINAL\\PRIMARY\\ADC_UNSPECIFIED\\ADC\\UNSPECIFIED",
    ),
    "dsc": dict(tr=1650, te=40, fa=75, etl=51, seq="GR", var="SK", name="FEEPI", volumes=4, flavour="PERFUSION"),
    "dce": dict(tr=4.2, te=1.9, fa=15, seq="GR", var="SP", name="T1FFE", d3=True, volumes=4, thick=4, flavour="T1"),
    "bold": dict(tr=3000, te=35, fa=90, etl=43, seq="GR", var="SK", name="FEEPI", volumes=4, flavour="FLOW_ENCODED"),
    "asl": dict(tr=4550, te=14, fa=90, etl=23, seq="GR", var="SK", name="FEEPI", volumes=2, flavour="PERFUSION"),
    "tof": dict(tr=23, te=3.45, fa=18, seq="GR", var="SP", name="T1FFE", d3=True, thick=0.6, flavour="TIME_OF_FLIGHT"),
    "pca": dict(
        tr=17, te=6.1, fa=10, seq="GR", var="SP", name="T1FFE", d3=True, kind="ORIGINAL\\PRIMARY\\M_PCA\\M\\PCA"
    ),
    "drive": dict(
        tr=1500, te=235, fa=90, etl=60, seq="SE", var="SK", name="TSE", d3=True, slices=50, gap=0.7, thick=0.7
    ),
    "shot": SCREENSHOT | dict(name=""),
}

CANON: Physics = {
    "loc": dict(tr=15, te=5, fa=20, seq="GR", var="SP", slices=3, gap=10, thick=10, three=True),
    "t1se": dict(tr=540, te=12, fa=75, seq="SE", var="NONE"),
    "t1ir": dict(tr=2300, te=15, ti=950, fa=90, etl=5, seq="SE\\IR", var="SK\\MP"),
    "mprage": dict(tr=6.8, te=2.7, ti=920, fa=9, seq="GR\\IR", var="MP", d3=True),
    "mpvt1": dict(tr=600, te=14, fa=90, etl=34, seq="SE", var="SK", d3=True),
    "flair": dict(tr=10000, te=105, ti=2650, fa=90, etl=19, seq="SE\\IR", var="SK\\MP"),
    "mpvflair": dict(tr=6500, te=396, ti=1950, fa=90, etl=140, seq="SE\\IR", var="SK\\MP", d3=True),
    "t2": dict(tr=4300, te=96, fa=90, etl=17, seq="SE", var="SK"),
    "fe": dict(tr=750, te=15, fa=20, seq="GR", var="SP"),
    "fsbb": dict(tr=29, te=20, fa=20, seq="GR", var="SP", d3=True, thick=1.5),
    "dwi": dict(tr=5400, te=78, fa=90, seq="EP\\SE", var="NONE", b=1000, b0=True),
    "adc": dict(tr=5400, te=78, fa=90, seq="EP\\SE", var="NONE", kind="DERIVED\\PRIMARY\\DIFFUSION\\ADC"),
    "dsc": dict(tr=1800, te=32, fa=60, seq="EP\\GR", var="NONE", volumes=4),
    "tof": dict(tr=23, te=3.4, fa=18, seq="GR", var="SP", d3=True, thick=1),
}

HITACHI: Physics = {
    "loc": dict(tr=50, te=7, fa=40, seq="GR", var="NONE", slices=3, gap=10, thick=8, three=True),
    "t1se": dict(tr=500, te=15, fa=90, seq="SE", var="NONE"),
    "t1fse": dict(tr=600, te=10.5, fa=90, etl=3, seq="SE", var="SK"),
    "rssg": dict(tr=9.2, te=4.3, fa=15, seq="GR", var="SP", d3=True, thick=1.5),
    "mprage": dict(tr=8.9, te=4.1, ti=900, fa=10, seq="GR\\IR", var="SP\\MP", d3=True, thick=1.2),
    "flair": dict(tr=9000, te=104, ti=2300, fa=90, etl=16, seq="SE\\IR", var="SK"),
    "t2": dict(tr=4200, te=100, fa=90, etl=14, seq="SE", var="SK"),
    "gre": dict(tr=680, te=25, fa=25, seq="GR", var="NONE"),
    "dwi": dict(tr=4800, te=92, fa=90, seq="EP\\SE", var="NONE", b=1000, b0=True),
    "adc": dict(tr=4800, te=92, fa=90, seq="EP\\SE", var="NONE", kind="DERIVED\\SECONDARY\\OTHER\\ADC"),
    "tof": dict(tr=23, te=6.9, fa=20, seq="GR", var="SP", d3=True, thick=1),
}

SIEMENS_MPR = "DERIVED\\SECONDARY\\MPR\\CSA MPR\\CSAPARALLEL\\M\\ND\\NORM"
SIEMENS_INLINE_MPR = "DERIVED\\PRIMARY\\MPR\\NORM\\DIS2D"
SIEMENS_MIP = "DERIVED\\SECONDARY\\MIP\\CSA MIP\\M\\ND"
SIEMENS_SUB = "DERIVED\\PRIMARY\\M\\SUB\\ND\\NORM"
SIEMENS_TRACE = "DERIVED\\PRIMARY\\DIFFUSION\\TRACEW\\ND\\NORM"
SIEMENS_MNIP = "DERIVED\\PRIMARY\\MNIP\\SWI\\NORM\\DIS2D"
SIEMENS_PHASE = "ORIGINAL\\PRIMARY\\P\\ND"
SIEMENS_WATER, SIEMENS_FAT = "DERIVED\\PRIMARY\\DIXON\\WATER\\ND", "DERIVED\\PRIMARY\\DIXON\\FAT\\ND"
SIEMENS_IN, SIEMENS_OPP = "DERIVED\\PRIMARY\\DIXON\\IN_PHASE\\ND", "DERIVED\\PRIMARY\\DIXON\\OPP_PHASE\\ND"
GE_REFORMAT = "DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE"
GE_MIP = "DERIVED\\SECONDARY\\PROJECTION IMAGE\\COLLAPSE"
PHILIPS_MPR = "DERIVED\\SECONDARY\\MPR"
PHILIPS_MIP = "DERIVED\\SECONDARY\\PROJECTION IMAGE\\MIP"
PHILIPS_PHASE = "ORIGINAL\\PRIMARY\\PHASE MAP\\P\\FFE"

SELLA = dict(plane="cor", slices=13, gap=2.2, thick=2, PixelSpacing=[0.35, 0.35])
ORBIT = dict(slices=18, gap=3.3, thick=3, PixelSpacing=[0.35, 0.35])
SPINE = dict(plane="sag", slices=15, gap=3.3, thick=3, PixelSpacing=[0.75, 0.75])


def machine(physics: Physics, enhanced: bool = False, **always: Any) -> Callable[..., Series]:
    """A scanner: a function that makes its series from a description, a name of ``physics``, and a label.

    Args:
        physics: what the scanner runs.
        enhanced: whether it exports enhanced objects, here as they look when flattened.
        always: attributes of all its series.
    """

    def made(description: str, run: str, label: str = "other", **changes: Any) -> Series:
        facts = {"ProtocolName": description, **always, **physics[run], **changes}
        # The technique is a mere carrier: all that it says is replaced.
        return s(description, "t1se", label, **(_enhanced(facts) if enhanced else facts))

    return made


def _enhanced(facts: dict[str, Any]) -> dict[str, Any]:
    sequence = facts["seq"].split("\\")
    flavour = facts.get("flavour", "UNKNOWN")
    found = {
        "kind": "ORIGINAL\\PRIMARY\\" + ("M\\NONE" if flavour == "UNKNOWN" else f"{flavour}\\NONE"),
        "AcquisitionContrast": flavour,
        **facts,
        **dict.fromkeys(("ScanningSequence", "SequenceVariant", "ScanOptions", "SequenceName")),
        "PulseSequenceName": facts["name"],
        "EchoPulseSequence": "GRADIENT" if "GR" in sequence or "epfid" in facts["name"] else "SPIN",
        "InversionRecovery": "YES" if "ti" in facts else "NO",
        "EchoPlanarPulseSequence": "YES" if "EP" in sequence or "EPI" in facts["name"] else "NO",
        "tag": "",
    }
    if facts.get("tag"):
        agent = Dataset()
        agent.CodeMeaning = facts["tag"]
        found["ContrastBolusAgentSequence"] = [agent]
    return found


prisma = machine(SIEMENS, ManufacturerModelName="Prisma", MagneticFieldStrength=3, BodyPartExamined="HEAD")
avanto = machine(SIEMENS, ManufacturerModelName="Avanto", MagneticFieldStrength=1.5, BodyPartExamined="HEAD")
vida = machine(
    SIEMENS, True, Manufacturer="Siemens Healthineers", ManufacturerModelName="MAGNETOM Vida", MagneticFieldStrength=3
)
terra = machine(
    SIEMENS, ManufacturerModelName="Investigational_Device_7T", MagneticFieldStrength=7, BodyPartExamined="BRAIN"
)
free_max = machine(
    SIEMENS,
    True,
    Manufacturer="Siemens Healthineers",
    ManufacturerModelName="MAGNETOM Free.Max",
    MagneticFieldStrength=0.55,
)
skyra = machine(SIEMENS, MagneticFieldStrength=3, BodyPartExamined="HEAD")
verio = machine(SIEMENS, ManufacturerModelName="Verio", MagneticFieldStrength=3)
sola = machine(
    SIEMENS, Manufacturer="Siemens Healthineers", ManufacturerModelName="MAGNETOM Sola", MagneticFieldStrength=1.5
)
symphony = machine(SIEMENS, ManufacturerModelName="Symphony", MagneticFieldStrength=1.5)
ingenia = machine(PHILIPS, MagneticFieldStrength=3, BodyPartExamined="BRAIN")
achieva = machine(PHILIPS, ManufacturerModelName="Achieva", MagneticFieldStrength=1.5, BodyPartExamined="HEAD")
elition = machine(PHILIPS, True, ManufacturerModelName="Ingenia Elition X", MagneticFieldStrength=3)
premier = machine(
    GE,
    ManufacturerModelName="SIGNA Premier",
    MagneticFieldStrength=3,
    ProtocolName="IRM CEREBRALE TUMEUR",
    BodyPartExamined="HEAD",
)
mr750w = machine(
    GE, ManufacturerModelName="DISCOVERY MR750w", MagneticFieldStrength=3, ProtocolName="ENCEFALO MDC GLIOMI"
)
hdxt = machine(GE, ManufacturerModelName="Signa HDxt", MagneticFieldStrength=1.5, ProtocolName="CRANEO TUMORES")
optima = machine(
    GE, ManufacturerModelName="Optima MR450w", MagneticFieldStrength=1.5, ProtocolName="GLOWA Z KONTRASTEM"
)
architect = machine(GE, ManufacturerModelName="SIGNA Architect", MagneticFieldStrength=3, ProtocolName="Neuro Onc v4")
galan = machine(CANON, Manufacturer="CANON_MEC", ManufacturerModelName="Vantage Galan 3T", MagneticFieldStrength=3)
oval = machine(
    HITACHI, Manufacturer="Hitachi Medical Corporation", ManufacturerModelName="ECHELON Oval", MagneticFieldStrength=1.5
)

CORPUS_C: tuple[Exam, ...] = (
    exam(
        "German glioma protocol, 'mpr' stands for MPRAGE, tags right",
        "siemens",
        prisma("AAHead_Scout_64ch-head-coil", "scout"),
        prisma("AAHead_Scout_64ch-head-coil_MPR_tra", "scout", kind=SIEMENS_INLINE_MPR, plane="ax", slices=3),
        prisma("t1_mpr_ns_sag_p2_iso", "mprage", "t1", plane="sag"),
        prisma("t2_spc_ir_sag_p2_iso_da-fl", "spcir", "flair", plane="sag"),
        prisma("t2_tse_tra_p2_2mm", "t2", "t2", thick=2),
        prisma("ep2d_diff_tra_b0_b1000", "dwi"),
        prisma("ep2d_diff_tra_b0_b1000_ADC", "adc"),
        prisma("t2_swi_tra_p2_1.5mm", "swi", kind="ORIGINAL\\PRIMARY\\M\\SWI\\NORM\\DIS2D"),
        prisma("Pha_Images", "swi", kind=SIEMENS_PHASE),
        prisma("mIP_Images(SW)", "swi", kind=SIEMENS_MNIP, thick=12),
        prisma("ep2d_perf_tra_p2 KM 2. Bolus", "dsc", tag="Gadovist 1.0"),
        prisma("ep2d_perf_tra_p2 KM 2. Bolus_GBP", "map", tag="Gadovist 1.0"),
        prisma("ep2d_perf_tra_p2 KM 2. Bolus_TTP", "map", tag="Gadovist 1.0", kind="DERIVED\\PRIMARY\\PERFUSION\\TTP"),
        prisma("t1_mpr_ns_sag_p2_iso KM", "mprage", "t1ce", plane="sag", tag="Gadovist 1.0"),
        prisma("t1_mpr_ns_sag_p2_iso KM_MPR_Range_tra", "mprage", kind=SIEMENS_MPR, tag="Gadovist 1.0", thick=3),
        prisma("t1_mpr_ns_sag_p2_iso KM_MPR_Range_cor", "mprage", kind=SIEMENS_MPR, tag="Gadovist 1.0", plane="cor"),
        study="MRT Schädel mit KM",
    ),
    exam(
        "1.5 T, agent entered at registration, so stamped on all; T1 of Siemens' 'tirm dark-fluid'",
        "siemens",
        avanto("localizer", "loc"),
        avanto("t2_tse_tra_320_5mm", "t2", "t2", tr=4290, te=97, etl=9, name="*tse2d1_9"),
        avanto("t1_tirm_tra_dark-fluid", "t1tir", "t1", tr=2020),
        avanto("t2_tirm_tra_dark-fluid", "flair", "flair", tr=8500, te=106),
        avanto("ep2d_diff_3scan_trace_p2_TRACEW", "dwi", kind=SIEMENS_TRACE, b0=False),
        avanto("ep2d_diff_3scan_trace_p2_ADC", "adc"),
        avanto("t2_fl2d_tra_hemo", "hemo", tr=830, te=26),
        avanto("t1_tirm_tra_dark-fluid nach KM", "t1tir", "t1ce", tr=2020),
        avanto("t1_fl3d_sag_iso nach KM", "vibe", "t1ce", tr=11, te=4.76, fa=15, name="*fl3d1_ns", plane="sag"),
        stamp="Dotarem",
        study="MRT Neurokranium nativ und mit KM",
    ),
    exam(
        "tag written late: the first series after the injection has none",
        "siemens",
        skyra("localizer_3ebenen", "loc"),
        skyra("t1_se_tra_4mm v.KM", "t1se", "t1", thick=4),
        skyra("T2_BLADE_tra_4mm", "blade", "t2", thick=4),
        skyra("FLAIR_tra_4mm_fs", "flair", "flair", ScanOptions="IR\\FS", thick=4),
        skyra("resolve_3scan_trace_tra_192", "resolve"),
        skyra("resolve_3scan_trace_tra_192_ADC", "adc", name="*re_b0_1000"),
        skyra("t1_twist_perf_DCE", "dce"),
        skyra("t1_se_tra_4mm n.KM", "t1se", "t1ce", thick=4),
        skyra("t1_mpr_tra_iso n.KM", "mprage", "t1ce", tr=2200, te=2.67, tag="Gd-DOTA"),
        skyra("t1_mpr_tra_iso n.KM_SUB", "mprage", kind=SIEMENS_SUB, tag="Gd-DOTA"),
        study="Kopf MRT",
    ),
    exam(
        "XA30 enhanced, agent in a code sequence after the injection only",
        "siemens",
        vida("AutoAlign Scout", "scout"),
        vida("T1 MPRAGE sag iso", "mprage", "t1", plane="sag", tr=2300, te=2.26),
        vida("T2 SPACE DarkFluid sag FS", "spcir", "flair", plane="sag", te=386),
        vida("T2 TSE tra DRB", "t2", "t2", tr=4500, te=99, thick=3),
        vida("DWI tra b0-1000", "dwi", flavour="DIFFUSION"),
        vida("DWI tra b0-1000_ADC", "adc", kind="DERIVED\\PRIMARY\\ADC\\NONE"),
        vida("SWI tra", "swi"),
        vida("SWI tra_mIP", "swi", kind="DERIVED\\PRIMARY\\MIN_IP\\NONE"),
        vida("Perf DSC", "dsc", tag="Gadobutrol"),
        vida("T1 MPRAGE sag iso", "mprage", "t1ce", plane="sag", tr=2300, te=2.26, tag="Gadobutrol"),
        vida("T1 MPRAGE sag iso_MPR tra", "mprage", kind="DERIVED\\PRIMARY\\MPR\\NONE", tag="Gadobutrol"),
        vida(
            "T1 TSE Dixon cor W", "t1tse", "t1ce", plane="cor", kind="DERIVED\\PRIMARY\\DIXON\\WATER", tag="Gadobutrol"
        ),
        study="MR Schädel + KM",
    ),
    exam(
        "7 T: MP2RAGE before, MPRAGE after; T2 has a short echo time",
        "siemens",
        terra("localizer_haste", "loc", seq="SE", var="SK\\SP", tr=1200, te=85, fa=120, etl=128, name="*h2d1_128"),
        terra("B1map_sat_tfl", "b1"),
        terra("B1map_sat_tfl", "b1", kind="ORIGINAL\\PRIMARY\\P\\ND"),
        terra("t1_mp2rage_sag_0.7iso_INV1", "mp2rage", plane="sag", thick=0.7),
        terra("t1_mp2rage_sag_0.7iso_INV2", "mp2rage", plane="sag", ti=2700, fa=5, thick=0.7),
        terra("t1_mp2rage_sag_0.7iso_T1_Images", "mp2rage", plane="sag", ti=700, kind="DERIVED\\PRIMARY\\M\\T1\\ND"),
        terra(
            "t1_mp2rage_sag_0.7iso_UNI-DEN",
            "mp2rage",
            "t1",
            plane="sag",
            thick=0.7,
            kind="DERIVED\\PRIMARY\\M\\ND\\UNI",
        ),
        terra("t2_tse_tra_0.4x0.4x2", "t2", "t2", tr=9000, te=60, etl=9, name="*tse2d1_9", thick=2, fa=130),
        terra("flair_spc_sag_0.8", "spcir", "flair", plane="sag", tr=8000, te=269, ti=2100, thick=0.8),
        terra("swi_tra_0.25", "swi", tr=21, te=14, fa=10),
        terra("t1_mprage_sag_0.7iso_Gd", "mprage", "t1ce", plane="sag", tr=2600, te=2.5, ti=1100, fa=5, thick=0.7),
        study="UHF 7T Neuro Onko Studie",
    ),
    exam(
        "0.55 T, enhanced, German",
        "siemens",
        free_max("Scout", "loc"),
        free_max("t2_tse_tra_5mm_DRB", "t2", "t2", tr=5900, te=111, etl=21),
        free_max("t2_tse_dark-fluid_tra_DRB", "flair", "flair", tr=7500, te=117, ti=2130),
        free_max("t1_se_tra_DRB nativ", "t1se", "t1", tr=430, te=10, fa=90),
        free_max("ep2d_diff_tra", "dwi", tr=5600, te=96),
        free_max("ep2d_diff_tra_ADC", "adc", kind="DERIVED\\PRIMARY\\ADC\\NONE"),
        free_max("t1_se_tra_DRB KM", "t1se", "t1ce", tr=430, te=10, fa=90),
        free_max("t1_mprage_sag_DRB KM", "mprage", "t1ce", plane="sag", tr=1690, te=3.9, ti=750, fa=8, thick=1.3),
    ),
    exam(
        "Dutch, Philips stamps never, 'blanco' is without contrast",
        "philips",
        ingenia("sSURVEY", "loc"),
        ingenia("T1W 3D TFE sag blanco", "tfe", "t1", plane="sag"),
        ingenia("T2W TSE tra 4mm", "t2", "t2", thick=4),
        ingenia("3D FLAIR sag", "vistaflair", "flair", plane="sag"),
        ingenia("DWI tra b1000 SENSE", "dwi"),
        ingenia("dADC tra", "adc"),
        ingenia("SWIp tra", "swi"),
        ingenia("DSC perfusie", "dsc"),
        ingenia("T1W 3D TFE sag na Gd", "tfe", "t1ce", plane="sag"),
        ingenia("rec tra T1 na Gd", "tfe", kind=PHILIPS_MPR),
        ingenia("T1W TSE tra na Gd", "t1tse", "t1ce"),
        study="MRI hersenen met en zonder contrast",
    ),
    exam(
        "Dutch, two T1 of equal name around the perfusion, no word of contrast",
        "philips",
        achieva("Survey_SHC", "loc"),
        achieva("Ref_Head_SHC", "ref"),
        achieva("T2W_TSE_CLEAR", "t2", "t2", tr=4435, te=100),
        achieva("FLAIR_longTR_CLEAR", "flair", "flair", te=140),
        achieva("DWI_SSh", "dwi", te=74),
        achieva("T1W_3D_FFE_CLEAR", "ffe3d", "t1", tr=25, fa=30, te=4.6),
        achieva("PRESTO_perf", "dsc", tr=16.7, te=25, fa=7, name="FFE"),
        achieva("T1W_3D_FFE_CLEAR", "ffe3d", "t1ce", tr=25, fa=30, te=4.6),
        study="MRI hersenen glioom follow-up",
    ),
    exam(
        "Swedish, 'före k' and 'efter k'",
        "siemens",
        skyra("localizer", "loc"),
        skyra("t1_space_sag_1mm före k", "t1spc", "t1", plane="sag"),
        skyra("t2 flair space sag", "spcir", "flair", plane="sag"),
        skyra("t2 tra 3mm", "t2", "t2", thick=3),
        skyra("diff tra RESOLVE", "resolve"),
        skyra("diff tra RESOLVE_ADC", "adc"),
        skyra("swi tra", "swi"),
        skyra("perf ep2d tra", "dsc"),
        skyra("perf ep2d tra_relCBV", "map", kind="DERIVED\\PRIMARY\\PERFUSION\\RELCBV"),
        skyra("t1_space_sag_1mm efter k", "t1spc", "t1ce", plane="sag"),
        skyra("MPR tra t1 efter k", "t1spc", kind=SIEMENS_INLINE_MPR),
        study="MR hjärna utan och med iv kontrast",
    ),
    exam(
        "Swedish, Philips, T1 only after contrast, FLAIR with fat suppression",
        "philips",
        ingenia("Survey", "loc"),
        ingenia("T2 TSE tra 3 mm", "t2", "t2", thick=3),
        ingenia("FLAIR 3D FS sag", "vistaflair", "flair", plane="sag", ScanOptions="FS"),
        ingenia("DWI b1000 tra", "dwi"),
        ingenia("ADC (10-6 mm²/s)", "adc"),
        ingenia("T1 3D TFE sag +Gd", "tfe", "t1ce", plane="sag"),
        ingenia("T1 3D BB VISTA sag +Gd", "t1vista", "t1ce", plane="sag"),
        ingenia("Tra T1 rek +Gd", "tfe", kind=PHILIPS_MPR, thick=3),
        study="MR hjärna metastasutredning",
    ),
    exam(
        "French, Philips enhanced",
        "philips",
        elition("SURVEY", "loc"),
        elition("3D T1 TFE SAG IV-", "tfe", "t1", plane="sag"),
        elition("3D FLAIR SAG", "vistaflair", "flair", plane="sag"),
        elition("AX T2 MV", "t2", "t2", tr=3600, te=95),
        elition("DIFF 3 DIR", "dwi"),
        elition("DIFF 3 DIR ADC", "adc", kind="DERIVED\\PRIMARY\\ADC\\NONE", AcquisitionContrast="DIFFUSION"),
        elition("AX SWIp", "swi"),
        elition("pCASL 3D", "asl"),
        elition("PERFUSION EPI", "dsc"),
        elition("3D T1 TFE SAG IV+", "tfe", "t1ce", plane="sag"),
        elition("3D T1 SE BB IV+", "t1vista", "t1ce", plane="sag"),
        study="IRM ENCEPHALE SANS ET AVEC INJECTION",
    ),
    exam(
        "French, GE, 'INJ' and 'SS INJ', ASL with a long inversion time",
        "ge",
        premier("3 PLANS LOC", "loc"),
        premier("Calibration", "cal"),
        premier("SAG 3D T1 MPRAGE SS INJ", "mprage", "t1", plane="sag"),
        premier("SAG 3D FLAIR CUBE", "cubeflair", "flair", plane="sag"),
        premier("AX T2 PROP", "prop", "t2"),
        premier("AX DIFF B1000", "dwi"),
        premier("ADC (10^-6 mm²/s):Apr 12 2022", "adc"),
        premier("AX SWAN", "swan"),
        premier("Ax 3D ASL PLD 2025", "asl"),
        premier("(Color)CBF:Ax 3D ASL", "asl", kind="DERIVED\\SECONDARY\\CBF", tr=None, te=None),
        premier("PERF T2* GADO", "dsc", tag="CLARISCAN"),
        premier("SAG 3D T1 MPRAGE INJ", "mprage", "t1ce", plane="sag", tag="CLARISCAN"),
        premier("AX T1 INJ 2MM", "mprage", kind=GE_REFORMAT, thick=2, tag="CLARISCAN"),
        premier("SAG 3D T1 CUBE FS INJ", "cubet1", "t1ce", plane="sag", tag="CLARISCAN", ScanOptions="FAST_GEMS\\FS"),
        study="IRM CRANIO-ENCEPHALIQUE",
    ),
    exam(
        "Italian, GE, 'basale' and 'mdc'",
        "ge",
        mr750w("Loc 3 piani", "loc"),
        mr750w("Sag T1 FLAIR basale", "t1flair", "t1", plane="sag"),
        mr750w("Ass T2 FRFSE", "t2", "t2"),
        mr750w("Ass T2 FLAIR", "flair", "flair"),
        mr750w("Cor T2 FRFSE", "t2", "t2", plane="cor"),
        mr750w("Ass DWI b1000", "dwi"),
        mr750w("Apparent Diffusion Coefficient (mm2/s)", "adc", kind="DERIVED\\PRIMARY\\ADC"),
        mr750w("Ass GRE T2*", "gre"),
        mr750w("PWI DSC mdc", "dsc", tag="GADOVIST"),
        mr750w("CBV (no units)", "map", tag="GADOVIST"),
        mr750w("MTT (s)", "map", tag="GADOVIST"),
        mr750w("Sag BRAVO mdc", "bravo", "t1ce", plane="sag", tag="GADOVIST"),
        mr750w("Ass T1 FLAIR mdc", "t1flair", "t1ce", tag="GADOVIST"),
        mr750w("PROBE-SV 144", "shot"),
        study="RM ENCEFALO SENZA E CON MDC",
    ),
    exam(
        "Italian, Siemens, 'diretta' and 'dopo mdc', no tags",
        "siemens",
        verio("localizzatore", "loc"),
        verio("t2_tse_assiale", "t2", "t2"),
        verio("FLAIR_assiale", "flair", "flair"),
        verio("t1_se_assiale diretta", "t1se", "t1", tr=450, te=9.3),
        verio("diffusione_trace", "dwi"),
        verio("diffusione_ADC", "adc"),
        verio("t2_star_hemo", "hemo"),
        verio("mprage_sag_iso dopo mdc", "mprage", "t1ce", plane="sag"),
        verio("mprage_ricostr_ass dopo mdc", "mprage", kind=SIEMENS_MPR),
        verio("t1_se_coronale dopo mdc", "t1se", "t1ce", plane="cor", tr=450, te=9.3),
        study="RM cerebrale e tronco encefalico con mdc",
    ),
    exam(
        "Spanish, GE HDxt, abbreviated planes, 'civ'",
        "ge",
        hdxt("LOCALIZADOR", "loc"),
        hdxt("SAG T1 SE", "t1se", "t1", plane="sag", tr=440, te=14),
        hdxt("AX DP-T2 FSE", "t2", "other", te=21, tr=2800, etl=8, echo_two=(102, "t2")),
        hdxt("AX FLAIR", "flair", "flair", tr=8002, te=126, ti=2000, etl=1),
        hdxt("AX DIF", "dwi", tr=8000, te=83),
        hdxt("AX T2* EG", "gre"),
        hdxt("PERFUSION", "dsc", tr=2000, te=40),
        hdxt("AX SPGR 3D CIV", "fspgr", "t1ce", tr=11.2, te=4.4),
        hdxt("COR T1 SE CIV", "t1se", "t1ce", plane="cor", tr=440, te=14),
        hdxt("REF COR SPGR CIV", "fspgr", kind=GE_REFORMAT, plane="cor"),
        study="RM CEREBRAL CON CONTRASTE",
    ),
    exam(
        "Spanish, Siemens, 'sin cte' and 'con cte', repeats after motion",
        "siemens",
        verio("localizador", "loc"),
        verio("t1_mprage_sag sin cte", "mprage", "t1", plane="sag", tr=1800, te=2.9),
        verio("t1_mprage_sag sin cte_REP mov", "mprage", "t1", plane="sag", tr=1800, te=2.9),
        verio("t2_tse_axi", "t2", "t2"),
        verio("t2_haste_axi no colabora", "haste", "t2"),
        verio("flair_axi", "flair", "flair"),
        verio("flair_blade_axi", "flair", "flair", etl=27, name="*tirR2d1rr27", te=120),
        verio("ep2d_difusion_axi", "dwi"),
        verio("ep2d_difusion_axi_ADC", "adc"),
        verio("t1_mprage_sag con cte", "mprage", "t1ce", plane="sag", tr=1800, te=2.9, tag="Gadovist"),
        verio("t1_mprage_sag con cte_MPR AXIAL", "mprage", kind=SIEMENS_MPR, tag="Gadovist"),
        study="RM cerebro con y sin contraste",
    ),
    exam(
        "Canon, French",
        "canon",
        galan("Locator", "loc"),
        galan("SAG 3D T1 MPRAGE", "mprage", "t1", plane="sag"),
        galan("AX T2 FSE AiCE", "t2", "t2"),
        galan("SAG 3D FLAIR MPV AiCE", "mpvflair", "flair", plane="sag"),
        galan("AX DWI", "dwi"),
        galan("AX DWI ADC", "adc"),
        galan("AX FSBB", "fsbb"),
        galan("AX FSBB minIP", "fsbb", kind="DERIVED\\SECONDARY\\PROJECTION IMAGE\\MINIP"),
        galan("AX PERF EPI", "dsc", tag="DOTAREM"),
        galan("SAG 3D T1 MPRAGE GADO", "mprage", "t1ce", plane="sag", tag="DOTAREM"),
        galan("SAG 3D T1 MPV FS GADO", "mpvt1", "t1ce", plane="sag", tag="DOTAREM", ScanOptions="FS"),
        galan("TOF WILLIS", "tof"),
        study="IRM cérébrale avec injection",
    ),
    exam(
        "Hitachi, Polish, 'przed K' and 'po K'",
        "canon",
        oval("Scano 3pl", "loc"),
        oval("T1 SE TRA przed K", "t1se", "t1"),
        oval("T2 FSE TRA", "t2", "t2"),
        oval("FLAIR TRA", "flair", "flair"),
        oval("T2 FSE COR", "t2", "t2", plane="cor"),
        oval("DWI b1000", "dwi"),
        oval("ADC map", "adc"),
        oval("T1 SE TRA po K", "t1se", "t1ce"),
        oval("T1 3D RSSG SAG po K", "rssg", "t1ce", plane="sag"),
        study="MR głowy bez i z kontrastem",
    ),
    exam(
        "Polish, GE, 'C-' and 'C+'",
        "ge",
        optima("3-plane", "loc"),
        optima("Ax T1 C-", "t1fse", "t1"),
        optima("Ax T2 fs", "t2", "t2", ScanOptions="FS"),
        optima("Ax Flair fs", "flair", "flair", ScanOptions="FS", tr=8500, te=122, ti=2250),
        optima("Sag T2", "t2", "t2", plane="sag"),
        optima("Ax DWI", "dwi"),
        optima("eADC: Ax DWI", "adc"),
        optima("Ax T1 C+", "t1fse", "t1ce"),
        optima("3D Bravo Sag C+", "bravo", "t1ce", plane="sag", tr=8.2, te=3.2, ti=450),
        optima("Cor T1 C+ (ref)", "bravo", kind=GE_REFORMAT, plane="cor"),
        study="MR mózgu z kontrastem",
    ),
    exam(
        "Portuguese, Siemens Sola with XA in classic form, 'pré' and 'pós'",
        "siemens",
        sola("AAHead_Scout", "scout"),
        sola("t1_mprage_sag_pré", "mprage", "t1", plane="sag", tr=2200, te=2.4),
        sola("t2_tse_ax", "t2", "t2", tr=4600, te=96),
        sola("t2_flair_ax_fs", "flair", "flair", tr=8000, te=91, ti=2370, ScanOptions="IR\\FS"),
        sola("difusão_ax", "dwi"),
        sola("difusão_ax_ADC", "adc"),
        sola("SWI_ax", "swi", tr=49, te=40),
        sola("t1_mprage_sag_pós", "mprage", "t1ce", plane="sag", tr=2200, te=2.4),
        sola("t1_mprage_sag_pós_MPR_ax", "mprage", kind="DERIVED\\PRIMARY\\MPR\\NORM"),
        study="RM CRANIOENCEFÁLICA C/ CONTRASTE",
    ),
    exam(
        "Danish, Philips, 'uden' and 'efter'",
        "philips",
        ingenia("Survey MST", "loc"),
        ingenia("sT1 3D TFE uden kontrast", "tfe", "t1", plane="sag"),
        ingenia("sFLAIR 3D", "vistaflair", "flair", plane="sag"),
        ingenia("tT2 TSE 4 mm", "t2", "t2", thick=4),
        ingenia("tDWI", "dwi"),
        ingenia("tDCE perfusion", "dce"),
        ingenia("sT1 3D TFE efter kontrast", "tfe", "t1ce", plane="sag"),
        ingenia("Ktrans", "dce", volumes=1, kind="DERIVED\\SECONDARY\\K_TRANS"),
        study="MR cerebrum",
    ),
    exam(
        "old Symphony, T1 SE with magnetization transfer after contrast, dual echo",
        "siemens",
        symphony("scout 3 Ebenen", "loc"),
        symphony("pd+t2_tse_tra", "pd", tr=3500, te=14, echo_two=(85, "t2")),
        symphony("t2_tirm_tra_darkfl", "flair", "flair", tr=9000, te=105, ti=2500, etl=7, name="*tir2d1_7"),
        symphony("t1_se_tra", "t1se", "t1", tr=525, te=14, fa=90),
        symphony("t2_fl2d_tra_haemo", "hemo", tr=800, te=26),
        symphony("ep2d_diff_5b0", "dwi", b=1000, te=122),
        symphony("t1_se_tra_mtc Mgn", "t1se", "t1ce", tr=700, te=14, fa=90, ScanOptions="MT", tag="Magnevist"),
        symphony("t1_se_cor Mgn", "t1se", "t1ce", tr=525, te=14, fa=90, plane="cor", tag="Magnevist"),
        symphony("t1_se_sag Mgn", "t1se", "t1ce", tr=525, te=14, fa=90, plane="sag", tag="Magnevist"),
    ),
    exam(
        "planning of surgery: words of Navi and pre-op with contrast, tractography, functional, no T1 before",
        "siemens",
        prisma("loc", "loc"),
        prisma("Navi_T1_prae-OP_KM_tra_1mm", "mprage", "t1ce", tr=2300, te=2.32),
        prisma("Navi_T2_SPC_prae-OP", "t2spc", "t2", plane="sag"),
        prisma("Navi_FLAIR_SPC_prae-OP", "spcir", "flair", plane="sag"),
        prisma("DTI_64dir", "dwi", name="*ep_b1000#21"),
        prisma("DTI_64dir_FA", "fa"),
        prisma("DTI_64dir_ColFA", "fa", kind="DERIVED\\PRIMARY\\DIFFUSION\\FA\\ND", SamplesPerPixel=3),
        prisma("fMRI_Finger_re", "bold"),
        prisma("fMRI_Sprache", "bold"),
        prisma("gre_field_mapping", "field"),
        prisma("CSI_sLASER_Übersicht", "shot"),
        study="MRT Neuronavigation",
    ),
    exam(
        "sella and orbit next to the head",
        "siemens",
        skyra("localizer", "loc"),
        skyra("t2_tse_tra_Kopf", "t2", "t2"),
        skyra("t2_tirm_tra_df_Kopf", "flair", "flair"),
        skyra("t1_tse_cor_Sella_2mm", "t1tse", **SELLA),
        skyra("t2_tse_cor_Sella_2mm", "t2", **SELLA),
        skyra("t1_tse_cor_Sella dynamisch", "t1tse", **SELLA, volumes=4, tag="Gadovist"),
        skyra("t1_tse_cor_Sella_KM", "t1tse", **SELLA, tag="Gadovist"),
        skyra("t1_tse_sag_Sella_KM", "t1tse", **SELLA | dict(plane="sag"), tag="Gadovist"),
        skyra("t2_tirm_cor_Orbita", "stir", **ORBIT, plane="cor"),
        skyra("t1_tse_fs_tra_Orbita_KM", "t1tse", **ORBIT, tag="Gadovist", ScanOptions="FS"),
        skyra("t1_mprage_Kopf_KM", "mprage", "t1ce", tag="Gadovist"),
        study="MRT Hypophyse und Schädel",
    ),
    exam(
        "drop metastases: spine after contrast in one study with the head",
        "siemens",
        prisma("loc_head", "loc"),
        prisma("t1_mpr_nat", "mprage", "t1"),
        prisma("t2_spc_flair", "spcir", "flair"),
        prisma("t2_tse_tra_4mm_Kopf", "t2", "t2"),
        prisma("t1_mpr_Gd", "mprage", "t1ce", tag="Clariscan"),
        prisma("loc_WS", "loc", BodyPartExamined="SPINE"),
        prisma("t1_tse_sag_HWS_Gd", "t1tse", **SPINE, tag="Clariscan", BodyPartExamined="CSPINE"),
        prisma("t1_tse_sag_BWS_Gd", "t1tse", **SPINE, tag="Clariscan", BodyPartExamined="TSPINE"),
        prisma("t1_tse_sag_LWS_Gd", "t1tse", **SPINE, tag="Clariscan", BodyPartExamined="LSPINE"),
        prisma("t2_tse_sag_LWS", "t2", **SPINE, BodyPartExamined="LSPINE"),
        prisma(
            "t1_tse_sag_composed_Gd", "t1tse", **SPINE, kind="DERIVED\\SECONDARY\\COMPOSED\\M", BodyPartExamined="SPINE"
        ),
        study="MRT Kopf + Neuroachse",
    ),
    exam(
        "radiotherapy: Dixon VIBE in four images, distortion corrected copy",
        "siemens",
        sola("localizer_RT_mask", "loc"),
        sola("t2_space_tra_RT", "t2spc", "t2"),
        sola("flair_space_tra_RT", "spcir", "flair"),
        sola("t1_vibe_dixon_tra_RT_nativ_in", "dixon", "t1", te=4.77, kind=SIEMENS_IN),
        sola("t1_vibe_dixon_tra_RT_nativ_opp", "dixon", kind=SIEMENS_OPP),
        sola("t1_vibe_dixon_tra_RT_nativ_F", "dixon", kind=SIEMENS_FAT),
        sola("t1_vibe_dixon_tra_RT_nativ_W", "dixon", "t1", kind=SIEMENS_WATER),
        sola("t1_mprage_tra_RT_KM", "mprage", "t1ce", kind="ORIGINAL\\PRIMARY\\M\\NORM\\DIS3D", tag="Dotagraf"),
        sola("t1_vibe_dixon_tra_RT_KM_opp", "dixon", kind=SIEMENS_OPP, tag="Dotagraf"),
        sola("t1_vibe_dixon_tra_RT_KM_F", "dixon", kind=SIEMENS_FAT, tag="Dotagraf"),
        sola("t1_vibe_dixon_tra_RT_KM_W", "dixon", "t1ce", kind=SIEMENS_WATER, tag="Dotagraf"),
        study="MRT Bestrahlungsplanung Schädel",
    ),
    exam(
        "restless patient: BLADE, HASTE, 2-D FLASH; the MPRAGE was repeated",
        "siemens",
        avanto("loc", "loc"),
        avanto("t2_haste_tra unruhig", "haste", "t2"),
        avanto("t2_blade_tra", "blade", "t2"),
        avanto("t2_tirm_blade_df_tra", "flair", "flair", name="*tirR2d1rr25", te=122, ti=2360),
        avanto("t1_fl2d_tra nativ", "fl2d", "t1", tr=210, te=4.76),
        avanto("ep2d_diff", "dwi"),
        avanto("t1_fl2d_tra KM", "fl2d", "t1ce", tr=210, te=4.76),
        avanto("t1_mprage_sag KM !!bewegt", "mprage", "t1ce", plane="sag"),
        avanto("t1_mprage_sag KM Wdh", "mprage", "t1ce", plane="sag"),
        study="MRT Kopf",
    ),
    exam(
        "delayed contrast maps: T1 at 5 and at 75 minutes, the subtraction made elsewhere",
        "siemens",
        prisma("localizer", "loc"),
        prisma("t1_mpr_tra_pre_Gd", "mprage", "t1"),
        prisma("t1_mpr_tra_5min_p.i.", "mprage", "t1ce", tag="Gadovist"),
        prisma("t2_tse_tra", "t2", "t2"),
        prisma("t2_tirm_tra_p.i.", "flair", "flair", tag="Gadovist"),
        prisma("t1_mpr_tra_75min_p.i.", "mprage", "t1ce", tag="Gadovist"),
        prisma("TRAM (75min-5min)", "mprage", kind="DERIVED\\SECONDARY\\OTHER", tag="Gadovist"),
        study="MRT Schädel Radionekrose vs. Rezidiv",
    ),
    exam(
        "Belgian, Philips, mixed French and Dutch, T1 by inversion recovery",
        "philips",
        achieva("PILOT", "loc"),
        achieva("T1 IR sag", "t1ir", "t1", plane="sag"),
        achieva("T2 TSE trans", "t2", "t2", te=110, tr=4800),
        achieva("FLAIR trans", "flair", "flair", tr=10000, te=130, ti=2600),
        achieva("T2 FFE trans bloed", "ffe"),
        achieva("DWI EPI", "dwi"),
        achieva("T1 IR sag gado", "t1ir", "t1ce", plane="sag"),
        achieva("T1 SE trans gado", "t1se", "t1ce", te=15, tr=450),
        achieva("T1 3D TFE gado", "tfe", "t1ce", tr=7.6, te=3.5),
        study="IRM cérébrale / MR hersenen",
    ),
    exam(
        "British, GE: +C of the vendor, PURE copies, reformats that keep the name",
        "ge",
        architect("3-pl loc", "loc"),
        architect("Sag 3D T1 BRAVO", "bravo", "t1", plane="sag"),
        architect("ORIG Sag 3D T1 BRAVO", "bravo", "t1", plane="sag"),
        architect("Sag 3D T2 FLAIR Cube", "cubeflair", "flair", plane="sag"),
        architect("Ax T2 PROPELLER HR", "prop", "t2", thick=3),
        architect("Ax DWI 3-in-1 Muse", "dwi"),
        architect("Ax SWAN ven_BOLD", "swan"),
        architect("FILT_PHA: Ax SWAN ven_BOLD", "swan", kind="DERIVED\\SECONDARY\\PHASE"),
        architect("DSC TE25 FA60", "dsc"),
        architect("rBV (Leakage corrected)", "map"),
        architect("Sag 3D T1 BRAVO+C", "bravo", "t1ce", plane="sag"),
        architect("Sag 3D T1 BRAVO+C", "bravo", kind=GE_REFORMAT),
        architect("Processed Images", "shot"),
        study="MRI Head with contrast",
    ),
    exam(
        "Austrian: multiple sclerosis or lymphoma, DIR and PSIR, T1 SE after",
        "siemens",
        skyra("Loc_3E", "loc"),
        skyra("dir_spc_sag", "dir", plane="sag"),
        skyra("psir_tra_3mm", "psir", thick=3),
        skyra("FLAIR 3D sag", "spcir", "flair", plane="sag"),
        skyra("PD_T2_tra", "pd", echo_two=(93, "t2")),
        skyra("T1 SE tra plain", "t1se", "t1"),
        skyra("T1 SE tra 5' post KM", "t1se", "t1ce", tag="Gadovist"),
        skyra("SWI", "swi"),
        skyra("tof_3d_multi-slab", "tof"),
        skyra("tof_3d_MIP_tra", "tof", kind=SIEMENS_MIP),
        study="MR Cerebrum",
    ),
    exam(
        "Swiss, sinus thrombosis or tumour: phase-contrast and contrast venography, cisternography",
        "siemens",
        verio("loc multi", "loc"),
        verio("t2_ax_FSE", "t2", "t2"),
        verio("FLAIR_ax", "flair", "flair"),
        verio("t1_ax_tse_sans", "t1tse", "t1"),
        verio("2D PC veineux", "pc"),
        verio("CISS 3D APC", "ciss"),
        verio("MRA_veines_post_KM_flash3d", "vibe", tr=3.6, te=1.3, fa=25, tag="Dotarem", ScanOptions="PFP"),
        verio("MRA_veines_post_KM_MIP", "vibe", kind=SIEMENS_MIP, tag="Dotarem"),
        verio("t1_ax_tse_avec", "t1tse", "t1ce", tag="Dotarem"),
        verio("t1_mprage_3D_avec", "mprage", "t1ce", tag="Dotarem"),
        study="IRM crâne nat + iv",
    ),
    exam(
        "ask: one T1 alone, the agent stamped on all, no word, no perfusion",
        "siemens",
        skyra("localizer", "loc"),
        skyra("t2_tse_tra", "t2", "t2"),
        skyra("t2_tirm_tra_dark-fluid", "flair", "flair"),
        skyra("t1_mprage_sag_iso", "mprage", "t1ce", plane="sag"),
        stamp="Gadovist",
        study="MRT Schädel",
    ),
    exam(
        "ask: two T1 of equal name, no tags, all series at one time",
        "philips",
        ingenia("3D_T1_TFE", "tfe", "t1", AcquisitionTime=None),
        ingenia("3D_T1_TFE", "tfe", "t1ce", AcquisitionTime=None),
        ingenia("T2_TSE", "t2", "t2", AcquisitionTime=None),
        ingenia("FLAIR", "vistaflair", "flair", AcquisitionTime=None),
        study="MR brain",
    ),
    exam(
        "Norwegian, GE, 'uten' and 'etter', T2 named by its sequence alone",
        "ge",
        architect("LOK", "loc"),
        architect("SAG T1 MPRAGE uten", "mprage", "t1", plane="sag"),
        architect("TRA FRFSE", "t2", "t2"),
        architect("SAG CUBE FLAIR HS", "cubeflair", "flair", plane="sag"),
        architect("TRA DWI", "dwi"),
        architect("SAG T1 MPRAGE etter", "mprage", "t1ce", plane="sag"),
        architect("TRA T1 etter, rekon", "mprage", kind=GE_REFORMAT),
        architect("3D PC sinus", "pc"),
        study="MR Caput",
    ),
)
