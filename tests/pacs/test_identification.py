import csv
import json
from pathlib import Path

import pytest
import series_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from series_corpus import FIRST, HELD_OUT, SECOND_HELD_OUT, built, confusion, exam, outcomes, s

from lckd.errors import StudyError
from lckd.pacs.identification import identify, with_pixel_ruling
from lckd.pacs.overrides import check_overrides, read_overrides
from lckd.pacs.rules import RULES, evidence, facts_of, named_contrast, normalized, read_rules
from lckd.pacs.series_table import COLUMNS, rows, shown, write_table
from lckd.pacs.study import Study, build_study


@pytest.fixture(scope="module")
def answers():
    return outcomes((*FIRST, *HELD_OUT, *SECOND_HELD_OUT))


def decided(*series, vendor="siemens", stamp="", study=""):
    found, _ = built(exam("test", vendor, *series, stamp=stamp, study=study))
    return identify(found)


def one(description, technique="t1se", **changes):
    return decided(s(description, technique, "other", **changes)).decisions[0]


def by_description(identification):
    return {decision.stack.description: decision for decision in identification.decisions}


class TestCorpus:
    def test_it_is_large_and_holds_every_vendor(self, answers):
        assert sum(len(one.series) for one in (*FIRST, *HELD_OUT, *SECOND_HELD_OUT)) >= 200
        assert {answer.vendor for answer in answers} == {"siemens", "ge", "philips", "canon"}

    def test_nothing_is_wrong_in_silence(self, answers):
        assert [answer for answer in answers if answer.silently_wrong] == [], confusion(answers)

    def test_98_percent_are_right_or_asked(self, answers):
        assert sum(answer.right or answer.asked for answer in answers) >= 0.98 * len(answers), confusion(answers)

    def test_most_is_decided_without_asking(self, answers):
        assert sum(answer.right and not answer.asked for answer in answers) >= 0.9 * len(answers), confusion(answers)

    def test_the_confusion_table_has_a_row_per_label(self, answers):
        assert confusion(answers).count("\n") == len(series_corpus.SEQUENCES) + 2


class TestSequence:
    @pytest.mark.parametrize(
        ("description", "technique", "sequence"),
        [
            ("Ax T1 FLAIR", "t1flair", "t1"),
            ("Ax T2 FLAIR", "flair2d", "flair"),
            ("t2_tirm_tra", "flair2d", "flair"),
            ("t2_tirm_cor", "stir", None),
            ("T2*", "t2star", None),
            ("T2", "t2tse", "t2"),
            ("PD", "pd", None),
            ("t2 sense", "t2tse", "t2"),
            ("mprage", "mprage", "t1"),
            ("FLAIR", "dwi", None),
        ],
    )
    def test_of_a_name(self, description, technique, sequence):
        assert one(description, technique).sequence == sequence

    def test_a_name_that_physics_contradicts_is_asked_about(self):
        identification = decided(s("T2 TSE", "t1se"))
        assert identification.decisions[0].confidence < identification.low_confidence
        assert len(identification.review) == 1

    def test_physics_alone_is_asked_about(self):
        assert "confidence of 0.60" in decided(s("", "t2tse")).review[0]

    def test_a_localizer_gives_three_stacks_none_of_which_is_used(self):
        identification = decided(s("localizer", "loc"))
        assert [decision.sequence for decision in identification.decisions] == [None] * 3

    def test_the_echoes_of_one_series_are_told_apart(self):
        found = decided(s("PD+T2", "pd", echo_two=(90, "t2")), vendor="philips").decisions
        assert [decision.sequence for decision in found] == [None, "t2"]

    def test_b0_in_a_diffusion_series_is_no_t2(self):
        found = decided(s("t2 weighted", "dwi", b0=True)).decisions
        assert [decision.sequence for decision in found] == [None, None]

    def test_an_unusual_derivation_is_asked_about_if_nothing_else_is_there(self):
        found = decided(s("t2_tse", "t2tse", kind="DERIVED\\SECONDARY\\STRANGE"))
        assert found.chosen == {}
        assert "may be it" in found.review[0]

    def test_a_filtered_image_is_accepted_after_originals(self):
        found = decided(s("t2_tse", "t2tse"), s("t2_tse filt", "t2tse", kind="DERIVED\\PRIMARY\\M\\NORM\\FILTERED"))
        assert found.chosen["t2"].description == "t2_tse"
        assert "an original image" in found.decisions[1].why_not


