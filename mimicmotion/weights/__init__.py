"""Weight files and what becomes of them: read and checked, assembled into a pipeline, changed by a LoRA.

lookup           which file of a folder has the weights; files that are no weights are told by their first bytes
hub              models of the hub: local copies first, mirrors, what is said when one is gated or out of reach
model_files      which files a configured model has, and the hashes that name it; loads nothing
manifest         the hashes that are known of weight files, noted or remembered
layouts          what training and other tools put around the names of a network's tensors
original_svd     Stable Video Diffusion in the one file of its first publication: its names for diffusers' networks
decoder_files    which file a small decoder is, and the hash that names it; loads nothing
tiny_decoders    small decoders: recognised, refused where they do not fit, loaded
scales           weights in 8-bit floats: names and use of their scales
tensors          one weight file: recognised, read tensor by tensor, assigned with every key checked
loading          files -> pipeline on a device; splits a checkpoint by its keys' prefixes
lora             LCM weights in three forms, applied to a UNet
lora_names       which tensor of which layer a LoRA's key names, whatever tool wrote it
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
            "read_marker",
            "require_embedded_model",
        ],
        "decoder_files": ["FULL", "SVD_DECODERS", "TINY", "WAN_DECODERS", "decoder_sha256", "find_decoder"],
        "tiny_decoders": ["is_small_decoder", "load_tiny_decoder", "require_decoder_fits", "require_fitting_decoder"],
        "random_model": ["build_random_model", "published_unet"],
        "tensors": ["Tensors", "assign_weights", "open_tensors", "quiet_transformers"],
        "loading": [
            "SVD_VAES",
            "check_placement",
            "create_pipeline",
            "empty_unet",
            "load_clip_encoder",
            "load_decoder",
            "load_vae",
            "place_pipeline",
        ],
        "lora": ["ADAPTER", "apply_lcm_weights", "check_lcm_weights"],
        "lora_extraction": ["extract_lora"],
        "manifest": ["hash_ahead", "is_known", "note_weights", "verify_small", "weights_sha256"],
        "model_files": [
            "config_file",
            "image_encoder_sha256",
            "network_files",
            "pose_canvas",
            "read_json",
            "resolve_base",
            "vae_files",
            "vae_sha256",
            "weights_fingerprint",
        ],
        "hub": ["explain_hub_error", "from_hub", "hub_errors", "is_hub_id", "local_copy", "mirror", "without_network"],
        "lookup": [
            "FETCH",
            "LORA_FILE",
            "check_head",
            "find_lcm_file",
            "find_svd_unet",
            "find_weights",
            "is_complete_unet",
            "listing",
            "strip_prefix",
        ],
    },
)
