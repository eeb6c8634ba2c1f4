"""Word clips -> one sentence per row of a table, its words' poses joined and sampled as one clip.

run           sentences from settings to files, one bad among good ones, the table, the dry run
maker         one sentence: what it depends on, is it finished; has it made
plan          what a sentence is made of, and the files that it becomes
perform       a planned sentence -> its files, or those that are missing
table         the CSV of sentences: ids and words, each row judged by itself
random_words  such a table of words taken at random
clips         the clip of a word in a folder
words         a clip -> poses of a word, fitted to the reference
trim          rest pose and stillness at both ends of a word
timeline      words one after the other: poses, where each word is, what lies between two
join          the way between two words: how long, and where body, hands and face are
ways          the latents of a sentence: sampled as one clip, or word by word and joined
kept_parts    what was sampled, on disk until the sentence is whole
comparer      all ways to join a sentence: are they compared; the tables of it
judging       the ways judged join by join, in a picture and a video
subtitles     words at their times, .srt and .vtt
writing       latents -> mp4, and a picture of the joins
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"join": ["Pace", "transition"], "run": ["make_sentences"]}
)
