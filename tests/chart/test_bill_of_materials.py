"""The image's bill of materials names every package that is locked."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==([^ \\;]+)([^\n]*)", re.MULTILINE)


def test_the_bill_of_materials_names_what_is_installed(tmp_path: Path) -> None:
    licenses = {
        "one": "License-Expression: MIT",
        "two_parts": "Classifier: License :: OSI Approved :: BSD License",
        "keyreeve": "",
    }
    for name, line in licenses.items():
        directory = tmp_path / f"{name}-1.2.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.2\n{line}\n")
    command = [sys.executable, str(ROOT / "tools" / "sbom"), str(tmp_path)]
    made = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert made["metadata"]["component"]["purl"] == "pkg:pypi/keyreeve@1.2"
    assert made["components"] == [
        {
            "type": "library",
            "bom-ref": "pkg:pypi/one@1.2",
            "name": "one",
            "version": "1.2",
            "purl": "pkg:pypi/one@1.2",
            "licenses": [{"expression": "MIT"}],
        },
        {
            "type": "library",
            "bom-ref": "pkg:pypi/two-parts@1.2",
            "name": "two-parts",
            "version": "1.2",
            "purl": "pkg:pypi/two-parts@1.2",
            "licenses": [{"license": {"name": "BSD License"}}],
        },
    ]


def test_the_bill_of_this_environment_has_every_locked_package_in_its_version() -> None:
    site = next(path for path in map(Path, sys.path) if path.name == "site-packages" and (path / "grpc").exists())
    made = json.loads(
        subprocess.run(
            [sys.executable, str(ROOT / "tools" / "sbom"), str(site)], check=True, capture_output=True
        ).stdout
    )
    listed = {(one["name"], one["version"]) for one in made["components"]}
    requirements = (ROOT / "requirements" / "run.txt").read_text()
    locked = LOCKED.findall(requirements)
    assert len(locked) > 20
    missing = {
        f"{name}=={version}"
        for name, version, condition in locked
        if ";" not in condition and (re.sub(r"[-_.]+", "-", name).lower(), version) not in listed
    }
    assert missing == set()
