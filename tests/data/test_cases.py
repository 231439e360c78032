from typing import ClassVar

import numpy as np
import pydicom
import pytest

from ganatomy import catalogue
from ganatomy.case import Task
from ganatomy.data.cases import DataConfig, discover, find_cases, names_of_images
from ganatomy.data.store import Store
from ganatomy.errors import Notice, UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import write
from ganatomy.images.image import Header, Image
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising
from ganatomy.tasks.geometry.roles import CentrelineRole

TASK = CTDenoising(LowDoseScan(views=20), Window(low=-1000, high=1000), "rmse", 2)


@pytest.fixture
def folder(tmp_path):
    """Folder with four CT images of three subjects, whose folders carry their names."""
    values = np.random.default_rng(0).normal(-100, 200, (2, 12, 12)).astype(np.float32)
    for name in ("ann/one", "ann/two", "bob/one", "cid/one"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "data" / f"{name}.nii.gz", Image.from_array(values, unit="HU"))
    return tmp_path / "data"


class Poles(Task):
    """Task of vessels without an image."""

    name, given, phantom, phantom_subjects = "poles", "vessel", "coronary-centrelines", 4
    roles: ClassVar = {"vessel": CentrelineRole("vessel")}

    def phantom_grid(self, size):
        return {}

    def phantom_parts(self, label):
        return {"vessel": "vessel"}

    directions: ClassVar = {}
    selection = ""

    def scores(self, output, sample, spacing): ...


def manifest(folder, text):
    path = folder / "list.csv"
    path.write_text(text)
    return DataConfig(data=path)


@pytest.mark.parametrize("given", [{"roles": ("target=*.png",)}, {"series": ("target=CT",)}])
def test_patterns_without_a_folder_are_refused_and_not_replaced_by_a_phantom(given):
    with pytest.raises(UserError, match=r"^--roles and --series .* --data"):
        find_cases(TASK, DataConfig(**given))


def test_a_folder_is_split_by_the_folders_in_it(folder):
    found = discover(TASK, DataConfig(data=folder, test_subjects=("ann",)))
    assert [(c.subject, c.split) for c in found] == [("ann", "test")] * 2 + [("bob", "train"), ("cid", "train")]
    assert all(set(c.sources) == {"target"} for c in found) and len({c.name for c in found}) == 4


def test_a_manifest_says_who_is_who(folder):
    config = manifest(
        folder,
        "subject,split,target,input,note\nA,train,ann/one.nii.gz,ann/two.nii.gz,x\nB,val,bob/one.nii.gz,,\n"
        "C,test,cid/one.nii.gz,,\n",
    )
    found = discover(TASK, config)
    assert [(c.subject, c.split, sorted(c.sources)) for c in found] == [
        ("A", "train", ["input", "target"]),
        ("B", "val", ["target"]),
        ("C", "test", ["target"]),
    ]
    assert found[0].sources["input"].open().shape == (2, 12, 12)


def test_a_manifest_in_the_folder_is_used(folder):
    manifest(folder, "patient_id,image\nA,ann/one.nii.gz\nB,bob/one.nii.gz\n").data.rename(folder / "manifest.csv")
    assert {c.subject for c in discover(TASK, DataConfig(data=folder))} == {"A", "B"}


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_first_column(folder):
    (folder / "list.csv").write_bytes("subject,target\nA,ann/one.nii.gz\n".encode("utf-8-sig"))
    assert discover(TASK, DataConfig(data=folder / "list.csv"))[0].subject == "A"


def test_blanks_and_semicolons_of_spreadsheets_change_nothing(folder):
    rows = ["image; subject ;split", "ann/one.nii.gz ;p0;train", "bob/one.nii.gz;p0 ;train", "cid/one.nii.gz;p1;test"]
    found = find_cases(TASK, manifest(folder, "\n".join(rows)))
    assert [(case.subject, case.split) for case in found] == [("p0", "train"), ("p0", "train"), ("p1", "test")]


def test_tabs_capitals_and_blanks_of_headers_change_nothing(folder):
    text = "Patient ID\tTarget\tSplit\tPixel-mm\nA\tann/one.nii.gz\tTrain\t\nB\tbob/one.nii.gz\tTEST\t"
    (found, other) = find_cases(TASK, manifest(folder, text))
    assert [(case.subject, case.split) for case in (found, other)] == [("A", "train"), ("B", "test")]
    with pytest.raises(UserError, match="several columns are called 'target'"):
        find_cases(TASK, manifest(folder, "subject,target,TARGET\nA,ann/one.nii.gz,ann/two.nii.gz"))


