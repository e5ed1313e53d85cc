import numpy as np
import pytest

from benchmarks.coreml_faults import MUTATIONS
from benchmarks.coreml_mutations import found_by, table

pytestmark = pytest.mark.target
FAULTS = [(subject, name) for subject, faults in MUTATIONS.items() for name in faults]


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_unmutated_program_passes_parity_and_the_comparison_of_weights(subjects, name):
    by, how = found_by(subjects[name], None)
    assert by == "nothing", how


@pytest.mark.parametrize(("subject", "name"), FAULTS)
def test_a_single_fault_is_found(subjects, subject, name):
    by, how = found_by(subjects[subject], MUTATIONS[subject][name])
    assert by in ("refusal", "parity", "weights"), how


def test_parity_alone_would_miss_rows_that_no_probe_reads(subjects):
    unread = [name for name in MUTATIONS["fp16"] if "no probe reads" in name]
    assert {found_by(subjects["fp16"], MUTATIONS["fp16"][name])[0] for name in unread} == {"weights"}


def test_the_table_has_a_line_per_fault(subjects):
    faults = {"stateful": MUTATIONS["stateful"]}
    assert len(list(table(subjects, faults))) == 2 + len(faults["stateful"])


def test_there_are_at_least_thirty_faults():
    assert len(FAULTS) >= 30
    assert len({name for _, name in FAULTS}) == len(np.unique([name for _, name in FAULTS]))
