"""What a system wants is said with its own roles, and a manifest that is told can be used."""

import numpy as np
import pytest

from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.wanted import advice, layouts_for, manifest_for, wanted
from ganatomy.errors import UserError
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import build


@pytest.mark.parametrize(
    ("system", "header"),
    [
        ("pix2pix", "subject,t1,t2,split"),
        ("cyclegan", "subject,t1,t2,split"),
        ("segan", "subject,flair,t1c,t2,tumour,split"),
        ("wgan-vgg", "subject,target,split"),
        ("caae", "subject,image,split"),
        ("cgan", "subject,image,label,split"),
        ("srgan", "subject,image,split"),
        ("dacal-landmarks", "subject,us,border,split"),
        ("scgan-lv-coverage", "subject,mr,slice_labels,split"),
    ],
)
def test_the_manifest_that_is_told_reads_as_cases(tmp_path, system, header):
    task = build(system, {}).task
    lines = manifest_for(task)
    assert lines[0] == header
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    for subject in ("anna", "ben"):
        for name, role in task.roles.items():
            write(tmp_path / subject / f"{name}.nii.gz", Image.from_array(np.zeros((2, 8, 9), np.uint8)))
            (tmp_path / subject / f"{name}{role.suffix or '.csv'}").touch()
    found = find_cases(task, DataConfig(data=tmp_path / "cases.csv"))
    assert [(case.subject, case.split) for case in found] == [("anna", "train"), ("ben", "test")]
    assert all(line in advice(task) for line in (*lines, *layouts_for(task)))


def test_roles_say_whether_a_case_needs_them():
    rows = {row.name: row for row in wanted(build("wgan-vgg", {}).task)}
    assert rows["target"].needed == "yes" and rows["target"].what == "image, in HU"
    assert rows["input"].needed == "no: made from the others where it is absent" and rows["clean"].needed == "no"
    rows = {row.name: row for row in wanted(build("cyclegan", {}).task)}
    assert rows["t2"].needed == "t1 or t2: a case may have one of them"
    assert "label map with" in {row.name: row for row in wanted(build("segan", {}).task)}["tumour"].what


def test_layouts_are_those_of_the_system():
    assert "classes" not in layouts_for(build("srgan", {}).task)[0]
    assert layouts_for(build("cgan", {}).task)[0].startswith("a folder with a folder of images for each class (")
    assert "--normal" in layouts_for(build("caae", {}).task)[0]
    assert any("--halves t1 t2" in line for line in layouts_for(build("pix2pix", {}).task))


def test_errors_on_layouts_bring_advice(tmp_path):
    write(tmp_path / "a.nii.gz", Image.from_array(np.arange(3 * 8 * 9, dtype=np.float32).reshape(3, 8, 9)))
    task = build("pix2pix", {"source": "mr", "target": "ct"}).task
    with pytest.raises(UserError, match="nothing says which of its images are mr and which are ct") as told:
        find_cases(task, DataConfig(data=tmp_path))
    assert len(str(told.value).splitlines()) == 1
    assert "    subject,mr,ct,split" in "\n".join(told.value.__notes__)
