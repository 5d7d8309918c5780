"""Studies: many methods on many captures with many seeds, run at equal cost, summed up, and checked.

A plan (configs/study) names the cells, `recipe` says which `dkp` commands make one, `runner` runs them, and `report`
writes what they measured.
"""
