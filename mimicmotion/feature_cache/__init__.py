"""What is costly to find out about inputs, kept on disk for later runs, and what that saves."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cached_features": ["animate_folder_cached"],
        "benchmark": ["benchmark_cache"],
        "safe_pt": ["load_pt", "save_pt"],
        "store": ["CacheCorrupt", "clear", "level_folders", "load_entry", "prune", "stored_files", "verify"],
    },
)