def test_columns_of_images_are_told_from_those_of_label_maps_and_words(folder):
    labels = np.zeros((1, 2, 12, 12), np.float32)
    labels[0, 1, 4:8, 3:9] = 2
    write(folder / "seg.nii.gz", Image(labels, np.eye(4)))
    (folder / "p0").mkdir()
    rows = ["subject,t1,second,split,site,age,flair", "p0,ann/one.nii.gz,seg.nii.gz,train,p0,61,bob/one.nii.gz"]
    assert names_of_images(manifest(folder, "\n".join(rows))) == ["t1", "flair"]
    patterns = DataConfig(data=folder, roles=("t2=*_t2*", "seg=*_seg*"))
    assert names_of_images(patterns) == ["t2", "seg"] and names_of_images(DataConfig()) == []


def test_sites_are_those_of_the_first_column_that_names_them(folder):
    config = manifest(
        folder,
        "subject,target,Scanner,site\na,ann/one.nii.gz,Mira,Nord \na,ann/two.nii.gz,Mira,Süd\nb,bob/one.nii.gz,,n/a\n",
    )
    assert [case.site for case in find_cases(TASK, config)] == ["Nord", "Süd", None]
    assert names_of_images(config) == ["target"]
    alone = manifest(folder, "subject,target,Scanner\na,ann/one.nii.gz,Mira\nb,bob/one.nii.gz,\n")
    assert [case.site for case in find_cases(TASK, alone)] == ["Mira", None]


def test_a_column_of_paths_names_no_sites(folder):
    (folder / "Nord.csv").write_text("x,y,z,r\n0,0,0,1\n0.5,0,0,1\n")

    class Scanned(Poles):
        given = "site"
        roles: ClassVar = {"site": CentrelineRole("site")}

    (case,) = find_cases(Scanned(), manifest(folder, "subject,site\na,Nord.csv\n"))
    assert case.site is None and list(case.sources) == ["site"]


def test_rows_about_one_image_keep_apart(folder):
    config = manifest(
        folder, "subject,target,input\nA,ann/one.nii.gz,ann/two.nii.gz\n\n,,\nA,ann/one.nii.gz,bob/one.nii.gz\n"
    )
    assert len({c.name for c in discover(TASK, config)}) == 2


def test_a_row_may_say_what_its_numbers_mean(folder):
    write(folder / "p.npy", Image.from_array(np.arange(144, dtype=np.int16).reshape(12, 12)))
    config = manifest(folder, "subject,target,slope,intercept,pixel_mm\nA,p.npy,2,-1024,0.5\n")
    image = discover(TASK, config)[0].sources["target"].open()
    assert (image.unit, image.spacing[1], int(image.numpy().max())) == ("HU", 0.5, 2 * 143 - 1024)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mgz"])