class TestContrast:
    @pytest.mark.parametrize(
        ("description", "contrast"),
        [
            ("T1 ohne KM", "no"),
            ("T1 mit KM", "yes"),
            ("T1 sans injection", "no"),
            ("T1 après gado", "yes"),
            ("T1 sin contraste", "no"),
            ("T1 con contraste", "yes"),
            ("T1 senza mdc", "no"),
            ("T1 dopo mdc", "yes"),
            ("T1 utan kontrast", "no"),
            ("T1 med kontrast", "yes"),
            ("T1 zonder contrast", "no"),
            ("T1 met contrast", "yes"),
            ("T1 pre Gd", "no"),
            ("T1 +C", "yes"),
            ("T1 C+", "yes"),
            ("T1 -C", "no"),
            ("T1 C-", "no"),
            ("T1 post-op", None),
            ("T1 W/WO", None),
            ("T1 pre and post", None),
            ("T1 sag", None),
        ],
    )
    def test_of_a_name(self, description, contrast):
        found = named_contrast(normalized(description), read_rules())
        assert (found[0] if found else None) == contrast

    def test_a_tag_says_yes(self):
        found = decided(s("t1", "t1se"), s("t1", "t1se", tag="Gadovist"))
        assert [(d.sequence, d.contrast) for d in found.decisions] == [("t1", "no"), ("t1ce", "yes")]
        assert found.review == ()

    @pytest.mark.parametrize("tag", ["NONE", "No", "ohne", "-", " "])
    def test_a_tag_may_say_that_none_was_given(self, tag):
        assert one("t1", tag=tag).contrast == "unknown"

    def test_a_tag_on_every_series_says_nothing(self):
        found = decided(s("t2", "t2tse"), s("t1 nativ", "t1se"), s("t1", "t1se"), stamp="Gadovist")
        assert "the bolus tag is on every series" in found.decisions[2].reasons[-1]
        assert found.review

    def test_a_tag_on_all_but_the_localizer_says_nothing_either(self):
        found = decided(
            s("loc", "loc", tag=""), s("t1", "t1se"), s("t2", "t2tse"), s("t1 +C", "mprage"), stamp="Gadovist"
        )
        assert {name: stack.description for name, stack in found.chosen.items()} == {
            "t1": "t1",
            "t1ce": "t1 +C",
            "t2": "t2",
        }

    def test_two_t1_that_are_tagged_alike_are_asked_about(self):
        found = decided(s("t2", "t2tse"), s("t1", "t1se", tag="Gadovist"), s("t1", "t1se", tag="Gadovist"))
        assert found.chosen["t1"] is found.decisions[1].stack
        assert "on every T1" in found.review[0]

    def test_the_later_of_two_alike_is_contrast_but_asked_about(self):
        found = decided(s("t1", "t1se"), s("t1", "t1se"))
        assert [decision.sequence for decision in found.decisions] == ["t1", "t1ce"]
        assert len(found.review) == 2

    def test_a_plus_of_unknown_meaning_is_asked_about(self):
        found = decided(s("t1 xy+", "t1se"), s("t1 post", "t1se"))
        assert "unknown meaning" in found.review[0]

    def test_pixels_confirm_what_order_suggested(self):
        found = decided(s("t1", "t1se"), s("t1", "t1se"))
        first, second = (decision.stack for decision in found.decisions)
        ruled = with_pixel_ruling(with_pixel_ruling(found, first, "no"), second, "yes")
        assert ruled.review == ()
        assert list(ruled.chosen) == ["t1", "t1ce"]

    def test_pixels_that_contradict_a_tag_are_asked_about(self):
        found = decided(s("t2", "t2tse"), s("t1", "t1se", tag="Gadovist"))
        ruled = with_pixel_ruling(found, found.decisions[1].stack, "no")
        assert "contradicts" in ruled.decisions[1].reasons[-1]
        assert ruled.review

    def test_pixels_say_nothing_of_a_t2(self):
        found = decided(s("t2", "t2tse"))
        with pytest.raises(StudyError, match="is no T1"):
            with_pixel_ruling(found, found.decisions[0].stack, "yes")


