"""One result and many results: a reference picture performs driving videos.

animator   one result, from these parts: models, inputs -> clip -> sampler -> writer, record
batch      many results: what is finished, one bad video among good ones, the exit code
outcomes   how they end, one by one or counted, and the table
planning   what a run would make before its first job, and what it asks of a card; the dry run
workers    jobs on Ray workers: what each makes them with, and what all must agree in
models     networks and detector that the results of a run share, opened when first needed
opened     what is open, for runs of different settings to share; how many networks stay loaded
inputs     what is found out about a picture or a video, one method each; a cache may stand in
clip       a job made ready: frames chosen, poses followed and fitted, pixels cropped
memory     the plan for the card: what the jobs take of it, and how they take less
ahead      what the next results need, clips or latents too, made ready by a thread meanwhile
sampler    the call of the pipeline: clip -> latents
kept_latents  sampled latents on disk until their result is whole
writer     latents -> frames -> mp4 with sound, comparison; which rows the contact sheet has
seals      what a finished result is known by without reading it
record     what a result depends on, whether it is finished, what its sidecar says
recording  the latents of every step, written down beside a run
preview    a picture of a clip while it is sampled, a row for each step
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "animator": ["Animator", "Outcome"],
        "batch": ["animate_folder", "run_all"],
        "outcomes": ["NOT_A_VIDEO", "outcome_facts", "summary_table", "text_table"],
        "planning": ["count_passes", "look_through", "planned", "uses_workers", "video_bytes"],
        "clip": ["Clip"],
        "inputs": ["InputFeatures"],
        "kept_latents": ["OF_DECODING", "forget_latents", "keep_tensors", "kept_tensors", "sampling_sha256"],
        "memory": ["plan_frames"],
        "models": ["Models"],
        "opened": ["Opened"],
        "record": ["input_paths", "recipe_of", "write_record"],
        "recording": ["check_recording"],
        "seals": ["Seals"],
        "workers": [
            "AnimatorWork",
            "fingerprint",
            "poses_ahead",
            "run_all_on_workers",
            "same_program",
            "still_to_do",
        ],
        "writer": ["decode_frames"],
    },
)
