"""The HTTP interface against its own document: schemathesis makes requests from `/cas/openapi.json`, and looks at every answer."""

import copy
import json
import os
import re
import subprocess
import urllib.request

from harness.cas import Cas
from harness.cases import case
from harness.sut import Switch, needs_tandem
from harness.world import Skip, check

SCHEMATHESIS = os.path.abspath("target/interop-python/bin/schemathesis")
# What any answer must be. That a 5xx which tells of somebody else (no plug-in, too slow) is declared is not enough: none may come here.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
# They end the token that the other requests need, or the switch.
LAST = {"login.logout", "login.refresh", "login.revoke", "admin.drain"}


def fetch(switch):
    with urllib.request.urlopen(f"http://{switch.host}:{switch.ports['http']}/cas/openapi.json", timeout=5) as answer:
        return json.load(answer)


def per_operation(document, operations, encodings):
    """The same document with a path for each of these operations, so that each has requests, and answers, of its own."""
    one = copy.deepcopy(document)
    post = one["paths"].pop("/cas")["post"]
    for name in operations:
        operation = copy.deepcopy(post)
        operation["operationId"] = name
        operation["requestBody"]["content"] = {e: {"schema": {"$ref": f"#/components/schemas/{name}"}} for e in encodings}
        done = {"schema": {"$ref": f"#/components/schemas/{name}.reply"}}
        operation["responses"]["200"]["content"] = {e: done for e in post["requestBody"]["content"]}
        operation["parameters"] = []
        one["paths"][f"/cas?{name}"] = {"post": operation}
    return one


def hasty(document):
    """The same document, but nobody waits for events."""
    at_once = {"type": "integer", "minimum": 0, "maximum": 0}
    get = document["paths"]["/cas/events"]["get"]
    get["parameters"] = [{**p, "required": True, "schema": at_once} if p["name"] == "wait" else p for p in get["parameters"]]
    body = document["components"]["schemas"]["GetEvent"]
    body["properties"]["wait"], body["required"] = at_once, ["wait"]
    document["components"]["schemas"]["event.get-event"]["required"].append("body")
    return document


def run(world, switch, name, document, *arguments):
    path = world.write(f"{name}.json", json.dumps(document))
    command = [SCHEMATHESIS, "run", path, "--url", f"http://{switch.host}:{switch.ports['http']}", "--checks", CHECKS, "--no-color",
               "--warnings", "off", "--suppress-health-check", "all", "--request-timeout", "30",
               "--no-shrink", "--generation-deterministic", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=world.folder, timeout=world.left(), stdin=subprocess.DEVNULL)
    world.logs.append((name, lambda: done.stdout[-20_000:] + done.stderr))
    check(done.returncode == 0, f"schemathesis found something ({name}): see its report below")
    tested = re.search(r"(\d+) generated", done.stdout)
    check(tested and int(tested[1]) > len(document["paths"]), f"schemathesis made too few requests: {done.stdout[-400:]}")


@case(slow=True, seconds=240)
def schemathesis_finds_only_answers_that_the_document_declares(world):
    needs_tandem()
    if not os.path.exists(SCHEMATHESIS):
        raise Skip("schemathesis is not installed; tests/run installs it")
    switch = Switch(world, capture=False, limits="failed_logins_per_minute = 100000")
    host, document = Cas(switch), hasty(fetch(switch))
    names = sorted(name[: -len(".reply")] for name in document["components"]["schemas"] if name.endswith(".reply"))
    check(len(names) > 50, f"the operations are in the document: {names}")
    host.ask("permission", "set-role", user="alice", role="administrator")
    token = host.ask("login", "login", user="alice", password="alice-secret")["token"]
    operations = per_operation(document, [name for name in names if name not in LAST], ["application/json"])
    for mode, examples in (("positive", 3), ("negative", 2)):
        run(world, switch, mode, operations, "--phases", "fuzzing", "--mode", mode, "--max-examples", str(examples),
            "--header", f"Authorization: Bearer {token}", "--header", "Prefer: wait=5")  # the outcome, not that it is awaited
    strangers = per_operation(document, LAST, ["application/json", "application/xml"])
    run(world, switch, "stranger", strangers, "--phases", "coverage,fuzzing", "--max-examples", "10")
    with urllib.request.urlopen(f"http://{switch.host}:{switch.ports['http']}/metrics", timeout=5) as answer:
        replies = dict(re.findall(r'tandem_cas_replies_total\{response="(\d+)"\} (\d+)', answer.read().decode()))
    for response, least in (("0", 30), ("400", 100), ("401", 10), ("404", 20)):
        check(int(replies.get(response, 0)) >= least, f"the requests were not of every kind: {replies}")
    switch.finish()
