"""Compare the files of a finished run with the digests that its result records."""

from olmo_core.files import sha256_file
from olmo_core.run.folder import RunFolder


def changed_files(folder: RunFolder) -> list[str]:
    """Return what is wrong with a run's files, one line per file; every byte is read."""
    expected = folder.read_result()["files"]
    found = {str(path) for path in folder.outputs()}
    wrong = [f"{folder.path / name}: gone" for name in expected.keys() - found]
    wrong += [f"{folder.path / name}: not of this result" for name in found - expected.keys()]
    for name in sorted(expected.keys() & found):
        digest = sha256_file(folder.path / name)
        if digest != expected[name]["sha256"]:
            wrong.append(
                f"{folder.path / name}: sha256 {digest[:12]}…, but "
                f"{expected[name]['sha256'][:12]}… was written"
            )
    return sorted(wrong)