class TestChoice:
    def test_the_latest_repeat_is_taken(self):
        found = decided(s("t2 a", "t2tse"), s("t2 b", "t2tse"))
        assert found.chosen["t2"].description == "t2 b"
        assert found.decisions[0].why_not.endswith("is acquired later")
        assert found.review == ()

    def test_3d_goes_before_thick_slices(self):
        assert decided(s("flair 3d", "flair3d"), s("flair", "flair2d")).chosen["flair"].description == "flair 3d"

    def test_whole_head_goes_before_a_slab(self):
        found = decided(s("t2", "t2tse"), s("t2 slab", "t2tse", slices=10, gap=3.0))
        assert found.chosen["t2"].description == "t2"

    def test_an_incomplete_volume_goes_after_a_complete_one(self):
        found, _ = built(exam("test", "ge", s("t2 a", "t2tse"), s("t2 b", "t2tse")))
        kept = [
            i for stack in found.stacks for n, i in enumerate(stack.instances) if (stack.description, n) != ("t2 b", 8)
        ]
        assert identify(build_study("1.2", kept)).chosen["t2"].description == "t2 a"

    def test_a_tie_is_asked_about(self):
        found = decided(s("t2 a", "t2tse"), s("t2 b", "t2tse"))
        for decision in found.decisions:
            del decision.stack.header.AcquisitionTime, decision.stack.header.StudyTime
        assert "equal in everything" in identify(found.study).review[0]

    def test_an_empty_study_has_no_choice(self):
        assert identify(Study("1.2", ())).chosen == {}


class TestOverrides:
    @pytest.fixture
    def study(self):
        return built(exam("test", "siemens", s("t1", "t1se"), s("t1", "t1se"), s("pd", "pd", echo_two=(90, "t2"))))[0]

    def written(self, tmp_path: Path, content: str, name: str = "o.yaml"):
        (tmp_path / name).write_text(content)
        return read_overrides(tmp_path / name)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("o.yaml", "{0}: t1ce\n{1}: ignore\n"),
            ("o.json", '{{"{0}": "T1CE", "{1}": "ignore"}}'),
            ("o.csv", "series,stack,sequence\n{0},1,t1gd\n{1},,ignore\n"),
        ],
    )
    def test_are_applied(self, tmp_path, study, name, content):
        first, second = study.stacks[:2]
        overrides = self.written(tmp_path, content.format(first.series_uid, second.series_uid), name)
        found = identify(study, overrides=overrides)
        assert found.chosen["t1ce"] is first
        assert "t1" not in found.chosen
        assert found.decisions[1].why_not == "ignored by override"

    def test_of_a_stack(self, tmp_path, study):
        overrides = self.written(tmp_path, f"{study.stacks[2].series_uid}#1: t2\n")
        assert identify(study, overrides=overrides).chosen["t2"] is study.stacks[2]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{0}: t3", "accepted are flair, t1, t1ce, t2 and ignore"),
            ("{0}: t1\n{0}: t2", "named twice"),
            ("- a", "not a mapping"),
            ("{0}#x: t1", "no series"),
            ("a: [", "cannot be read"),
            ("{0}: {{x: y}}", "accepted are|cannot be read"),
        ],
    )
    def test_that_cannot_be_read_give_one_sentence(self, tmp_path, study, content, message):
        with pytest.raises(StudyError, match=message) as caught:
            self.written(tmp_path, content.format(study.stacks[0].series_uid))
        assert "\n" not in str(caught.value)

    def test_of_a_file_that_does_not_exist(self, tmp_path):
        with pytest.raises(StudyError, match="cannot be read"):
            read_overrides(tmp_path / "none.yaml")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{0}: t1\n{1}: t1", "keep one"),
            ("{2}: t2", "has 2 stacks"),
            ("{0}#2: t2", "has 1"),
        ],
    )
    def test_that_do_not_fit_the_study(self, tmp_path, study, content, message):
        overrides = self.written(tmp_path, content.format(*(stack.series_uid for stack in study.stacks[:3])))
        with pytest.raises(StudyError, match=message):
            identify(study, overrides=overrides)

    def test_of_an_unknown_series(self, tmp_path):
        with pytest.raises(StudyError, match=r"1\.2\.3, which the export does not hold"):
            check_overrides(self.written(tmp_path, "1.2.3: t1"), {"1.2.4"})


