import contextlib
import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import series_corpus
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from series_corpus import FIRST, HELD_OUT, SECOND_HELD_OUT, built, confusion, exam, outcomes, s
from series_corpus_c import CORPUS_C
from series_corpus_d import CORPUS_D
from series_corpus_e import CORPUS_E

from lckd.errors import StudyError
from lckd.pacs.contrast import named_contrast
from lckd.pacs.identification import identify
from lckd.pacs.overrides import check_overrides, read_overrides
from lckd.pacs.rules import RULES, evidence, facts_of, normalized, read_rules
from lckd.pacs.series_table import COLUMNS, rows, shown, write_table
from lckd.pacs.site_words import read_site_words
from lckd.pacs.study import Study, build_study

CORPUS = (*FIRST, *HELD_OUT, *SECOND_HELD_OUT, *CORPUS_C, *CORPUS_D, *CORPUS_E)
"""Only what was wrong in silence at first sight, before the rules were mended, says how often a new hospital's are.

Of the stacks of ``HELD_OUT`` and ``SECOND_HELD_OUT`` 1.2 % and 2.8 % were. Then a word that no rule knows became a
question, and it was 3 of 489 in C and 2 of 483 in D: each time a usable T1 or T1ce that was left out, never a stack
used as what it is not. Of the 35 studies of C 24 asked, of the 42 of D 21, many of which are made to be asked about.
In E it was 1 of 743, a 'post' begun before the contrast, which was not used; 28 of its 54 studies asked.
"""


@pytest.fixture(scope="module")
def answers():
    return outcomes(CORPUS)


def decided(*series, vendor="siemens", stamp="", study=""):
    found, _ = built(exam("test", vendor, *series, stamp=stamp, study=study))
    return identify(found)


def one(description, technique="t1se", **changes):
    return decided(s(description, technique, "other", **changes)).decisions[0]


def by_description(identification):
    return {decision.stack.description: decision for decision in identification.decisions}


