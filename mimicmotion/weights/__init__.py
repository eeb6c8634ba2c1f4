"""Weight files and what becomes of them: read and checked, assembled into a pipeline, changed by a LoRA."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "embedded": [
            "TINY_MARKER",
            "TINY_SCHEDULER",
            "TINY_UNET",
            "TINY_VERSION",
            "build_tiny_model",
            "is_default_path",
            "require_embedded_model",
        ],
        "files": ["Tensors", "assign_weights", "open_tensors", "quiet_transformers"],
        "loading": ["SVD_VAES", "create_pipeline", "load_decoder", "load_vae", "place_pipeline"],
        "lora": ["ADAPTER", "apply_lcm_weights", "find_svd_unet"],
        "lora_extraction": ["extract_lora"],
        "model_files": ["pose_canvas", "read_json", "vae_sha256", "weights_fingerprint"],
        "places": [
            "FETCH",
            "LORA_FILE",
            "check_head",
            "explain_hub_error",
            "find_lcm_file",
            "find_weights",
            "from_hub",
            "hub_errors",
            "is_hub_id",
            "listing",
            "local_copy",
            "strip_prefix",
        ],
    },
)
