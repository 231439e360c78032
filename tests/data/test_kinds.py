"""Images of several kinds and masks are not taken as scans of one kind."""

import numpy as np
import pytest
from PIL import Image as Picture

from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.kinds import is_label_map
from ganatomy.errors import Notice, UserError
from ganatomy.images.files import write
from ganatomy.images.image import Header, Image
from ganatomy.inference.model import build

SEQUENCES = ("t1", "t1c", "flair")


@pytest.fixture(scope="module")
def task():
    return build("caae", {}).task


def scan(path, seed=0):
    values = np.random.default_rng(seed).uniform(0, 900, (3, 12, 16)).astype(np.float32)
    write(path, Image.from_array(values, (3.0, 1.0, 0.5)))


def mask(path, top=2):
    values = np.zeros((3, 12, 16), np.uint8)
    values[1, 3:5, 4:9] = top
    write(path, Image.from_array(values, (3.0, 1.0, 0.5)))


@pytest.fixture
def sequences(tmp_path):
    for number in range(3):
        for name in SEQUENCES:
            scan(tmp_path / f"patient{number}" / f"patient{number}_{name}.nii.gz")
        mask(tmp_path / f"patient{number}" / f"patient{number}_findings.nii.gz")
    return tmp_path


def files(cases):
    return [source.paths[0].name for case in cases for source in case.sources.values()]


def test_sequences_are_no_images_of_one_kind(sequences, task):
    with (
        pytest.warns(Notice, match=r"masks are left out: patient0_findings.*\(3, by values\)"),
        pytest.raises(
            UserError, match=r"flair \(3\), t1 \(3\), t1c \(3\); choose, such as --roles image='\*_flair\.\*'"
        ),
    ):
        find_cases(task, DataConfig(data=sequences))
    chosen = find_cases(task, DataConfig(data=sequences, roles=("image=*_t1.*",)))
    assert files(chosen) == [f"patient{number}_t1.nii.gz" for number in range(3)]
    assert len(find_cases(task, DataConfig(data=sequences, roles=("image=*",)))) == 12


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_what_is_suggested_for_several_roles_works(sequences):
    system = build("pix2pix", {"source": "t1c", "target": "flair", "size": (32, 32), "levels": 3}).task
    with pytest.raises(UserError) as told:
        find_cases(system, DataConfig(data=sequences))
    words = str(told.value).partition("--roles ")[2].replace("'", "").split()
    found = find_cases(system, DataConfig(data=sequences, roles=tuple(words)))
    assert files(found)[:2] == ["patient0_t1c.nii.gz", "patient0_flair.nii.gz"] and len(found) == 3


def test_folders_of_sequences_and_names_that_folders_share_are_kinds(tmp_path, task):
    for number in range(2):
        for name in ("T1", "T2"):
            scan(tmp_path / "one" / name / f"{number}.nii.gz")
        for name in ("phase", "magnitude"):
            scan(tmp_path / "two" / f"p{number}" / f"{name}.nii.gz")
        for name in ("left", "right", "1", "2"):
            scan(tmp_path / "three" / f"p{number}" / f"{name}.nii.gz")
    with pytest.raises(UserError, match=r"several kinds by their names: t1 \(2\), t2 \(2\).*image='\*t1\*/\*'"):
        find_cases(task, DataConfig(data=tmp_path / "one"))
    with pytest.raises(UserError, match=r"several kinds by their names: magnitude \(2\), phase \(2\)"):
        find_cases(task, DataConfig(data=tmp_path / "two"))
    assert len(find_cases(task, DataConfig(data=tmp_path / "three"))) == 8


def test_series_of_a_study_are_of_several_kinds(tmp_path, task):
    import pydicom

    for number, name in enumerate(("AX T1", "AX T2 FLAIR", "AX T1 POST")):
        values = np.random.default_rng(number).integers(1, 900, (3, 5, 7)).astype(np.int16)
        write(tmp_path / name, Image.from_array(values, (3.0, 1.0, 2.0), "a.u.", Header(modality="MR", subject="anna")))
        for path in (tmp_path / name).iterdir():
            file = pydicom.dcmread(path)
            file.SeriesDescription = name
            file.save_as(path)
    with pytest.raises(UserError, match=r"t1 \(2\), flair \(1\); choose, such as --series image='\*t1\*'"):
        find_cases(task, DataConfig(data=tmp_path))


