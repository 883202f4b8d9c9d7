"""Each benchmark runs at a tiny size and prints the keys it promises; its numbers mean nothing there."""

import json

import pytest

from benchmarks import prep


@pytest.fixture(scope="module")
def prep_numbers(tmp_path_factory):
    return prep.measure(tmp_path_factory.mktemp("prep"), seconds=3, height=96, width=160, repeats=1)


@pytest.mark.parametrize(
    "key", ["resized_over_decode", "seed_way_over_resized", "copy_over_decode", "index_over_decode", "psnr_db"]
)
def test_prep_measures(prep_numbers, key):
    assert prep_numbers[key] > 0


def test_prep_cuts_every_second_that_has_a_next_one(prep_numbers):
    assert prep_numbers["num_segments"] == 2
    assert prep_numbers["bytes_per_segment"] > 1000


def test_the_last_line_of_prep_is_one_json_object_also_in_the_file(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    assert prep.main(["--json", str(path), "--seconds", "2", "--height", "64", "--width", "96", "--repeats", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == json.loads(path.read_text())
