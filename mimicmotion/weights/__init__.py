"""Weight files and what becomes of them: read and checked, assembled into a pipeline, changed by a LoRA.

lookup           which file of a folder has the weights; files that are no weights are told by their first bytes
hub              models of the hub: local copies first, mirrors, what is said when one is gated or out of reach
model_files      which files a configured model has, and the hashes that name it; loads nothing
manifest         the hashes that are known of weight files, noted or remembered
scales           weights in 8-bit floats: names and use of their scales
tensors          one weight file: recognised, read tensor by tensor, assigned with every key checked
loading          files -> pipeline on a device; splits a checkpoint by its keys' prefixes
lora             LCM weights in three forms, applied to a UNet; prefixes of LoRA keys
lora_extraction  a LoRA made of the difference of two networks
embedded         the embedded model: where and what it is
random_model     a model of the published sizes with drawn weights, for timing
"""

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
        "random_model": ["build_random_model", "published_unet"],
        "tensors": ["Tensors", "assign_weights", "open_tensors", "quiet_transformers"],
        "loading": ["SVD_VAES", "create_pipeline", "empty_unet", "load_decoder", "load_vae", "place_pipeline"],
        "lora": ["ADAPTER", "apply_lcm_weights", "check_lcm_weights", "find_svd_unet"],
        "lora_extraction": ["extract_lora"],
        "manifest": ["note_weights", "verify_small", "weights_sha256"],
        "model_files": ["pose_canvas", "read_json", "vae_sha256", "weights_fingerprint"],
        "hub": ["explain_hub_error", "from_hub", "hub_errors", "is_hub_id", "local_copy", "mirror", "without_network"],
        "lookup": ["FETCH", "LORA_FILE", "check_head", "find_lcm_file", "find_weights", "listing", "strip_prefix"],
    },
)