class TestTable:
    def test_json_and_csv_hold_a_row_per_stack(self, tmp_path):
        table = rows(decided(s("localizer", "loc"), s("t2", "t2tse")))
        for name in ("t.json", "t.csv"):
            write_table(tmp_path / name, table)
        assert json.loads((tmp_path / "t.json").read_text()) == table
        with (tmp_path / "t.csv").open(newline="") as opened:
            found = list(csv.DictReader(opened))
        assert [row["used"] for row in found] == ["False"] * 3 + ["True"]
        assert tuple(found[0]) == COLUMNS

    @pytest.mark.parametrize("description", ["=1+1", "+t2", "-t2", "@t2", "'t2"])
    def test_a_spreadsheet_takes_no_description_for_a_formula(self, tmp_path, description):
        write_table(tmp_path / "t.csv", rows(decided(s(description, "t2tse"))))
        with (tmp_path / "t.csv").open(newline="") as opened:
            assert next(csv.DictReader(opened))["description"] == f"'{description}"

    def test_a_description_cannot_steer_the_terminal(self):
        written = shown(decided(s("t2\x1b[31m\u202ered\x00\n", "t2tse")))
        assert all(line.isprintable() for line in written.splitlines())

    def test_the_terminal_shows_what_was_chosen_first(self):
        assert "t2" in shown(decided(s("localizer", "loc"), s("t2", "t2tse"))).splitlines()[2]


class TestRules:
    def test_the_shipped_ones_lie_in_the_bundle(self):
        assert RULES.is_file()

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("low_confidence: 0.65", "low_confidence: 0.65\nextra: 1", "its keys are"),
            ("{slices: [null, 9]}", "{slicess: [null, 9]}", "unknown key 'slicess'"),
            ("{slices: [null, 9]}", "{slices: many}", "a rule is wrong"),
            ("{slices: [null, 9]}", "{words: ['(']}", "a rule is wrong"),
            ("agreement: 0.05", "agreement: [", "cannot be read"),
        ],
    )
    def test_of_a_site_are_checked(self, tmp_path, old, new, message):
        file = tmp_path / "rules.yaml"
        file.write_text(RULES.read_text().replace(old, new, 1))
        with pytest.raises(StudyError, match=message):
            read_rules(file)

    def test_every_condition_of_the_shipped_ones_can_be_evaluated(self):
        study, _ = built(exam("test", "ge", s("t1", "t1se")))
        facts = facts_of(study.stacks)[0]
        rules = read_rules()
        conditions = [c for rule in rules.exclude for c in rule["any"]]
        conditions += [condition for source in rules.sequences.values() for condition in source]
        assert all(isinstance(evidence(condition, facts), str | None) for condition in conditions)


@settings(max_examples=60, deadline=None)
@given(
    description=st.text(max_size=40),
    echo=st.floats(allow_nan=False, allow_infinity=False, width=16),
    kind=st.lists(st.text("ABCDEFG\\", max_size=5), min_size=1, max_size=4),
    tag=st.text(max_size=10),
)
def test_no_header_breaks_it(description, echo, kind, tag):
    found = decided(s(description, "t1se", te=echo, kind="\\".join(kind), tag=tag, slices=3))
    assert rows(found)
    assert shown(found)
