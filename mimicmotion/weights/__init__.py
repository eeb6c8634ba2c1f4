"""Weight files and what becomes of them: read and checked, assembled into a pipeline, changed by a LoRA."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "files": [
            "FETCH",
            "Tensors",
            "assign_weights",
            "cached_sha256",
            "check_head",
            "explain_hub_error",
            "find_weights",
            "from_hub",
            "hub_errors",
            "is_hub_id",
            "listing",
            "local_copy",
            "open_tensors",
            "quiet_transformers",
            "strip_prefix",
        ],
        "embedded": [
            "TINY_MARKER",
            "TINY_SCHEDULER",
            "TINY_UNET",
            "TINY_VERSION",
            "build_tiny_model",
            "is_default_path",
            "require_embedded_model",
        ],
        "loading": [
            "SVD_VAES",
            "create_pipeline",
            "load_decoder",
            "load_vae",
            "place_pipeline",
            "pose_canvas",
            "read_json",
            "vae_sha256",
            "weights_fingerprint",
        ],
        "lora": ["ADAPTER", "LORA_FILE", "apply_lcm_weights", "find_lcm_file", "find_svd_unet"],
        "lora_extraction": ["extract_lora"],
    },
)
