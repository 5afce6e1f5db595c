from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage, generate_uid

from lckd.pacs.study import Instance, acquired, b_value, build_study, flat_headers, numbers, split_series, text

AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def instance(z=0.0, series="1.2.3", position=None, orientation=AXIAL, name="a", **attributes) -> Instance:
    header = Dataset()
    header.SOPClassUID, header.StudyInstanceUID, header.SeriesInstanceUID = MRImageStorage, "1.2", series
    header.SOPInstanceUID = generate_uid()
    header.Rows = header.Columns = 64
    header.PixelSpacing = [1, 1]
    header.ImagePositionPatient = [0, 0, z] if position is None else position
    header.ImageOrientationPatient = orientation
    for keyword, value in attributes.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    return Instance(Path(name), header)


def volume(count=12, spacing=5.0, **attributes) -> list[Instance]:
    return [instance(n * spacing, **attributes) for n in range(count)]


def stacks_of(instances):
    return split_series(instances)[0]


def heights(stack):
    return stack.positions[:, 2].tolist()


def enhanced(frames, **attributes) -> Instance:
    """An enhanced instance of ``(z, echo time)`` per frame."""
    header = Dataset()
    header.SOPClassUID, header.StudyInstanceUID, header.SeriesInstanceUID = EnhancedMRImageStorage, "1.2", "1.2.3"
    header.SOPInstanceUID, header.NumberOfFrames = generate_uid(), len(frames)
    header.Rows = header.Columns = 64
    shared = _group("PlaneOrientationSequence", ImageOrientationPatient=AXIAL)
    shared.update(_group("PixelMeasuresSequence", PixelSpacing=[0.5, 0.5], SliceThickness=4))
    shared.update(_group("MRTimingAndRelatedParametersSequence", RepetitionTime=9000, FlipAngle=90))
    shared.update(_group("MRModifierSequence", InversionTimes=[2500.0]))
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    items = []
    for z, echo in frames:
        item = _group("PlanePositionSequence", ImagePositionPatient=[0, 0, z])
        item.update(_group("MREchoSequence", EffectiveEchoTime=echo))
        item.update(_group("FrameContentSequence", FrameAcquisitionNumber=1))
        items.append(item)
    header.PerFrameFunctionalGroupsSequence = Sequence(items)
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return Instance(Path("e"), header)


def _group(sequence: str, **attributes) -> Dataset:
    item, group = Dataset(), Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    setattr(group, sequence, Sequence([item]))
    return group


class TestOneVolume:
    def test_slices_are_ordered_along_the_normal(self):
        slices = volume()
        stack = stacks_of(slices[::-1])[0]
        assert heights(stack) == [n * 5.0 for n in range(12)]
        assert [i.sop_uid for i in stack.instances] == [i.sop_uid for i in slices]

    def test_order_follows_the_normal_of_a_sagittal(self):
        slices = [instance(position=[x, 0, 0], orientation=SAGITTAL) for x in range(12)]
        stack = stacks_of(slices)[0]
        assert (stack.plane, stack.positions[:, 0].tolist()) == ("sagittal", list(range(11, -1, -1)))

    def test_says_how_far_its_slices_are_apart(self):
        stack = stacks_of(volume())[0]
        assert (stack.spacing_mm, stack.extent_mm, stack.uniform, stack.size) == (5.0, 60.0, True, 12)

    def test_a_missing_slice_makes_it_not_uniform(self):
        slices = volume()
        assert not stacks_of(slices[:4] + slices[5:])[0].uniform

    def test_an_attribute_that_differs_from_slice_to_slice_does_not_split_it(self):
        slices = [instance(n * 5.0, AcquisitionNumber=n, EchoTime=90 + n, FlipAngle=n * 7) for n in range(12)]
        assert [stack.size for stack in stacks_of(slices)] == [12]

    def test_noise_in_the_orientation_does_not_split_it(self):
        slices = [instance(n * 5.0, orientation=[1, n * 1e-5, 0, 0, 1, 0]) for n in range(12)]
        assert len(stacks_of(slices)) == 1

    def test_a_single_slice_is_a_stack(self):
        stack = stacks_of(volume(1, SliceThickness=6))[0]
        assert (stack.size, stack.spacing_mm, stack.uniform) == (1, 6.0, False)

    def test_pixel_free_header_keeps_text_of_other_character_sets(self):
        header = Dataset()
        header.SpecificCharacterSet = "ISO_IR 100"
        header.SeriesDescription = "après Schädel"
        assert Instance(Path("a"), header).header.SeriesDescription == "après Schädel"


class TestSeveralVolumes:
    @pytest.mark.parametrize(
        ("keyword", "one", "other"),
        [
            ("EchoTime", 14, 90),
            ("InversionTime", 200, 2500),
            ("FlipAngle", 5, 20),
            ("DiffusionBValue", 0.0, 1000.0),
            ("TemporalPositionIdentifier", 1, 2),
            ("AcquisitionNumber", 1, 2),
            ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
            ("Rows", 64, 128),
        ],
    )
    def test_are_told_apart(self, keyword, one, other):
        slices = [i for pair in zip(volume(**{keyword: one}), volume(**{keyword: other}), strict=True) for i in pair]
        found = stacks_of(slices)
        assert [stack.size for stack in found] == [12, 12]
        assert [stack.number for stack in found] == [1, 2]

    def test_of_two_orientations(self):
        sagittal = [instance(position=[x, 0, 0], orientation=SAGITTAL) for x in range(12)]
        assert {stack.plane for stack in stacks_of(volume() + sagittal)} == {"axial", "sagittal"}

    def test_of_other_slabs_and_echo_times(self):
        shifted = [instance(n * 5.0 + 1.7, EchoTime=90) for n in range(12)]
        assert [stack.size for stack in stacks_of(volume(EchoTime=14) + shifted)] == [12, 12]

    def test_repeats_that_only_the_time_tells_apart(self):
        slices = [one for minute in range(3) for one in volume(AcquisitionTime=f"10{minute:02d}00")]
        assert [stack.size for stack in stacks_of(slices)] == [12] * 3