@pytest.mark.parametrize("place", ["{}_mask.png", "{}-seg.png", "masks/{}.png", "{}.label.png"])
def test_masks_by_name_are_left_out_and_named(tmp_path, task, place):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (9, 11), np.uint8)
        for name in (f"{number}.png", place.format(number)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Picture.fromarray(pixels).save(tmp_path / name)
    with pytest.warns(Notice, match=r"masks are left out: [^(]*\(3, by name\); --roles image='\*' uses all as image"):
        assert files(find_cases(task, DataConfig(data=tmp_path))) == ["0.png", "1.png", "2.png"]


def test_a_folder_of_masks_alone_is_refused_and_a_manifest_decides(tmp_path, task):
    for number in range(2):
        mask(tmp_path / f"{number}.nii.gz")
    with pytest.raises(UserError, match=r"all images are masks or label maps: .*--roles image='\*' uses them as image"):
        find_cases(task, DataConfig(data=tmp_path))
    (tmp_path / "index.csv").write_text("subject,image\na,0.nii.gz\nb,1.nii.gz\n")
    assert len(find_cases(task, DataConfig(data=tmp_path))) == 2


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_a_manifest_of_files_of_several_kinds_says_not_what_they_are(sequences, task):
    rows = [f"{path.parent.name},{path.relative_to(sequences)}" for path in sorted(sequences.rglob("*.gz"))]
    (sequences / "index.csv").write_text("patient,file\n" + "\n".join(rows))
    with pytest.raises(UserError, match=r"index\.csv: its images are of several kinds"):
        find_cases(task, DataConfig(data=sequences))
    rows = [row for row in rows if "_t1." in row or "findings" in row]
    (sequences / "index.csv").write_text("patient,file\n" + "\n".join(rows))
    assert files(find_cases(task, DataConfig(data=sequences))) == [f"patient{number}_t1.nii.gz" for number in range(3)]


def test_an_index_without_a_column_of_files_is_an_error(sequences, task):
    (sequences / "index.csv").write_text("name,subject,eye\nx,1,L\n")
    with pytest.raises(
        UserError, match=r"index\.csv: .* needs the columns subject and image .* are name, subject, eye"
    ):
        find_cases(task, DataConfig(data=sequences))
    assert len(find_cases(task, DataConfig(data=sequences, roles=("image=*_t1.*",)))) == 3


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([0, 1, 2], None, True),
        ([0, 255], None, True),
        ([0.0, 3.0], None, True),
        ([0, 0], None, False),
        ([1, 2], None, False),
        ([0, 0.5], None, False),
        ([0, 1], "HU", False),
        (list(range(20)), None, False),
        ([0, np.nan], None, False),
    ],
)
def test_label_maps_hold_few_integers_from_zero(values, unit, expected):
    array = np.resize(np.array(values), (3, 8, 10)).repeat(2, 1).repeat(2, 2)
    assert is_label_map(Image.from_array(array, unit=unit)) is expected


def test_a_mask_is_known_by_slices_other_than_the_middle_one():
    array = np.zeros((5, 8, 10), np.uint8)
    assert not is_label_map(Image.from_array(array))
    array[4, 2:4, 2:4] = 1
    assert is_label_map(Image.from_array(array))


def found(task, folder, pattern):
    return find_cases(task, DataConfig(data=folder, roles=(f"image={pattern}",)))


def test_a_pattern_that_names_one_contrast_and_fits_another_is_refused_with_one_that_does(task, sequences):
    with pytest.raises(UserError) as error:
        found(task, sequences, "*_t1*")
    told = str(error.value)
    assert "patient0_t1.nii.gz and patient0_t1c.nii.gz of patient0" in told and "\n" not in told
    assert "such as --roles image='*_t1.*'" in told
    assert len(found(task, sequences, "*_t1.*")) == 3


def test_a_pattern_that_names_no_contrast_is_told_what_it_takes(task, sequences):
    with pytest.warns(Notice, match=r"fits patient0_\w+.nii.gz and patient0_\w+.nii.gz of patient0, .* both taken"):
        assert len(found(task, sequences, "patient*_*.nii.gz")) == 12


@pytest.mark.filterwarnings("error")
def test_a_pattern_of_wildcards_alone_takes_images_of_all_kinds(task, sequences):
    assert len(found(task, sequences, "*")) == 12


def test_other_words_are_kinds_where_several_subjects_have_them(task, tmp_path):
    for number in range(3):
        for name in ("liver", "kidney"):
            scan(tmp_path / f"patient{number}" / f"patient{number}_{name}.nii.gz")
    with pytest.warns(Notice, match=r"patient0_kidney.nii.gz and patient0_liver.nii.gz of patient0, which are both"):
        assert len(found(task, tmp_path, "patient*.nii.gz")) == 6


@pytest.mark.parametrize(
    "names",
    [
        ("scan_left", "scan_right"),
        ("slice_01", "slice_02"),
        ("visit1_t1", "visit2_t1"),
        ("baseline_t1", "followup_t1"),
        ("ses-1_t1w", "ses-2_t1w"),
        ("img_1", "img_2"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_sides_sessions_and_slices_are_of_one_kind(task, tmp_path, names):
    for number in range(3):
        for name in names:
            scan(tmp_path / f"patient{number}" / f"patient{number}_{name}.nii.gz", number)
    assert len(found(task, tmp_path, "patient*.nii.gz")) == 6
