"""Many settings on the same clips: every combination in turns, and what became of them side by side.

cells     "seed=1,2" and the like -> every combination, with its settings and its results' places
names     what a combination is called
order     who comes when: variants take turns, networks are loaded once
run       a sweep from settings to files
plan      the dry run: UNet passes, and the time that they are likely to take
tables    a row per result: sweep.csv, sweep.json, the table at the end
measures  how near results are to the costliest one and to the truth
pictures  per clip: all results in one picture, and in one video
plot      quality over seconds
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"run": ["run_sweep"]})
