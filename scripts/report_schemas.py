#!/usr/bin/env python3
"""Judge the JUnit XML and SARIF that lapidary writes by their schemas.

    scripts/report_schemas.py --lapidary target/release/lapidary [--sarif-schema sarif-schema-2.1.0.json]

Makes reports of a gate that fails, one that passes and a `check`, and validates them: JUnit by Jenkins' XSD, as
pytest's source distribution carries it for its own tests; SARIF by pydantic-sarif, which is generated from the schema
of OASIS, and by that schema itself where it is given as a file. The schemas come from PyPI at run time and stay in
${LAPIDARY_CACHE:-~/.cache/lapidary}/schemas.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import venv

PACKAGES = ["pydantic-sarif==0.1.1", "xmlschema==4.3.2", "jsonschema==4.26.0"]
CARRIES_XSD = "pytest==8.4.2"
ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("LAPIDARY_CACHE", pathlib.Path.home() / ".cache/lapidary")) / "schemas"


def prepare() -> pathlib.Path:
    """The Python that has the packages; made once."""
    python, xsd = CACHE / "venv/bin/python", CACHE / "junit.xsd"
    if not xsd.exists():
        venv.create(CACHE / "venv", with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *PACKAGES], check=True)
        with tempfile.TemporaryDirectory() as folder:
            source = ["download", "--no-deps", "--no-binary", ":all:", "--dest", folder, CARRIES_XSD]
            subprocess.run([*pip, *source], check=True)
            with tarfile.open(next(pathlib.Path(folder).glob("*.tar.gz"))) as tar:
                member = next(m for m in tar if m.name.endswith("junit-10.xsd"))
                xsd.write_bytes(tar.extractfile(member).read())
    return python


def reports(lapidary: str, folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """JUnit and SARIF files of a gate that fails, one that passes, and a check."""
    junit, sarif = [], []
    fixtures = "fixtures/models"
    both = [f"{fixtures}/vit.onnx", f"{fixtures}/resnet8.onnx"]
    fails = ["gate", *both, "--params", "100k", "--forbid-ops", "Conv,Gemm"]
    passes = ["gate", f"{fixtures}/resnet8.onnx", "--params", "1M", "--target", "tensorrt"]
    for name, args, code in [("fails", fails, 1), ("passes", passes, 0)]:
        files = folder / f"{name}.xml", folder / f"{name}.sarif"
        done = subprocess.run([lapidary, *args, "--quiet", "--junit", files[0], "--sarif", files[1]], cwd=ROOT)
        assert done.returncode == code, (args, done.returncode)
        junit.append(files[0])
        sarif.append(files[1])
    done = subprocess.run([lapidary, "check", f"{fixtures}/vit.onnx", "--sarif"], cwd=ROOT, capture_output=True)
    sarif.append(folder / "check.sarif")
    sarif[-1].write_bytes(done.stdout)
    return junit, sarif


def validate(lapidary: str, schema: str | None) -> None:
    import jsonschema
    import xmlschema
    from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

    xsd = xmlschema.XMLSchema(CACHE / "junit.xsd")
    with tempfile.TemporaryDirectory() as folder:
        junit, sarif = reports(lapidary, pathlib.Path(folder))
        for file in junit:
            xsd.validate(file)
        for file in sarif:
            log = json.loads(file.read_text())
            Sarif.model_validate(log)
            if schema:
                jsonschema.validate(log, json.loads(pathlib.Path(schema).read_text()))
    by = "pydantic-sarif and the schema" if schema else "pydantic-sarif"
    print(f"{len(junit)} JUnit files are valid by the XSD, {len(sarif)} SARIF files by {by}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lapidary", required=True)
    parser.add_argument("--sarif-schema")
    args = parser.parse_args()
    python = prepare()
    if pathlib.Path(sys.prefix) != CACHE / "venv":
        os.execv(python, [str(python), *sys.argv])
    validate(str(pathlib.Path(args.lapidary).resolve()), args.sarif_schema)


if __name__ == "__main__":
    main()
