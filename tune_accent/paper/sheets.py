"""Every table of a paper run, in the order of the report."""

from __future__ import annotations

from tune_accent.paper.arms import Measured
from tune_accent.paper.result_tables import (
    confusion_table,
    difference_table,
    leakage_table,
    main_table,
    representation_table,
    seed_table,
    wrong_table,
)
from tune_accent.paper.search_tables import (
    compute_table,
    control_tables,
    failure_table,
    opening_table,
    reproduction_table,
    selection_table,
    space_table,
    state_table,
    trial_table,
)
from tune_accent.reporting.tables import Sheet


def paper_sheets(measured: Measured) -> dict[str, Sheet]:
    """The tables by name; those that there is nothing for are left out.

    Args:
        measured: `arms.measure` of the results.
    """
    results = measured.results
    every = (
        main_table(measured),
        representation_table(measured),
        seed_table(measured),
        leakage_table(measured),
        confusion_table(measured),
        difference_table(measured),
        wrong_table(measured),
        *control_tables(results),
        selection_table(results),
        space_table(results),
        state_table(results),
        trial_table(results),
        failure_table(results),
        compute_table(results),
        opening_table(results),
        reproduction_table(results),
    )
    return {sheet.name: sheet for sheet in every if sheet is not None and sheet.records}
