"""Write a page of all results in a folder and below it, to look at in a browser.

examples:
  {gallery}
  {gallery} outputs/videos

The page is <folder>/index.html: one file that works from the disk, without a network. It shows every video that has a
record beside it, plays several side by side in step, filters and sorts by the settings in which they differ, and says
what failed and why. Runs write it anew at their end, unless output.page=false.

exit codes: 0 done, 1 another index.html lies there, 2 wrong use, 3 the disk
"""

import argparse

from mimicmotion.cli import HelpFormatter, exit_code_of, setup_logging
from mimicmotion.config import OutputSettings


def build_parser(doc: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The command line."""
    summary, _, rest = doc.partition("\n")
    parser = argparse.ArgumentParser(
        prog=prog, description=summary, epilog=rest.strip(), formatter_class=HelpFormatter, allow_abbrev=False
    )
    folder = OutputSettings.output_dir
    parser.add_argument("folder", nargs="?", default=folder, metavar="DIR", help=f"of results (default: {folder})")
    return parser


def work(folder: str) -> int:
    """Writes the page and says where; the exit code."""
    from mimicmotion.gallery import write_page

    print(f"look at {write_page(folder)}")
    return 0


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    arguments = build_parser(doc, prog).parse_args(argv)
    setup_logging()
    return exit_code_of(lambda: work(arguments.folder))
