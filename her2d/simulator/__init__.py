"""A scanner that is not there: simulated slides, cohorts and a scanner's pace."""