class TestCorpus:
    def test_it_is_large_and_holds_every_vendor(self, answers):
        assert sum(len(one.series) for one in CORPUS) >= 200
        assert {answer.vendor for answer in answers} >= {"siemens", "ge", "philips", "canon"}

    def test_nothing_is_wrong_in_silence(self, answers):
        assert [answer for answer in answers if answer.silently_wrong] == [], confusion(answers)

    def test_nothing_is_used_as_what_it_is_not_without_a_question(self):
        for one in CORPUS:
            study, labels = built(one)
            identification = identify(study)
            used = [decision for decision in identification.decisions if decision.used]
            truths = [labels[decision.stack.series_uid, decision.stack.number][0] for decision in used]
            assert identification.review or truths == [decision.sequence for decision in used], one.trap

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

    def test_a_t1ce_that_is_done_again_after_other_series_may_be_a_t1(self):
        post, flair = s("ax t1 post", "t1se"), s("flair", "flair2d")
        assert "T1 was not found" in " ".join(decided(post, flair, post).review)
        assert decided(flair, post, post).review == ()  # the patient had moved

    def test_a_name_that_physics_contradicts_is_asked_about(self):
        identification = decided(s("T2 TSE", "t1se"))
        assert identification.decisions[0].confidence < identification.low_confidence
        assert len(identification.review) == 1

    @pytest.mark.parametrize("series", [s("", "t2tse"), s("t2", "t2tse", te=None, tr=None), s("t2", "t2star", te=9)])
    def test_one_kind_of_evidence_alone_is_asked_about(self, series):
        assert "T2" in " ".join(decided(series).review)

    def test_an_unknown_word_is_asked_about(self):
        found = decided(s("t2 wibble", "t2tse"))
        assert "its description has 'wibble', which no rule knows" in found.review[0]

    def test_an_unknown_word_on_a_whole_head_is_not(self):
        found = decided(s("t2 wibble", "t2tse"), s("flair", "flair2d"), study="MRT Kopf")
        assert found.review == ()
        assert "wibble" in found.decisions[0].reasons[-1]

    def test_an_unknown_word_on_a_part_of_the_head_is(self):
        found = decided(s("t2 wibble", "t2tse", slices=12), s("flair", "flair2d"), s("swi", "swi"), study="MRT Kopf")
        assert found.review

    @pytest.mark.parametrize("description", ["t2 контраст", "t2 增强"])
    def test_a_word_in_another_script_is_unknown(self, description):
        assert "which no rule knows" in decided(s(description, "t2tse")).review[0]

    def test_a_description_that_says_the_same_of_every_series_says_nothing(self):
        names = {"t2_tse_tra": "t2tse", "t2_flair_tra": "flair2d", "t1_se_tra nativ": "t1se"}
        found = decided(*(s("ANON", technique, ProtocolName=name) for name, technique in names.items()))
        assert list(found.chosen) == ["flair", "t1", "t2"]
        assert found.review == ()

    def test_reformats_are_asked_about_where_their_source_is_missing(self):
        kind = "DERIVED\\SECONDARY\\MPR"
        found = decided(s("t2_tse", "t2tse"), s("t1_mprage KM MPR cor", "mprage", kind=kind))
        assert "T1ce was not found" in found.review[0]

    def test_an_unknown_type_of_image_is_asked_about(self):
        found = decided(s("t2", "t2tse", kind="ORIGINAL\\PRIMARY\\M\\WOBBLED"))
        assert "ImageType has WOBBLED" in found.review[0]

    def test_a_word_that_leaves_out_a_series_that_fits_is_asked_about(self):
        found = decided(s("t2 perf", "t2tse"), s("flair", "flair2d"))
        assert "T2 was not found" in found.review[0]
        assert decided(s("t2 perf", "t2tse"), s("t2", "t2tse"), s("flair", "flair2d")).review == ()

    def test_a_slab_is_asked_about(self):
        whole = [s("flair", "flair2d"), s("t1 pre", "t1se"), s("t1 +C", "t1se")]
        found = decided(s("t2", "t2tse", slices=12, gap=3.3), *whole)
        assert "covers less of the head" in found.review[0]

    def test_another_part_of_the_body_by_the_study_is_asked_about(self):
        assert decided(s("t2", "t2tse"), study="MRT LWS").review
        assert decided(s("t2", "t2tse"), study="MRT Kopf und HWS").review == ()

    @pytest.mark.parametrize("sequences", [("flair", "t2"), ("flair",), ("t2",)])
    def test_what_was_not_asked_for_is_not_asked_about(self, sequences):
        found = decided(s("t1", "t1se"), s("t2", "t2tse"), s("flair", "flair2d"))
        assert found.review
        assert found.limited_to(sequences).review == ()
        assert found.limited_to((*sequences, "t1ce")).review == found.review

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
            ("T1 W/", "yes"),
            ("T1 W/O", "no"),
            ("T1 W/WO", None),
            ("T1 post RT", None),
            ("T1 pre-op +Gd", "yes"),
            ("T1 no fs", None),
            ("T1 kontrastfrei", "no"),
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

    @pytest.mark.parametrize("agent", ["no contrast given", "ohne KM", "Non injecté", "n/a"])
    def test_an_agent_may_be_denied_in_words(self, agent):
        found = decided(s("t2", "t2tse"), s("t1", "t1se", tag=agent))
        assert found.decisions[1].contrast == "unknown"

    def test_two_t1_that_are_tagged_alike_are_asked_about(self):
        found = decided(s("t2", "t2tse"), s("t1", "t1se", tag="Gadovist"), s("t1", "t1se", tag="Gadovist"))
        assert found.chosen["t1"] is found.decisions[1].stack
        assert "on every T1" in found.review[0]

    def test_the_later_of_two_alike_is_contrast_but_asked_about(self):
        found = decided(s("t1", "t1se"), s("t1", "t1se"))
        assert [decision.sequence for decision in found.decisions] == ["t1", "t1ce"]
        assert len(found.review) == 2

    @pytest.mark.parametrize("description", ["t1 +", "t1 ilman KM", "t1 kontrastsiz", "t1 w", "t1 post fossa"])
    def test_a_word_that_may_speak_of_contrast_is_asked_about(self, description):
        found = decided(s("flair", "flair2d"), s(description, "t1se"), s("t1 +C", "t1space"), study="Head")
        assert "T1" in found.review[0]

    def test_a_bolus_tag_makes_up_for_an_unknown_word(self):
        found = decided(s("flair", "flair2d"), s("t1 wibble", "t1se", tag="Gadovist"), study="Head")
        assert list(found.chosen) == ["flair", "t1ce"]
        assert found.review == ()

    def test_a_name_against_the_order_is_asked_about(self):
        found = decided(s("t1 +C", "t1se"), s("t1 pre", "t1se"))
        assert len(found.review) == 2

    def test_an_unnamed_t1_between_named_ones_is_asked_about(self):
        found = decided(s("t1 pre", "t1se"), s("t1", "mprage"), s("t1 +C", "t1se"))
        assert by_description(found)["t1"].contrast == "unknown"

    def test_a_time_that_the_series_numbers_contradict_says_nothing(self):
        found = decided(s("t1", "t1se"), s("t1 +C", "t1se"))
        assert found.review == ()
        study, _ = built(exam("test", "ge", s("t1", "t1se"), s("t1 +C", "t1se")))
        for stack, time in zip(study.stacks, ("120000", "110000"), strict=True):
            stack.header.AcquisitionTime = time
        assert identify(study).review

    def test_pixels_answer_what_order_suggested(self):
        found = decided(s("t1", "t1se"), s("t1", "t1se"))
        assert found.pixels_may_answer
        ruled = found.confirmed_by_pixels()
        assert ruled.review == ()
        assert list(ruled.chosen) == ["t1", "t1ce"]
        assert all(decision.confidence >= found.low_confidence for decision in ruled.decisions)

    @pytest.mark.parametrize(
        "series",
        [
            (s("t1", "t1se"),),
            (s("t1 pre", "t1se"), s("t1 post", "t1se")),
            (s("t1 xyz", "t1se"), s("t1 xyz", "t1se")),
            (s("t1 pre", "t1se"), s("t1", "t1se"), s("t2", "t1se")),
            (s("t1 nativ", "t1se", tag="Gadovist"), s("t1 km", "mprage", tag="Gadovist"), s("t2", "t2tse")),
        ],
        ids=["one alone", "nothing asked", "unknown words", "also of a T2", "two techniques"],
    )
    def test_pixels_answer_nothing_else(self, series):
        assert not decided(*series).pixels_may_answer


