"""Training runs, as the tests of `olmo_core/train` make them."""

from tests.olmo_core.train.conftest import config_file, forks, start, start_in, token_files, train

__all__ = ["config_file", "forks", "start", "start_in", "token_files", "train"]