class TestDuplicates:
    def test_one_of_each_uid_is_kept(self):
        slices = volume()
        stack = stacks_of(slices + slices[:3])[0]
        assert stack.size == 12
        assert "3 files of this series repeat a SOPInstanceUID" in stack.notes[0]

    def test_the_highest_acquisition_number_is_kept(self):
        slices = volume(AcquisitionNumber=1)
        again = instance(10.0, AcquisitionNumber=2)
        stack = stacks_of([again, *slices])[0]
        assert stack.size == 12
        assert stack.instances[2] is again
        assert "1 slices lie at the position of another" in stack.notes[0]


class TestUnusable:
    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"ImagePositionPatient": None}, "ImagePositionPatient is missing"),
            ({"ImageOrientationPatient": None}, "ImageOrientationPatient is missing"),
            ({"ImagePositionPatient": [1, 2]}, "ImagePositionPatient is missing or unreadable"),
            ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "perpendicular"),
            ({"ImageOrientationPatient": [0] * 6}, "perpendicular"),
            ({"ImagePositionPatient": [0, 0, 1e9]}, "kilometre"),
        ],
    )
    def test_a_slice_without_a_place_is_left_out(self, attributes, message):
        stacks, ignored = split_series([*volume(), instance(70.0, **attributes)])
        assert [stack.size for stack in stacks] == [12]
        assert message in ignored[0].reason

    def test_all_slices_without_a_place_leave_no_stack(self):
        study = build_study("1.2", volume(ImagePositionPatient=None))
        assert study.stacks == ()
        assert study.ignored[0].count == 12


class TestEnhanced:
    def test_frames_are_ordered_and_echoes_told_apart(self):
        found = stacks_of([enhanced([(z, echo) for z in (20, 10, 0) for echo in (90, 14)])])
        assert [stack.frames for stack in found] == [(5, 3, 1), (4, 2, 0)]
        assert [heights(stack) for stack in found] == [[0, 10, 20]] * 2

    def test_functional_groups_read_as_a_classic_header(self):
        header = stacks_of([enhanced([(0, 90), (5, 90)])])[0].header
        assert (header.EchoTime, header.InversionTime, header.RepetitionTime) == (90, 2500, 9000)
        assert (list(header.PixelSpacing), header.SliceThickness) == ([0.5, 0.5], 4)

    def test_each_instance_is_its_own(self):
        found = stacks_of([enhanced([(0, 90), (5, 90)]), enhanced([(0, 90), (5, 90)])])
        assert [len(stack.instances) for stack in found] == [1, 1]

    def test_without_functional_groups_it_is_no_stack(self):
        lone = enhanced([(0, 90)])
        header = lone.header
        del header.PerFrameFunctionalGroupsSequence
        assert stacks_of([Instance(Path("e"), header)]) == []

    def test_a_classic_header_stays_what_it_is(self):
        one = instance(SeriesDescription="t2")
        assert flat_headers(one)[0].SeriesDescription == "t2"


class TestHeader:
    @pytest.mark.parametrize("time", ["101112", "101112.5", "1011", "10:11:12"])
    def test_time(self, time):
        header = instance(StudyDate="20200102", AcquisitionTime=time).header
        assert (acquired(header).hour, acquired(header).minute) == (10, 11)

    @pytest.mark.parametrize("time", ["", "abc", "999999"])
    def test_no_time(self, time):
        assert acquired(instance(AcquisitionTime=time).header) is None

    def test_b_values_of_vendors(self):
        header = Dataset()
        header.add_new(0x00431039, "IS", [1000001000, 0])
        assert b_value(header) == 1000
        header = Dataset()
        header.add_new(0x0019100C, "UN", b"800 ")
        assert b_value(header) == 800

    def test_what_cannot_be_read_is_missing(self):
        header = Dataset()
        header.add_new(0x00180081, "LO", "nine")
        assert numbers(header, "EchoTime") == ()
        assert text(Dataset(), "SeriesDescription") == ""

    def test_the_patient_cannot_be_told_from_the_key(self):
        header = Dataset()
        header.PatientID, header.PatientName = "Muster123", "Muster^Max"
        one = Instance(Path("a"), header)
        assert "Muster" not in str(one.patient) + str(one.header) + repr(one)


def test_a_study_lists_its_series_in_order():
    slices = volume(series="1.9", SeriesNumber=2) + volume(series="1.8", SeriesNumber=10)
    study = build_study("1.2", slices[::-1])
    assert [stack.series_uid for stack in study.stacks] == ["1.9", "1.8"]
    assert np.allclose(study.stacks[0].orientation, np.eye(3))