class TestChoice:
    def test_the_latest_repeat_is_taken(self):
        found = decided(s("t2 1", "t2tse"), s("t2 2", "t2tse"))
        assert found.chosen["t2"].description == "t2 2"
        assert found.decisions[0].why_not.endswith("is acquired later")
        assert found.review == ()

    def test_3d_goes_before_thick_slices(self):
        assert decided(s("flair 3d", "flair3d"), s("flair", "flair2d")).chosen["flair"].description == "flair 3d"

    def test_whole_head_goes_before_a_slab(self):
        found = decided(s("t2", "t2tse"), s("t2 slab", "t2tse", slices=10, gap=3.0))
        assert found.chosen["t2"].description == "t2"

    def test_an_incomplete_volume_goes_after_a_complete_one(self):
        found, _ = built(exam("test", "ge", s("t2 1", "t2tse"), s("t2 2", "t2tse")))
        kept = [
            i for stack in found.stacks for n, i in enumerate(stack.instances) if (stack.description, n) != ("t2 2", 8)
        ]
        assert identify(build_study("1.2", kept)).chosen["t2"].description == "t2 1"

    def test_a_tie_is_asked_about(self):
        found = decided(s("t2 1", "t2tse"), s("t2 2", "t2tse"))
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


class TestAngioFlag:
    @pytest.mark.parametrize("technique", ["tof", "t1flash", "vibe"])
    @pytest.mark.parametrize("description", ["Hals-Kopf Gefaesse", "3D", "t1 circle of Willis"])
    def test_an_angiography_is_never_a_t1(self, description, technique):
        found = decided(s(description, technique, AngioFlag="Y"), s("t1 nativ", "t1se"), s("t1 KM", "t1se"))
        assert found.decisions[0].sequence is None
        assert found.decisions[0].why_not == "angiography or flow: AngioFlag has Y"
        assert found.review == ()

    def test_with_contrast_it_is_no_t1ce(self):
        flagged = s("t1 vibe KM", "vibe", AngioFlag="Y", tag="Gadovist")
        found = decided(s("t1 nativ", "vibe"), flagged, s("t2", "t2tse"))
        assert "t1ce" not in found.chosen

    def test_where_the_study_has_no_other_it_is_a_question(self):
        found = decided(s("t1_mprage_sag nativ", "mprage", AngioFlag="Y"), s("t2", "t2tse"))
        assert "t1" not in found.chosen
        assert "T1 was not found" in found.review[0]

    def test_no_flag_changes_nothing(self):
        assert list(decided(s("t1 nativ", "t1se", AngioFlag="N"), s("t2", "t2tse")).chosen) == ["t1", "t2"]


