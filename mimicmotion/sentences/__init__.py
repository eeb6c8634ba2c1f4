"""Word clips -> one sentence per row of a table, its words' poses joined and sampled as one clip.

run        sentences from settings to files, one bad among good ones, the table, the dry run
maker      one sentence: what it depends on, is it finished, its files
table      the CSV of sentences: ids and words, each row judged by itself
clips      the clip of a word in a folder
words      a clip -> poses of a word, fitted to the reference
trim       rest pose and stillness at both ends of a word
join       the way between two words: how long, and where body, hands and face are
subtitles  words at their times, .srt and .vtt
writing    latents -> mp4, and a picture of the joins
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"run": ["make_sentences"]})
