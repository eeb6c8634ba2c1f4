"""Sentences of word clips: the words' poses are joined, and each sentence is sampled as one clip.

examples:
  {sentences} --sentences sentences.csv --words words --ref_image_path person.png --trim   # needs minutes
  {sentences} --sentences sentences.csv --words words --missing skip --dry_run   # needs minutes

The table has the columns `sentence` and `words`: an id, and the ids of its words in order. The clip of a word is
<words>/<sentence>/<word>_*.mp4, the first by name, or <words>/<word>.mp4. Each sentence gives <output_dir>/<id>.mp4
with its record, subtitles (.srt, .vtt) and a picture of its joins. A second run skips what is finished.
doc/sentences.md tells more.
"""

from mimicmotion.cli import CLUSTER, DEVICE, MODEL, POSE, RUN, TURBO, Flag, run_script
from mimicmotion.config import Config

SENTENCES = (
    Flag("--sentences", "sentences.table", str, "CSV with the columns sentence and words"),
    Flag("--random", "sentences.random", "list", "K N: instead, N sentences of K words at random, by --seed"),
    Flag("--shard", "batch.shard", str, "make this part of the sentences: 1/N to N/N, or auto for SLURM, torchrun"),
    Flag("--words", "sentences.words", str, "folder of word clips"),
    Flag("--csv_encoding", "sentences.csv_encoding", str, "encoding of the CSV, such as gbk"),
    Flag("--output_dir", "sentences.output_dir", str, "folder for the sentences"),
    Flag("--missing", "sentences.missing", str, "words without a clip: leave them out, or fail their sentence"),
    Flag("--trim", "sentences.trim", True, "cut rest pose and stillness off both ends of each word"),
    Flag("--join", "sentences.join", str, "from word to word; latents, linear, slerp, bridge join clips of the words"),
    Flag("--compare", "sentences.compare", True, "make every sentence in all these ways, and measure its joins"),
    Flag("--truth", "sentences.truth", str, "with --compare: folder of true sentences, <sentence>.mp4 and .npz"),
    Flag("--bridge_strength", "latent_concat.bridge_strength", float, "share of the steps that sample a bridge, 0..1"),
    Flag("--transition_frames", "sentences.transition_frames", str, "frames between two words: auto or a number"),
    Flag("--speed_limit", "sentences.speed_limit", float, "of the hands between words, body heights per second"),
    *(
        flag
        for flag in RUN
        if flag.path.startswith(("test_case", "reference", "video."))
        or flag.path in ("output.variant", "output.overwrite", "output.dry_run")
    ),
)
GROUPS = {"sentences": SENTENCES, "model": MODEL, "device": DEVICE, "pose": POSE, "turbo": TURBO, "workers": CLUSTER}


def work(config: Config) -> int:
    """Makes the sentences; imported here so that --help does not wait for torch."""
    from mimicmotion.sentences import make_sentences

    return make_sentences(config)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, argv, prog=prog)
