"""The settings of every script: defaults, a YAML file, flags and `path=value` pairs become one checked object.

A mistyped key, a wrong type or an impossible value is a UsageError that names the key. Nothing here imports torch.

settings   every setting with its default, choices and range; a new one is a field here
layers     defaults, file, flags, pairs, one over the other; where each value came from
yaml_file  a file of settings as plain values
shapes     unknown keys, and lists where a single value belongs
checks     choices, ranges, what excludes each other
paths      settings by path, "turbo.scheduler"
messages   shortened values and the nearest known name, for messages
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checks": [
            "aspect_ratio",
            "check_config",
            "parse_color",
            "random_sentences",
            "shard_numbers",
            "transition_length",
            "vram_limit",
        ],
        "layers": [
            "DEFAULT_CONFIG",
            "Origin",
            "default_config",
            "different_settings",
            "first_name",
            "load_config",
            "to_yaml",
            "trace_config",
        ],
        "messages": ["nearest", "shortened"],
        "paths": ["describe_setting", "lookup", "split_path", "walk"],
        "settings": [
            "ASPECT_RATIO",
            "ClusterSettings",
            "Config",
            "EvaluationSettings",
            "FeatureCacheSettings",
            "JOINS",
            "LARGEST_SEED",
            "LARGEST_STRENGTH",
            "LatentConcatSettings",
            "MOST_LATENTS",
            "MOST_TRANSITION",
            "OutputSettings",
            "POSE_PARTS",
            "PRECISIONS",
            "ReferenceSettings",
            "SIZE_MULTIPLE",
            "SamplingSettings",
            "SentenceSettings",
            "SpeedSettings",
            "StreamingSettings",
            "SweepSettings",
            "TestCase",
            "TurboSettings",
            "VideoSettings",
            "WIDEST",
        ],
        "yaml_file": ["read_yaml"],
    },
)
