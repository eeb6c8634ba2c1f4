"""Looks after a feature cache: what it holds, whether it is sound, and making it smaller.

python scripts/feature_cache.py list
python scripts/feature_cache.py verify                # read every entry; damaged ones are set aside (.corrupt)
python scripts/feature_cache.py prune --max_gb 5      # remove the least recently used above 5 GB
python scripts/feature_cache.py clear --level driving_pose

prune, verify and clear only say what they would do with --dry_run. Entries in use stay, and so do files that the
cache did not make. Exit codes: 0 done, 1 damaged entries were found, 2 wrong use, 3 disk.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import guarded_console
from mimicmotion.config import FeatureCacheSettings
from mimicmotion.errors import MimicMotionError, SetupError, UsageError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("list", "verify", "prune", "clear"))
    folder = FeatureCacheSettings.folder
    parser.add_argument("--feature_cache_dir", default=folder, metavar="DIR", help=f"the cache (default: {folder})")
    parser.add_argument("--level", action="append", dest="levels", help="this level only; may be repeated")
    parser.add_argument("--max_gb", type=float, help=f"for prune (default: {FeatureCacheSettings.max_gb:g})")
    parser.add_argument("--dry_run", action="store_true", help="change nothing")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> int:
    """Carries out the command; the exit code."""
    from mimicmotion.feature_cache import clear, level_folders, prune, stored_files

    folder, levels = Path(arguments.feature_cache_dir), arguments.levels
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}; pass --feature_cache_dir")
    there = [path.name for path in level_folders(folder)]
    unknown = sorted(set(levels or ()) - set(there))
    if unknown:
        raise UsageError(f"no level {', '.join(unknown)} in {folder}; there are: {', '.join(there) or 'none'}")
    if arguments.command == "list":
        list_files(stored_files(folder, levels))
        return 0
    if arguments.command == "verify":
        return verify_files(folder, levels, arguments.dry_run)
    if arguments.command == "clear":
        removed = clear(folder, levels, dry_run=arguments.dry_run)
    else:
        removed = prune_files(prune, folder, arguments)
    for file in removed:
        print(f"{file.size:14,d}  {file.level}/{file.path.name}")
    verb = "would be removed" if arguments.dry_run else "removed"
    print(f"{sum(file.size for file in removed):14,d}  bytes in {len(removed)} files {verb}")
    return 0


def prune_files(prune, folder: Path, arguments: argparse.Namespace) -> list:
    """What was removed. Raises: UsageError for a limit that cannot be meant."""
    if arguments.levels:
        raise UsageError("prune looks at the whole cache; --level does not go with it")
    limit = FeatureCacheSettings.max_gb if arguments.max_gb is None else arguments.max_gb
    if not limit >= 0:
        raise UsageError(f"--max_gb is {limit}; it must be 0 or more")
    return prune(folder, limit, dry_run=arguments.dry_run)


def list_files(files: list) -> None:
    """Prints size, last use, level and source of every file, the most recently used first, and sums."""
    print(f"{'bytes':>14}  {'last used':19}  {'level':16}  source")
    for file in reversed(files):
        used = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(file.last_used))
        print(f"{file.size:14,d}  {used}  {file.level:16}  {describe(file)}")
    for level in sorted({file.level for file in files}):
        sizes = [file.size for file in files if file.level == level]
        print(f"{sum(sizes):14,d}  bytes in {len(sizes)} files of {level}")
    print(f"{sum(file.size for file in files):14,d}  bytes in {len(files)} files")


def describe(file) -> str:
    """Where an entry came from, or what is wrong with it."""
    from mimicmotion.feature_cache import CacheCorrupt, load_entry

    if file.set_aside:
        return "(set aside)"
    try:
        entry, _ = load_entry(file.path)
    except FileNotFoundError:
        return "(removed meanwhile)"
    except OSError as error:
        return f"(cannot be opened: {error.strerror})"
    except CacheCorrupt as error:
        return f"(damaged: {error})"
    return repr(entry["source"].get("path", "-"))


def verify_files(folder: Path, levels: list[str] | None, dry_run: bool) -> int:
    """Prints what is wrong with damaged entries; 1 if there are any."""
    from mimicmotion.feature_cache import verify

    checked = damaged = 0
    for file, problem in verify(folder, levels, dry_run=dry_run):
        checked += 1
        if problem:
            damaged += 1
            print(f"damaged: {file.path}: {problem}")
    print(f"{checked} entries read, {damaged} damaged{' and set aside' if damaged and not dry_run else ''}")
    return 1 if damaged else 0


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    try:
        return run(parse(argv))
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return SetupError.exit_code


if __name__ == "__main__":
    sys.exit(main())