class TestSiteWords:
    @staticmethod
    def said(tmp_path, content, *series):
        (tmp_path / "ours.yaml").write_text(content, encoding="utf-8")
        words = read_site_words(tmp_path / "ours.yaml").meanings
        found, _ = built(exam("test", "siemens", *series))
        return identify(found, replace(read_rules(), site_words=words))

    def test_names_that_no_rule_knows(self, tmp_path):
        content = "flair: [Protokoll 7]\nt2: [Protokoll 8]\nt1: [Protokoll 9a]\nt1ce: [Protokoll 9b]"
        names = {"7": "flair2d", "8": "t2tse", "9a": "t1se", "9b": "t1se"}
        series = [s(f"Protokoll_{name} tra", technique) for name, technique in names.items()]
        assert decided(*series).review
        found = self.said(tmp_path, content, *series)
        assert {name: stack.description for name, stack in found.chosen.items()} == {
            "flair": "Protokoll_7 tra",
            "t1": "Protokoll_9a tra",
            "t1ce": "Protokoll_9b tra",
            "t2": "Protokoll_8 tra",
        }
        assert found.review == ()
        assert "the site's rules say that 'protokoll 7' means flair" in found.decisions[0].reasons

    def test_they_win_over_our_words(self, tmp_path):
        series = s("Gliom perf T2", "t2tse"), s("flair", "flair2d")
        assert "t2" not in decided(*series).chosen
        assert "t2" in self.said(tmp_path, "t2: [gliom perf t2]", *series).chosen

    @pytest.mark.parametrize("technique", ["dwi", "t2star", "flair2d"])
    def test_they_do_not_win_over_tags_and_physics(self, tmp_path, technique):
        found = self.said(tmp_path, "t1: [hirn]", s("Hirn", technique), s("flair", "flair2d"))
        assert "t1" not in found.chosen or found.review

    def test_the_rest_of_a_name_still_counts(self, tmp_path):
        found = self.said(tmp_path, "t2: [hirn]", s("Hirn ADC", "t2tse"), s("t2", "t2tse"))
        assert found.decisions[0].why_not.startswith("diffusion")

    def test_the_longest_word_counts(self, tmp_path):
        found = self.said(tmp_path, "t1: [hirn]\nt1ce: [hirn spritze]", s("Hirn", "t1se"), s("Hirn Spritze", "t1se"))
        assert [decision.sequence for decision in found.decisions] == ["t1", "t1ce"]
        assert found.review == ()

    def test_a_t1_whose_name_goes_on_to_speak_of_contrast_is_a_question(self, tmp_path):
        assert self.said(tmp_path, "t1: [hirn]", s("Hirn Gado", "t1se")).review

    def test_a_name_used_with_and_without_contrast(self, tmp_path):
        content = "t1_or_t1ce: [hirn]\nwith_contrast: [spritze]\nwithout_contrast: [leer]"
        found = self.said(tmp_path, content, s("Hirn leer", "t1se"), s("Hirn Spritze", "t1se"))
        assert [decision.sequence for decision in found.decisions] == ["t1", "t1ce"]
        assert found.review == ()

    def test_what_is_to_be_ignored_is_not_asked_about(self, tmp_path):
        series = s("t2_tse planung", "t2tse"), s("flair", "flair2d")
        found = self.said(tmp_path, "ignore: [planung]", *series)
        assert found.decisions[0].why_not.startswith("left out by the site's rules")
        assert found.review == ()

    def test_a_known_word_says_nothing(self, tmp_path):
        part = s("t2 wibble tse", "t2tse", slices=12), s("flair", "flair2d", slices=12)
        assert decided(*part).review
        assert self.said(tmp_path, "known: [Wibble]", *part).review == ()

    def test_words_are_whole(self, tmp_path):
        assert "t2" in self.said(tmp_path, "ignore: [plan]", s("t2 planung", "t2tse")).chosen

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("flare: [a]", "have the key 'flare'; accepted are flair, t1, t1ce"),
            ("flair: a", "have a single value under 'flair'; accepted is a list"),
            ("flair: [[a]]", "have a list in the list under 'flair'; accepted are words"),
            ("flair: ['hirn.*']", "'hirn.*' under 'flair', which looks like a regular expression"),
            ("flair: ['(a|b)+']", "looks like a regular expression"),
            ("flair: ['---']", "accepted are words with a letter or digit"),
            ("flair: [Hirn A]\nt2: [hirn_a]", "name 'hirn_a' under 'flair' and 't2'; keep one"),
            ("flair: [a]\nflair: [b]", "'flair' is there twice"),
            ("[a, b]", "hold no mapping but a list"),
            ("", "hold no mapping but a single value"),
            ("flair: [a", "cannot be read"),
            ("!!python/object/apply:os.system [ls]", "hold no mapping but a list"),
            ("[" * 5000, "cannot be read"),
            ("known: [no, 123, null]", None),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_a_file_is_checked(self, tmp_path, content, message):
        (tmp_path / "ours.yaml").write_text(content)
        if message is None:
            assert set(read_site_words(tmp_path / "ours.yaml").meanings) == {"no", "123", "null"}
            return
        with pytest.raises(StudyError) as caught:
            read_site_words(tmp_path / "ours.yaml")
        assert message in str(caught.value) and str(caught.value).startswith(f"rules {tmp_path / 'ours.yaml'} ")

    @given(st.dictionaries(st.text(max_size=12), st.lists(st.text(max_size=30), max_size=4), max_size=4))
    @settings(max_examples=60, deadline=None)
    def test_no_file_breaks_it(self, tmp_path_factory, content):
        file = tmp_path_factory.mktemp("site") / "ours.yaml"
        file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        with contextlib.suppress(StudyError):
            rules = replace(read_rules(), site_words=read_site_words(file).meanings)
            assert identify(built(exam("test", "ge", s("t1", "t1se")))[0], rules)


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
