"""MetaSchedule's general search, for operators that no kernel template computes.

Candidates are built in forked workers and measured on the target's farm of devices; what was measured is kept in
MetaSchedule's own JSON database, one a target. `apply.apply` compiles a subnet's operators from it, and falls back
on a default schedule, so that none ever runs as plain loops.
"""
