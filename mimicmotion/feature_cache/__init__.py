"""What is costly to find out about inputs, kept on disk for later runs, and what that saves.

store            the folder: keys, locks, entries, pruning, verifying; knows nothing of videos
size             how many bytes the folder holds, known without looking at every entry
safe_pt          one entry's file: pickle-free .pt, read with suspicion
cached_features  which features are kept under which key; stands in for animation's inputs
benchmark        cold and warm passes, timed
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cached_features": ["animate_folder_cached", "cached_animator"],
        "benchmark": ["benchmark_cache"],
        "safe_pt": ["load_pt", "save_pt"],
        "store": [
            "CacheCorrupt",
            "FeatureCache",
            "clear",
            "level_folders",
            "load_entry",
            "prune",
            "statistics_lines",
            "stored_files",
            "verify",
        ],
    },
)