@pytest.mark.parametrize("as_option", [False, True])
def test_ct_of_an_organ_without_air_is_used_where_the_user_states_hu(folder, suffix, as_option):
    values = np.random.default_rng(0).normal(60, 20, (2, 12, 12)).astype(np.float32)
    values[:, 0] = np.nan
    write(folder / f"liver{suffix}", Image.from_array(values))
    column, cell = ("", "") if as_option else (",unit", ",HU")
    config = manifest(folder, f"subject,target{column}\nA,liver{suffix}{cell}\n")
    stated = config.model_copy(update={"nan": -1000.0} | ({"unit": "HU"} if as_option else {}))
    image = discover(TASK, stated)[0].sources["target"].open()
    TASK.roles["target"].check(image)
    assert image.unit == "HU" and (image.numpy()[0, :, 0] == -1000).all()
    with pytest.raises(UserError, match="NaN with --nan"):
        TASK.roles["target"].check(discover(TASK, config)[0].sources["target"].open())
    unknown = config.model_copy(update={"nan": 0.0})
    if as_option:
        with pytest.raises(UserError, match="names no unit"):
            TASK.roles["target"].check(discover(TASK, unknown)[0].sources["target"].open())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "needs the columns subject and target"),
        ("target\nann/one.nii.gz\n", "needs the columns subject and target"),
        ("subject,input\nA,ann/one.nii.gz\n", "needs the columns subject and target"),
        ("subject,target\n", "the manifest has no rows"),
        ("subject,target\nA,ann/none.nii.gz\n", r"line 2: .*none\.nii\.gz does not exist; paths are relative"),
        ("subject,target\nA,\n", "line 2: no target image"),
        ("subject,target\nA\n", "line 2: no target image"),
        ("subject,target\n,ann/one.nii.gz\n", "line 2: no subject"),
        ("subject,target\nA,ann\n", "line 2: .*ann holds 2 images; name one"),
        ("subject,target,split\nA,ann/one.nii.gz,dev\n", "line 2: split 'dev'; use train, val or test"),
        ("subject,target,slope\nA,ann/one.nii.gz,two\n", "line 2: slope 'two' is not a number"),
        ("subject,target,slope\nA,ann/one.nii.gz,nan\n", "line 2: slope 'nan' is not a number"),
        ("subject,target,slope\nA,ann/one.nii.gz,0\n", "slope of a raster image must not be 0"),
        ("subject,target,target\nA,ann/one.nii.gz,ann/two.nii.gz\n", "several columns are called 'target'; rename"),
        ("subject,target\nA,ann/one.nii.gz,more\n", "line 2: more cells than columns; put cells with a separator in"),
        ("subject,target\nA,\0ann/one.nii.gz\n", r"line 2: target .* holds the character '\\x00'; type it again"),
        ("subject,target\nA\u200b,ann/one.nii.gz\n", r"line 2: subject 'A\\u200b' holds the character '\\u200b'"),
        ("subject,target,label\nA,ann/one.nii.gz,si\tck\n", r"line 2: label 'si\\tck' holds the character '\\t'"),
        ("subject,target\nA,.\n", r"line 2: .* holds 4 images; name one"),
        ("subject,target\nA,/\n", "line 2: / is a folder that holds the folder of the manifest; name an image"),
        (f"subject,target\nA,{'x' * 5000}\n", "line 2: .*x does not exist; paths are relative"),
        (f"subject,target\nA,{'x' * 200_000}\n", r"cannot be read as a manifest \(field larger than field limit"),
        (
            "subject,target\nA,ann/one.nii.gz\nB,ann/one.nii.gz\n",
            "line 3: .*one.nii.gz is an image of subject 'A' in a row above; an image belongs to one subject",
        ),
        (
            "subject,target,split\nA,ann/one.nii.gz,train\nA,ann/two.nii.gz,test\n",
            "subject 'A' is in train and in test; splits are by subject",
        ),
    ],
)
def test_a_manifest_with_a_mistake_is_refused(folder, text, told):
    with pytest.raises(UserError, match=told):
        discover(TASK, manifest(folder, text))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01subject", b"subject,target\nA,\xff\n"])
