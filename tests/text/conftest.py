"""A model folder for the tests of texts."""

import pytest
from helpers.token_files import SOURCE
from sae_stitching.text.sources import make_random_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "random"
    make_random_model(SOURCE, folder)
    return str(folder)
