"""The FHIR export: a transaction that a server can take, twice, and read without her2d."""

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.bundle import Bundle

from her2d.pipeline.evaluability import ReasonCode
from her2d.results.export import fhir_codes
from her2d.results.export.fhir import fhir_bundle
from her2d.results.pictures import png_bytes
from her2d.results.queries import find_slide
from her2d.results.records import QualityFlag
from her2d.settings import FhirSettings, SettingsError, load_settings

MRN = "urn:oid:1.2.36.147"


@pytest.fixture
def heatmap(tmp_path):
    """A heatmap of noise, which takes about a megabyte."""
    noise = np.random.default_rng(1).integers(0, 255, (600, 600, 3), np.uint8)
    path = tmp_path / "heat.png"
    path.write_bytes(png_bytes(noise))
    return path


@pytest.fixture
def result(db, record, heatmap):
    record(run={"heatmap_path": str(heatmap)})
    return find_slide(db, "1")


def exported(result, **settings: Any) -> dict[str, Any]:
    more = {key: settings.pop(key) for key in ("subject", "is_repeated") if key in settings}
    return json.loads(fhir_bundle(result, FhirSettings(**settings), **more))


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = [entry["resource"] for entry in bundle["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


def observation_of(bundle: dict[str, Any]) -> dict[str, Any]:
    (observation,) = resources(bundle, "Observation")
    return observation


def components(observation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {part["code"]["coding"][0]["code"]: part for part in observation["component"]}


def nodes(found: Any) -> Iterator[dict[str, Any]]:
    """Generate every object of a document."""
    if isinstance(found, dict):
        yield found
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from nodes(part)


class Server:
    """What a FHIR server does with a transaction of conditional creates."""

    def __init__(self) -> None:
        self.stored: list[dict[str, Any]] = []

    def post(self, bundle: dict[str, Any]) -> None:
        assert bundle["type"] == "transaction"
        for entry in bundle["entry"]:
            request, resource = entry["request"], entry["resource"]
            assert (request["method"], request["url"]) == ("POST", resource["resourceType"])
            system, value = request["ifNoneExist"].removeprefix("identifier=").split("|")
            token = {"system": system, "value": value}
            same = [
                stored
                for stored in self.stored
                if stored["resourceType"] == request["url"] and token in stored["identifier"]
            ]
            assert token in resource["identifier"]
            if not same:
                self.stored.append(resource)


def test_every_reference_leads_to_an_entry_and_every_entry_is_reached(result):
    bundle = exported(result)
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(urls)) == len(urls) == 5
    references = {node["reference"] for node in nodes(bundle) if "reference" in node}
    (report,) = resources(bundle, "DiagnosticReport")
    assert references == set(urls) - {f"urn:uuid:{report['id']}"}


def test_every_entry_has_a_uuid_and_comes_after_those_that_it_refers_to(result):
    known: set[str] = set()
    for entry in exported(result)["entry"]:
        found = uuid.UUID(entry["fullUrl"].removeprefix("urn:uuid:"))
        assert (found.version, str(found)) == (5, entry["resource"]["id"])
        assert {n["reference"] for n in nodes(entry["resource"]) if "reference" in n} <= known
        known.add(entry["fullUrl"])


def test_a_bundle_that_is_posted_twice_is_stored_once(result):
    server = Server()
    server.post(exported(result))
    server.post(exported(result))
    assert len(server.stored) == 5


def test_another_run_of_the_slide_adds_its_results_and_no_second_specimen(db, record):
    server = Server()
    for at in ("2026-01-01T00:00:10.000000Z", "2026-02-01T00:00:10.000000Z"):
        record(run={"finished_at": at})
        server.post(exported(find_slide(db, "1")))
    kinds = [resource["resourceType"] for resource in server.stored]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "Device": 1,
        "Specimen": 1,
        "Observation": 2,
        "DiagnosticReport": 2,
    }


def test_another_bundle_of_models_is_another_device(db, record):
    ids = set()
    for digest in ("d" * 64, "e" * 64):
        record(bundle={"digest": digest})
        (device,) = resources(exported(find_slide(db, "1")), "Device")
        ids.add(device["id"])
    assert len(ids) == 2


def test_the_published_models_accept_it_and_every_status_is_one_of_the_standards(result):
    bundle = Bundle.model_validate_json(fhir_bundle(result))
    for entry in bundle.entry:
        resource = entry.resource
        fields = get_fhir_model_class(resource.get_resource_type()).model_fields
        allowed = (fields["status"].json_schema_extra or {}).get("enum_values")
        assert resource.status in (allowed or ["completed"]), resource.get_resource_type()


def test_every_code_of_her2d_is_in_its_list_and_is_used_with_its_meaning(result):
    codings = [node for node in nodes(exported(result)) if node.get("system") == fhir_codes.HER2D]
    assert len(codings) >= 30
    assert {coding["code"] for coding in codings} <= set(fhir_codes.CODES)
    assert all(coding["display"] == fhir_codes.CODES[coding["code"]] for coding in codings)


@pytest.mark.parametrize(
    ("status", "code"), [("positive", "POS"), ("negative", "NEG"), ("indeterminate", "IND")]
)
def test_a_status_is_interpreted_by_hl7s_code(db, record, status, code):
    record(run={"her2_status": status})
    bundle = exported(find_slide(db, "1"))
    (interpretation,) = observation_of(bundle)["interpretation"]
    assert interpretation["coding"][0]["code"] == code
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["conclusionCode"][0]["coding"][0]["code"] == f"her2-{status}"


def test_the_share_has_its_interval_and_the_threshold_of_the_models(db, record):
    record(run={"threshold_percent": 12.5, "borderline": True, "send_to_ihc": True})
    main = observation_of(exported(find_slide(db, "1")))
    assert main["valueQuantity"]["value"] == 40.0
    parts = components(main)
    found = {code: parts[code]["valueQuantity"]["value"] for code in list(parts)[:4]}
    assert found == {"ci-low": 20.0, "ci-high": 60.0, "threshold-percent": 12.5, "tile-cut": 0.5}
    assert main["referenceRange"][0]["low"]["value"] == 12.5
    codes = [part["coding"][0]["code"] for part in main["interpretation"]]
    assert codes == ["POS", "borderline", "send-to-ihc"]


def test_quality_of_the_scan_is_measured_flagged_and_said_beside_the_result(db, record, quality):
    record(
        quality=quality(
            blurred=True, blurred_percent=61.0, pen_percent=7.5, tissue_fold_percent=3.25
        ),
        run={"unread_pictures": "1 further picture was not read"},
    )
    bundle = exported(find_slide(db, "1"))
    main = observation_of(bundle)
    parts = components(main)
    assert parts["blurred-percent"]["valueQuantity"]["value"] == 61.0
    assert parts["pen-percent"]["valueQuantity"]["value"] == 7.5
    assert parts["tissue-fold-percent"]["valueQuantity"]["value"] == 3.25
    assert parts["tiles-unreadable"]["valueQuantity"] == {
        "value": 1.0,
        "unit": "tiles",
        "system": "http://unitsofmeasure.org",
        "code": "{tiles}",
    }
    raised = {f"flag-{flag}": parts[f"flag-{flag}"]["valueBoolean"] for flag in QualityFlag}
    assert [flag for flag, value in raised.items() if value] == ["flag-blurred"]
    assert parts["flag-blurred"]["interpretation"][0]["coding"][0]["code"] == "A"
    assert parts["stain-distance"]["dataAbsentReason"]["coding"][0]["code"] == "not-applicable"
    notes = [note["text"] for note in main["note"]]
    assert "1 further picture was not read" in notes
    assert "1 of 48 tiles cannot be read: A block ends early." in notes
    assert any("The scan is out of focus." in note for note in notes)
    (report,) = resources(bundle, "DiagnosticReport")
    assert "To be checked: The scan is out of focus." in report["conclusion"]


@pytest.mark.parametrize(
    ("code", "in_fhir"), [("no-tumor", "not-applicable"), ("pen-marked", "not-performed")]
)
def test_a_slide_without_a_call_has_the_reason_in_place_of_the_number(db, record, code, in_fhir):
    record(
        run={
            "her2_status": "indeterminate",
            "high_expression_percent": None,
            "ci_low": None,
            "ci_high": None,
            "reason_code": ReasonCode(code),
            "reason": "A sentence for people.",
        }
    )
    bundle = exported(find_slide(db, "1"), status="final")
    main = observation_of(bundle)
    assert "valueQuantity" not in main
    absent = main["dataAbsentReason"]
    assert [coding["code"] for coding in absent["coding"]] == [code, in_fhir]
    assert absent["text"] == "A sentence for people."
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert "A sentence for people." in report["conclusion"]


@pytest.mark.parametrize(
    ("settings", "blurred", "status"),
    [
        ({}, False, "preliminary"),
        ({"status": "final"}, False, "final"),
        ({"status": "final", "is_repeated": True}, False, "amended"),
        ({"status": "final"}, True, "preliminary"),
    ],
)
def test_a_result_is_final_only_if_a_person_signs_it_and_nothing_is_to_be_checked(
    db, record, quality, settings, blurred, status
):
    record(quality=quality(blurred=blurred))
    bundle = exported(find_slide(db, "1"), **settings)
    found = [observation_of(bundle), *resources(bundle, "DiagnosticReport")]
    assert {resource["status"] for resource in found} == {status}


def test_the_accession_number_is_the_barcode_in_the_laboratorys_system(result):
    system = "https://hospital.example/accession"
    (specimen,) = resources(exported(result, accession_system=system), "Specimen")
    accession = specimen["accessionIdentifier"]
    assert (accession["system"], accession["value"]) == (system, "900444")
    assert accession["type"]["coding"][0]["code"] == "ACSN"
    assert {"system": system, "value": "900444"} in specimen["identifier"]


def test_a_patient_is_named_only_if_system_and_identifier_are_known(result):
    known = exported(result, subject_system=MRN, subject="4711")
    named = [entry["resource"].get("subject") for entry in known["entry"][1:]]
    patient = {"type": "Patient", "identifier": {"system": MRN, "value": "4711"}}
    assert named == [patient] * 4
    for bundle in (exported(result, subject="4711"), exported(result, subject_system=MRN)):
        assert not any("subject" in node for node in nodes(bundle))


def test_a_slide_whose_label_shows_another_barcode_is_nobodys(db, record):
    record(slide={"barcode_mismatch": True, "label_barcode": "900445"})
    bundle = exported(find_slide(db, "1"), subject_system=MRN, subject="4711")
    (specimen,) = resources(bundle, "Specimen")
    assert "accessionIdentifier" not in specimen
    assert [i["system"] for i in specimen["identifier"]] == ["urn:her2d:content-hash"]
    assert not any("subject" in node for node in nodes(bundle))
    assert any("900445" in note["text"] for note in observation_of(bundle)["note"])


@pytest.mark.parametrize(("kilobytes", "kind"), [(5000, "image/png"), (100, "image/jpeg")])
def test_the_heatmap_is_in_it_reduced_if_it_is_large(result, heatmap, kilobytes, kind):
    bundle = exported(result, picture_kb=kilobytes)
    (media,) = resources(bundle, "Media")
    content = media["content"]
    data = base64.b64decode(content["data"])
    assert len(data) == content["size"] <= kilobytes * 1000
    assert content["contentType"] == kind
    assert content["hash"] == base64.b64encode(hashlib.sha1(data).digest()).decode()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[:2] == (media["height"], media["width"])
    assert (data == heatmap.read_bytes()) is (kind == "image/png")
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["media"][0]["link"]["reference"] == f"urn:uuid:{media['id']}"


def test_without_a_picture_the_conclusion_says_so(result, heatmap):
    heatmap.unlink()
    for bundle in (exported(result), exported(result, picture_kb=0)):
        assert resources(bundle, "Media") == []
        (report,) = resources(bundle, "DiagnosticReport")
        assert "Without the heatmap." in report["conclusion"]


def test_a_slide_that_is_not_stained_with_he_is_not_said_to_be(db, record):
    record(run={"her2_status": "indeterminate", "reason_code": ReasonCode.NOT_HE})
    (specimen,) = resources(exported(find_slide(db, "1")), "Specimen")
    assert "processing" not in specimen


def test_a_name_of_any_characters_is_a_valid_identifier(db, record):
    record(slide={"barcode": 'S26|1&2"\x1d;ü'})
    bundle = exported(find_slide(db, "1"))
    (specimen,) = resources(bundle, "Specimen")
    assert "1&2" in specimen["accessionIdentifier"]["value"]
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", json.dumps(bundle, ensure_ascii=False))


@pytest.mark.parametrize(
    "system",
    ["https://hospital.example/mrn", "http://a:8080", "urn:oid:2.16.840.1", "urn:x-lab:mrn"],
)
def test_an_absolute_uri_names_a_system(system):
    assert FhirSettings(subject_system=system).subject_system == system


@pytest.mark.parametrize(
    "system",
    ["", "hospital", "/mrn", "https://", "urn:oid:2.16.", "urn:oid:9.1", "urn:uuid:12", "urn:a b"],
)
def test_what_is_not_an_absolute_uri_is_refused_in_a_sentence(monkeypatch, system):
    monkeypatch.setenv("HER2D_FHIR__ACCESSION_SYSTEM", system)
    with pytest.raises(SettingsError, match="must be an absolute URI, such as"):
        load_settings(None)