def test_a_manifest_that_is_no_text_is_refused(folder, content):
    (folder / "list.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"list\.csv: cannot be read as a manifest"):
        discover(TASK, DataConfig(data=folder / "list.csv"))


def test_a_subject_whose_accents_are_written_in_two_ways_is_one(folder):
    config = manifest(folder, "subject,target\nJos\u00e9,ann/one.nii.gz\nJose\u0301,ann/two.nii.gz\n")
    assert len({case.subject for case in find_cases(TASK, config)}) == 1


def test_words_that_other_programs_read_as_commands_are_names_like_others(folder):
    config = manifest(folder, "subject,target,label\n[/b],ann/one.nii.gz,[red] {x} %s\n=1+1,bob/one.nii.gz,[/]\n")
    found = find_cases(TASK, config)
    assert [(case.subject, case.label) for case in found] == [("[/b]", "[red] {x} %s"), ("=1+1", "[/]")]


def test_rows_that_lack_a_role_which_others_have_are_told(folder):
    config = manifest(folder, "subject,target,input\nA,ann/one.nii.gz,ann/two.nii.gz\nB,bob/one.nii.gz,\n")
    with pytest.warns(Notice, match=r"list\.csv: 1 of 2 cases have no input image: bob_one"):
        find_cases(TASK, config)


def pictures(root, *names):
    """Write images whose values are all the number of their place among the names."""
    for number, name in enumerate(names, start=1):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        values = np.full((1, 12, 12), number, np.int16)
        values[0, 0, :6] = 0
        write(root / name, Image.from_array(values if name.endswith("nii.gz") else values.astype(np.uint8)))


def paired(root):
    """Return the file names of every case in a folder with the subfolders input and target."""
    cases = find_cases(TASK, DataConfig(data=root))
    assert len({case.name.casefold() for case in cases}) == len(cases)
    return {
        case.name: {role: source.paths[0].relative_to(root / role).as_posix() for role, source in case.sources.items()}
        for case in cases
    }


@pytest.mark.parametrize(
    "names",
    [
        ("s 1.png", "s_1.png"),
        ("p/1.png", "p_1.png"),
        ("s(1.png", "s 1.png", "s_1.png"),
        ("A.png", "a.png"),
        ("x.png", "y/x.png", "y/z/x.png"),
    ],
)
def test_images_of_two_roles_belong_together_by_their_paths_and_not_by_cleaned_names(tmp_path, names):
    pictures(tmp_path / "input", *names)
    pictures(tmp_path / "target", *names[::-1])
    assert all(found["input"] == found["target"] for found in paired(tmp_path).values())
    assert len(paired(tmp_path)) == len(names)
    (tmp_path / "input" / names[0]).unlink()  # the first name is free for the second image, in one role only
    with pytest.warns(Notice, match=f"1 of {len(names)} cases have no input image"):
        found = paired(tmp_path)
    assert {tuple(sorted(files)) for files in found.values()} == {("target",), ("input", "target")}
    assert all(len(set(files.values())) == 1 for files in found.values())


def test_a_name_with_accents_is_one_name_however_it_is_written(tmp_path):
    pictures(tmp_path / "input", "Jos\u00e9.png", "b.png")
    pictures(tmp_path / "target", "Jose\u0301.png", "b.png")
    assert all(set(files) == {"input", "target"} for files in paired(tmp_path).values())


@pytest.mark.parametrize("names", [("a.nii.gz", "a.png"), ("Jos\u00e9.png", "Jose\u0301.png")])
def test_two_images_of_a_role_for_one_case_are_refused_with_both_names(tmp_path, names):
    pictures(tmp_path / "input", "a.png")
    pictures(tmp_path / "target", *names)
    with pytest.raises(UserError) as told:
        find_cases(TASK, DataConfig(data=tmp_path))
    assert all(str(tmp_path / "target" / name) in str(told.value) for name in names)
    assert "both would be the target of one case" in str(told.value)


def dicom(folder, stem, description="CT", slices=1):
    """Write a DICOM series of files with a common start of their names."""
    values = np.arange(slices * 144, dtype=np.int16).reshape(slices, 12, 12)
    write(folder / "work", Image.from_array(values, unit="HU", header=Header(modality="CT")))
    for number, path in enumerate(sorted((folder / "work").iterdir())):
        file = pydicom.dcmread(path)
        file.SeriesDescription = description
        place = folder / (f"{stem}-{number}.dcm" if slices > 1 else f"{stem}.dcm")
        place.parent.mkdir(parents=True, exist_ok=True)
        file.save_as(place)
        path.unlink()
    (folder / "work").rmdir()


def test_dicom_files_of_two_roles_belong_together_by_their_names(tmp_path):
    for role in ("input", "target"):
        for number in (1, 2) if role == "input" else (2, 1):  # the time of writing and the UIDs say nothing
            dicom(tmp_path / role, f"p{number}")
    assert paired(tmp_path) == {f"p{n}": {"input": f"p{n}.dcm", "target": f"p{n}.dcm"} for n in (1, 2)}


def test_series_of_one_folder_belong_together_by_their_descriptions(tmp_path):
    for role in ("input", "target"):
        for title in ("arterial", "venous"):
            dicom(tmp_path / role, f"anna/{role}-{title}", title, slices=2)
        dicom(tmp_path / role, f"ben/{role}", "arterial")
    assert paired(tmp_path) == {
        **{
            f"anna_{title}": {role: f"anna/{role}-{title}-0.dcm" for role in ("input", "target")}
            for title in ("arterial", "venous")
        },
        "ben": {role: f"ben/{role}.dcm" for role in ("input", "target")},
    }
    dicom(tmp_path / "target", "anna/again", "venous", slices=2)
    with pytest.raises(UserError, match="both would be the target of one case, anna/venous"):
        find_cases(TASK, DataConfig(data=tmp_path))


def test_missing_places_are_named(tmp_path):
    for name in ("none", "none.csv"):
        with pytest.raises(UserError, match=f"{name}.*(no such manifest|does not exist)"):
            discover(TASK, DataConfig(data=tmp_path / name))
    with pytest.raises(UserError, match="holds no image"):
        discover(TASK, DataConfig(data=tmp_path))


class HealthyOnly(CTDenoising):
    """Denoising that is trained on healthy cases only."""

    phantom = "brain-mr"

    def only_tested(self, label):
        return label == "sick"


def test_what_cannot_be_learned_from_is_kept_for_testing():
    task = HealthyOnly(LowDoseScan(views=20), Window(low=-1000, high=1000), "rmse", 2)
    found = discover(task, DataConfig(phantom_subjects=20))
    sides = {(case.label, case.split) for case in found}
    assert sides == {("sick", "test"), ("healthy", "train"), ("healthy", "val"), ("healthy", "test")}
    assert len(found) == 20


class Unpaired(CTDenoising):
    groups = (("input",), ("target",))
    usable = Task.usable


def test_unpaired_images_make_cases_of_their_own(folder):
    data = manifest(folder, "subject,input,target\nann,ann/one.nii.gz,\nbob,,bob/one.nii.gz\n")
    task = Unpaired(LowDoseScan(views=20), Window(low=-1000, high=1000), "rmse", 2)
    assert [sorted(case.sources) for case in find_cases(task, data)] == [["input"], ["target"]]
    with pytest.raises(UserError, match="line 2: no target image"):
        find_cases(TASK, data)


def test_prepared_cases_lie_where_the_user_wants(monkeypatch, tmp_path):
    monkeypatch.setenv("GANATOMY_CACHE", str(tmp_path / "mine"))
    assert DataConfig().cache_folder == tmp_path / "mine" / "cases"
    assert DataConfig(cache=tmp_path).cache_folder == tmp_path
    monkeypatch.delenv("GANATOMY_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert DataConfig().cache_folder == tmp_path / "home" / ".cache" / "ganatomy" / "cases"


def test_seeds_that_share_a_patient_are_of_one_subject():
    found = find_cases(Poles(), DataConfig())
    assert len(found) == 40 and len({case.name for case in found}) == 40
    assert [case.subject for case in found[8:12]] == ["phantom000"] * 2 + ["phantom001"] * 2
    assert found[12].label == "RCA" and found[12].sources["vessel"].open().shape[1] == 4
    assert len(find_cases(Poles(), DataConfig(phantom_subjects=3))) == 30
    assert len(find_cases(TASK, DataConfig(phantom_subjects=3))) == 3


def test_files_that_are_no_images_are_found_by_their_suffix(tmp_path):
    rows = "x,y,z,r\n0,0,0,1\n9,0,0,1\n"
    for name in ("ann/one.csv", "ann/two.CSV", "bob.csv", "bob.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(rows)
    found = find_cases(Poles(), DataConfig(data=tmp_path))
    assert [(case.name, case.subject) for case in found] == [("ann_one", "ann"), ("ann_two", "ann"), ("bob", "bob")]
    assert found[1].sources["vessel"].open().length_mm == 9
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.csv, \.npz, \.vtk or \.vtp files, which vessel is read from"):
        find_cases(Poles(), DataConfig(data=tmp_path / "empty"))


def test_two_lines_of_one_file_are_two_cases(tmp_path):
    (tmp_path / "c.csv").write_text("x,y,z,r\n0,0,0,1\n0.5,0,0,1\n9,0,0,2\n9.5,0,0,2\n")
    (tmp_path / "list.csv").write_text("subject,vessel\nA,c.csv#0\nA,c.csv#1\n")
    first, second = find_cases(Poles(), DataConfig(data=tmp_path / "list.csv"))
    assert first.fingerprint != second.fingerprint and first.name != second.name
    assert [case.sources["vessel"].open().radii[0] for case in (first, second)] == [1, 2]


def test_images_in_a_folder_called_unlabelled_and_rows_without_label_have_no_class(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (24, 24)).astype(np.uint8)
    for name in ("benign/a", "malignant/b", "unlabelled/c", "other/d"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "data" / f"{name}.png", Image.from_array(values[None]))
    kinds = catalogue.load("cnn-classifier").Config
    task = catalogue.load("cnn-classifier").of(kinds.preset("small", image={"window": (0, 255), "unit": None})).task
    found = {case.label for case in find_cases(task, DataConfig(data=tmp_path / "data"))}
    assert found == {"benign", "malignant", None}
    config = manifest(
        tmp_path,
        "subject,image,label\nA,data/benign/a.png,benign\nB,data/malignant/b.png,\nC,data/other/d.png,other\n",
    )
    cases = find_cases(task, config)
    assert [case.label for case in cases] == ["benign", None]
    framed = [set(Store(task, tmp_path / "cache").get(case).arrays) for case in cases]
    assert framed == [{"image", "label"}, {"image"}]
    generator = (
        catalogue.load("ac-gan")
        .of(catalogue.load("ac-gan").Config.preset("small", classes=("benign", "malignant")))
        .task
    )
    assert {case.label for case in find_cases(generator, DataConfig(data=tmp_path / "data"))} == {"benign", "malignant"}
