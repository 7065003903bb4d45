#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""peerctl against canned admin answers on Unix sockets: output, exit status, and what it says when a control plane is
dead, silent or talks nonsense. Argument: the peerctl executable."""
import copy
import json
import os
import re
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import unittest

PEERCTL = None
CONDITIONS = ["Accepted", "Programmed", "gloo.solo.io/PeerConnected", "gloo.solo.io/PeeringSucceeded",
              "gloo.solo.io/PeerDataPlaneProgrammed"]
EW = "spiffe://cluster.local/ns/istio-eastwest/sa/istio-eastwest"


class FakeAdmin:
    """One control plane: path -> JSON, (status, text) or "hang". Answers are read at each request."""

    def __init__(self, path):
        self.path, self.answers, self.asked = path, {}, []
        self.release = threading.Event()
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                target = self.rfile.readline().decode().split(" ")[1]
                while self.rfile.readline() not in (b"\r\n", b""):
                    pass
                fake.asked.append(target)
                answer = fake.answers.get(target.split("?")[0], (404, "try something else\n"))
                if answer == "hang":
                    fake.release.wait()
                    return
                if callable(answer):
                    answer = answer()
                status, body = answer if isinstance(answer, tuple) else (200, json.dumps(answer))
                body = body.encode()
                head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                self.wfile.write(head.encode() + body)

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(path, Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        if os.path.exists(self.path):
            os.unlink(self.path)


def setting(name, env, value, is_set=False):
    return {"name": name, "env": env, "value": value, "set": is_set}


def peer(cluster, network, true=5):
    return {"namespace": "istio-eastwest", "name": f"istio-remote-peer-{cluster}", "cluster": cluster,
            "network": network, "trustDomain": "cluster.local", "serviceAccount": "istio-eastwest",
            "object": f"istio-remote-peer-{cluster}.yaml:1", "hbonePort": 15008, "xdsPort": 15012,
            "addresses": ["172.18.0.12"], "address": "172.18.0.12:15012", "data": "fresh", "dataAgeMs": 0,
            "lastMessageAgeMs": 10, "lastError": "", "retryMs": 0, "generation": 1, "disconnects": 0, "services": 3,
            "workloads": 0,
            "conditions": [{"type": t, "status": "True" if i < true else "False", "reason": f"R{i}", "message": "",
                            "lastTransitionTime": "2026-11-20T00:00:00.000000Z"} for i, t in enumerate(CONDITIONS)]}


def types(*names, synced=True):
    return [{"type": n, "sent": 2, "acked": 2 if synced else 0, "nacked": 0 if synced else 1, "resources": 4,
             "synced": synced, "lastError": "" if synced else "bad enum"} for n in names]


def connection(name, cluster, network, kinds, **more):
    o = {"name": name, "node": f"ztunnel~10.0.0.1~{name}~x", "cluster": cluster, "network": network,
         "version": "0.1.0", "dnsCapture": "", "peer": False, "identity": "spiffe://cluster.local/ns/demo/sa/echo",
         "from": "10.0.0.1:4000", "ageMs": 65000, "lastMessageAgeMs": 5, "types": types(*kinds)}
    o.update(more)
    return o


def endpoint(cluster, network, obj, address="", healthy=True):
    return {"object": obj, "cluster": cluster, "network": network, "address": address, "capacity": 2,
            "healthy": healthy, "stale": False}


def answers(cluster, network, other, other_network, pki, manifests):
    """What a healthy, linked cluster says."""
    def pem(name):
        with open(os.path.join(pki, cluster, name), encoding="ascii") as f:
            return f.read()

    status = {
        "schema": "isthmus.status/v1", "version": "0.1.0", "cluster": cluster, "network": network,
        "trustDomain": "cluster.local", "domain": "cluster.local", "systemNamespace": "istio-system",
        "address": "0.0.0.0:15012", "ready": True, "pending": "", "startedAt": "2026-11-20T00:00:00.000000Z",
        "generation": 7, "digest": "00", "globalServices": 1,
        "settings": [setting("region", "", "r1"), setting("zone", "", "z1"),
                     setting("select-workload-entries", "K8S_SELECT_WORKLOAD_ENTRIES", "true"),
                     setting("peering", "ENABLE_PEERING_DISCOVERY", "true")],
        "manifests": {"directory": manifests, "objects": {"Service": 1}, "problems": []},
        "ca": {"selfSigned": False, "directory": "/c", "rootPem": pem("root-cert.pem"),
               "intermediatePem": pem("ca-cert.pem"), "chainPem": pem("cert-chain.pem"), "issued": 3, "refused": 0},
        "gateways": [{"namespace": "istio-eastwest", "name": "istio-eastwest", "network": network, "region": "",
                      "zone": "", "xdsPort": 15012, "hbonePort": 15008, "addresses": ["172.18.0.11"],
                      "programmed": True, "reason": "Programmed", "object": "istio-eastwest.yaml:1"}],
        "peers": [peer(other, other_network)]}
    services = {
        "schema": "isthmus.services/v1",
        "global": [{"namespace": "demo", "name": "global-service",
                    "hostname": "global-service.demo.mesh.internal", "scope": "global",
                    "distribution": "PreferNetwork", "vips": ["240.240.0.1", "2001:2::1"],
                    "clusters": sorted([cluster, other]), "warning": "",
                    "endpoints": [endpoint(cluster, network, f"{cluster}//Pod/demo/echo-v1", "10.100.0.11"),
                                  endpoint(other, other_network, f"autogen.{other}.demo.global-service")]}],
        "services": [{"namespace": "demo", "name": "global-service",
                      "hostname": "global-service.demo.mesh.internal", "loadBalancing": "FAILOVER [NETWORK]",
                      "vips": ["240.240.0.1"], "ports": [5000, 80], "endpoints": 2, "healthy": 2}]}
    workloads = {
        "schema": "isthmus.workloads/v1",
        "workloads": [{"uid": f"{cluster}//Pod/demo/echo-v1", "namespace": "demo", "name": "echo-v1",
                       "addresses": ["10.100.0.11"], "cluster": cluster, "network": network, "node": "node1",
                       "identity": "spiffe://cluster.local/ns/demo/sa/echo", "gateway": "", "protocol": "HBONE",
                       "healthy": True, "capacity": 1, "services": ["demo/global-service.demo.mesh.internal"]}]}
    connections = {
        "schema": "isthmus.connections/v1", "cluster": cluster,
        "connections": [connection("echo-v1.demo", cluster, network, ["WDS", "WADS"]),
                        connection("istio-eastwest-1.istio-eastwest", cluster, network, ["WDS", "WADS"], identity=EW),
                        connection(f"peering-{other}.istio-system", other, other_network, ["WDS", "FSDS", "SGDS"],
                                   peer=True)]}
    explain = {"schema": "isthmus.explain/v1", "cluster": cluster, "lines": ["source x", "name y"],
               "decision": {"kind": "double-hbone", "error": "", "hop": "172.18.0.12:15008",
                            "authority": "global-service.demo.mesh.internal:5000", "service": "demo/global-service",
                            "endpoint": f"{other}/SplitHorizonWorkload/x", "cluster": other, "candidates": 1,
                            "hopIdentities": [EW], "endIdentities": ["spiffe://cluster.local/ns/demo/sa/echo"],
                            "policy": "decided by the destination's proxy, in its own cluster"}}
    return {"/status": status, "/services": services, "/workloads": workloads, "/connections": connections,
            "/explain": explain, "/healthz/ready": (200, "ready\n")}


def setUpModule():
    """One set of keys for all: RSA 4096 takes its time."""
    top = tempfile.TemporaryDirectory(prefix="peerctl-")
    unittest.addModuleCleanup(top.cleanup)
    Base.pki = os.path.join(top.name, "pki")
    for args in (["root"], ["cacerts", "cluster1"], ["cacerts", "cluster2"]):
        subprocess.run([PEERCTL, "certs", *args, "--dir", Base.pki], check=True, capture_output=True)


class Base(unittest.TestCase):
    pki = None

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="p-")
        self.addCleanup(self.dir.cleanup)
        self.contexts = os.path.join(self.dir.name, "contexts")
        self.fakes, text = [], "# the two of us\n"
        for n, other in ((1, 2), (2, 1)):
            os.mkdir(self.manifests(n))
            fake = FakeAdmin(os.path.join(self.dir.name, f"{n}.sock"))
            self.addCleanup(fake.stop)
            fake.answers = copy.deepcopy(answers(f"cluster{n}", f"net{n}", f"cluster{other}", f"net{other}", self.pki,
                                                 self.manifests(n)))
            self.fakes.append(fake)
            text += f"[cluster{n}]\nmanifests = m{n}\nadmin = unix:{fake.path}\n"
        with open(self.contexts, "w", encoding="utf-8") as f:
            f.write(text)

    def manifests(self, n):
        return os.path.join(self.dir.name, f"m{n}")

    def status_of(self, n):
        return self.fakes[n - 1].answers["/status"]

    def run_it(self, *args, expect=0, env=None):
        full = dict(os.environ, PEERCTL_CONTEXTS=self.contexts, **(env or {}))
        done = subprocess.run([PEERCTL, *args], capture_output=True, text=True, env=full, timeout=50, check=False)
        self.assertEqual(done.returncode, expect, f"{args}\n{done.stdout}\n{done.stderr}")
        self.assertNotIn("Sanitizer", done.stderr)
        return done

    def out(self, *args, expect=0):
        return self.run_it(*args, expect=expect).stdout

    def err(self, *args, expect):
        return self.run_it(*args, expect=expect).stderr

    def json(self, *args, expect=0):
        return json.loads(self.out(*args, "-o", "json", expect=expect))


class Usage(Base):
    def test_help(self):
        everything = self.out("help")
        for word in ("certs root", "multicluster link", "proxy-status", "explain", "--contexts-file"):
            self.assertIn(word, everything)
        group = self.out("multicluster", "help")
        self.assertIn("multicluster check", group)
        self.assertNotIn("certs root", group)
        self.assertIn("--precheck", self.out("multicluster", "check", "--help"))
        self.assertIn("usage: peerctl", self.err(expect=2))

    def test_wrong_use(self):
        self.assertIn('no command "multicluster lnk"; did you mean "multicluster link"?',
                      self.err("multicluster", "lnk", expect=2))
        self.assertIn("multicluster needs a command after it", self.err("multicluster", expect=2))
        self.assertIn('"multicluster check" has no option --prechek; did you mean --precheck?',
                      self.err("multicluster", "check", "--prechek", expect=2))
        self.assertIn('"certs root" has no option --namespace', self.err("certs", "root", "-n", "x", expect=2))
        self.assertIn("--namespace needs a value: --namespace NS",
                      self.err("multicluster", "expose", "--namespace", expect=2))
        self.assertIn("--namespace needs a value",
                      self.err("multicluster", "expose", "--namespace", "--generate", expect=2))
        self.assertIn('"certs token" needs --namespace NS', self.err("certs", "token", expect=2))
        self.assertIn("needs SRC DST:PORT", self.err("explain", "a", expect=2))
        self.assertIn('unexpected "more"', self.err("status", "more", expect=2))
        self.assertIn('"xml" is not accepted', self.err("status", "-o", "xml", expect=2))
        self.assertIn('"status" knows only -o json', self.err("status", "-o", "wide", expect=2))
        self.assertIn("get knows services", self.err("get", "pods", expect=2))
        self.assertIn("not both", self.err("get", "peers", "-n", "a", "-A", "--context", "cluster1", expect=2))

    def test_contexts(self):
        text = self.out("contexts")
        self.assertRegex(text, r"(?m)^NAME +MANIFESTS +ADMIN$")
        self.assertRegex(text, rf"(?m)^cluster1 +{re.escape(self.manifests(1))} +unix:")
        self.assertEqual([c["name"] for c in self.json("contexts")["contexts"]], ["cluster1", "cluster2"])
        self.assertIn('no context "nope"; there are: cluster1, cluster2', self.err("get", "peers", "--context", "nope", expect=2))
        self.assertIn("several contexts; choose one with --context: cluster1, cluster2", self.err("get", "peers", expect=2))
        self.assertIn("no contexts file", self.err("contexts", "--contexts-file", "/nowhere/at/all", expect=2))
        with open(self.contexts, "a", encoding="utf-8") as f:
            f.write("[third]\nadmin = example.com\n")
        self.assertIn(":9: admin is unix:/path or ip:port", self.err("contexts", expect=2))

    def test_version(self):
        self.assertRegex(self.out("version", "--remote=false"), r"^client version: \d+\.\d+\.\d+\n$")
        self.assertRegex(self.out("--version"), r"^client version: ")
        self.assertEqual(self.fakes[0].asked, [])
        self.assertIn("control plane version: 0.1.0 (context cluster2, cluster cluster2)", self.out("version"))
        self.assertEqual(self.json("version", "--context", "cluster1")["controlPlanes"][0]["version"], "0.1.0")


class Faults(Base):
    def test_dead_socket(self):
        self.fakes[0].stop()
        said = self.err("status", "--context", "cluster1", expect=3)
        self.assertIn(f"context cluster1 (unix:{self.fakes[0].path}): /status: ", said)
        self.assertIn("no such socket; is peeringd running there", said)

    def test_nobody_listens(self):
        self.fakes[0].stop()
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.fakes[0].path)
        self.assertIn("connection refused", self.err("get", "peers", "--context", "cluster1", expect=3))

    def test_silence(self):
        self.fakes[0].answers["/status"] = "hang"
        said = self.err("status", "--context", "cluster1", "--request-timeout", "200ms", expect=3)
        self.assertIn("no answer within 200 ms", said)
        self.assertIn("--request-timeout", said)

    def test_nonsense(self):
        for body, words in (("{\"schema\":", "malformed JSON: line 1"), ("[]", "schema is \"\""),
                            ("{\"schema\":\"isthmus.status/v1\",\"schema\":\"x\"}", "malformed JSON"),
                            ("{\"schema\":\"isthmus.status/v9\"}", "schema is \"isthmus.status/v9\""),
                            ("", "malformed JSON")):
            self.fakes[0].answers["/status"] = (200, body)
            self.assertIn(words, self.err("status", "--context", "cluster1", expect=3))
        self.fakes[0].answers["/status"] = (500, "out of memory\n")
        self.assertIn("answered 500: out of memory", self.err("status", "--context", "cluster1", expect=3))

    def test_fields_of_a_wrong_kind(self):
        for kind, doc in (("status", {"schema": "isthmus.status/v1", "peers": 7, "gateways": {"a": 1}, "settings": ["x"],
                                      "cluster": 5, "ca": []}),
                          ("services", {"schema": "isthmus.services/v1", "global": [[], 1, None], "services": [3]}),
                          ("connections", {"schema": "isthmus.connections/v1", "connections": [None, {"types": "x"}]}),
                          ("workloads", {"schema": "isthmus.workloads/v1"})):
            self.fakes[0].answers["/" + kind] = doc
        for args in (["get", "peers"], ["get", "services", "-o", "wide"], ["get", "we"], ["get", "workloads"],
                     ["proxy-status"]):
            self.run_it(*args, "--context", "cluster1")
        self.run_it("status", "--context", "cluster1", expect=1)
        self.run_it("multicluster", "check", "--verbose", expect=1)

    def test_terminal_codes_are_not_passed_on(self):
        self.fakes[0].answers["/connections"]["connections"][0]["name"] = "\x1b[31mred"
        self.assertNotIn("\x1b", self.out("proxy-status"))

    def test_check_goes_on_without_one(self):
        self.fakes[0].stop()
        text = self.out("multicluster", "check", "--contexts=cluster1,cluster2", expect=2)
        self.assertIn("=== Cluster: cluster1 ===\n❌ could not be checked: context cluster1", text)
        self.assertIn("=== Cluster: cluster2 ===\n✅ Incompatible Environment Variable Check", text)
        self.assertEqual(self.json("multicluster", "check", expect=2)["result"], "incomplete")


CHECK_PLAIN = """\
=== Cluster: cluster1 ===
✅ Incompatible Environment Variable Check: all relevant environment variables are valid
ℹ️ License Check: not applicable
✅ CNI DNS Capture Check: AMBIENT_DNS_CAPTURE is enabled
✅ Pod Check (istiod): all pods healthy
✅ Pod Check (ztunnel): all pods healthy
✅ Pod Check (eastwest gateway istio-eastwest/istio-eastwest): all pods healthy
✅ Gateway Check: all eastwest gateways programmed
     istio-eastwest/istio-eastwest available at 172.18.0.11
✅ Peers Check: all clusters connected
     Connected to cluster2 via 172.18.0.12:15012
✅ Shared Services Check: 1 globally shared service found
======

=== Cluster: cluster2 ===
✅ Incompatible Environment Variable Check: all relevant environment variables are valid
ℹ️ License Check: not applicable
✅ CNI DNS Capture Check: AMBIENT_DNS_CAPTURE is enabled
✅ Pod Check (istiod): all pods healthy
✅ Pod Check (ztunnel): all pods healthy
✅ Pod Check (eastwest gateway istio-eastwest/istio-eastwest): all pods healthy
✅ Gateway Check: all eastwest gateways programmed
     istio-eastwest/istio-eastwest available at 172.18.0.11
✅ Peers Check: all clusters connected
     Connected to cluster1 via 172.18.0.12:15012
✅ Shared Services Check: 1 globally shared service found
======

✅ Intermediate Certs Compatibility Check: all clusters have compatible intermediate certificates
✅ Network Configuration Check: all network configurations are valid
ℹ️ Stale Workloads Check: skipped (flat network not detected)
"""


class Check(Base):
    def finding(self, report, ident, cluster=None):
        where = report["clusters"][cluster - 1]["checks"] if cluster else report["checks"]
        return next(f for f in where if f["id"] == ident)

    def test_all_fine(self):
        self.assertEqual(self.out("multicluster", "check", "--contexts=cluster1,cluster2"), CHECK_PLAIN)
        report = self.json("multicluster", "check")
        self.assertEqual((report["schema"], report["result"]), ("isthmus.check/v1", "pass"))

    def test_every_id_is_described(self):
        self.status_of(1)["manifests"]["problems"] = [{"file": "a.yaml", "line": 3, "reason": "no kind"}]
        report = self.json("multicluster", "check")
        ids = {f["id"] for f in report["checks"] + [f for c in report["clusters"] for f in c["checks"]]}
        page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "CHECKS.md")
        with open(page, encoding="utf-8") as f:
            self.assertEqual(ids, set(re.findall(r"(?m)^## (\S+)$", f.read())))

    def test_ascii(self):
        text = self.out("multicluster", "check", "--no-emoji", "--verbose")
        self.assertTrue(text.isascii())
        self.assertIn("[OK] Peers Check: all clusters connected", text)
        self.assertIn("[INFO] License Check: not applicable", text)

    def test_verbose(self):
        text = self.out("multicluster", "check", "--verbose")
        for line in ("--- Incompatible Environment Variable Check ---",
                     '     K8S_SELECT_WORKLOAD_ENTRIES is valid ("")', '     ENABLE_PEERING_DISCOVERY is valid ("true")',
                     "     Gateway: istio-eastwest/istio-eastwest", "     Addresses: 172.18.0.11",
                     "     Status: programmed ✅", "     Cluster: cluster2", "     Conditions:", "     Status: connected ✅",
                     "     cluster cluster1 has compatible intermediate certificates with cluster cluster2",
                     "     Cluster cluster1 has network: net1",
                     "     Eastwest gateway istio-eastwest/istio-eastwest has correct network label: net1",
                     "     Remote gateway istio-eastwest/istio-remote-peer-cluster2 references network net2 (clusters: [cluster2])",
                     "     ⚠ no autogenflat workload entries found"):
            self.assertIn(line + "\n", text)
        self.assertRegex(text, r"(?m)^     NAME +READY +STATUS +RESTARTS +AGE +VERSION$")
        self.assertRegex(text, r"(?m)^     echo-v1.demo +1/1 +Synced +- +65s +0.1.0$")
        self.assertRegex(text, r"(?m)^     - gloo.solo.io/PeerConnected: True \(R2, since ")
        self.assertRegex(text, r"(?m)^     cluster cluster1 root certificate SHA256 sum: [0-9a-f]{64}$")

    def test_precheck_leaves_peers_out(self):
        self.status_of(1)["peers"] = []
        self.fakes[0].answers["/services"] = (500, "")
        text = self.out("multicluster", "check", "--precheck", "--contexts=cluster1")
        self.assertNotIn("Peers Check", text)
        self.assertNotIn("Stale", text)
        self.assertIn("✅ Gateway Check: all eastwest gateways programmed", text)

    def test_environment(self):
        self.status_of(1)["settings"][3]["value"] = "false"
        text = self.out("multicluster", "check", expect=1)
        self.assertIn('     ENABLE_PEERING_DISCOVERY is invalid ("false")', text)
        self.assertIn("To do: set ENABLE_PEERING_DISCOVERY=true", text)

    def test_dns_off_and_unknown(self):
        self.fakes[0].answers["/connections"]["connections"][0]["dnsCapture"] = "false"
        report = self.json("multicluster", "check", expect=1)
        self.assertEqual(self.finding(report, "dns-capture", 1)["status"], "fail")
        self.fakes[0].answers["/connections"]["connections"] = []
        report = self.json("multicluster", "check", expect=1)
        self.assertEqual(self.finding(report, "dns-capture", 1)["status"], "info")
        self.assertEqual(self.finding(report, "pod-ztunnel", 1)["status"], "fail")
        self.assertEqual(self.finding(report, "pod-gateway", 1)["text"], "no pod is connected to the control plane")

    def test_proxy_not_synced(self):
        self.fakes[0].answers["/connections"]["connections"][0]["types"] = types("WDS", synced=False)
        found = self.finding(self.json("multicluster", "check", expect=1), "pod-ztunnel", 1)
        self.assertEqual(found["lines"],
                         ["echo-v1.demo: WDS not synced (sent 2, acknowledged 0, refused 1): bad enum"])

    def test_not_ready(self):
        self.fakes[0].answers["/healthz/ready"] = (500, "not ready\n")
        self.status_of(1)["pending"] = "cluster2"
        found = self.finding(self.json("multicluster", "check", expect=1), "pod-istiod", 1)
        self.assertEqual(found["text"], "the control plane is not ready: waits for cluster2")

    def test_gateway_without_address(self):
        self.status_of(1)["gateways"][0].update(addresses=[], programmed=False, reason="AddressNotAssigned")
        found = self.finding(self.json("multicluster", "check", expect=1), "gateways", 1)
        self.assertIn("istio-eastwest/istio-eastwest is not programmed: AddressNotAssigned", found["lines"])
        self.assertIn("peerctl multicluster expose --context cluster1", found["toDo"])

    def test_peer_down(self):
        p = peer("cluster2", "net2", true=2)
        p["lastError"] = "tls: unknown certificate authority"
        self.status_of(1)["peers"] = [p]
        found = self.finding(self.json("multicluster", "check", expect=1), "peers", 1)
        self.assertEqual(found["text"], "not all clusters connected")
        self.assertEqual(found["lines"], ["Not connected to cluster2 via 172.18.0.12:15012: gloo.solo.io/PeerConnected is "
                                          "False (R2); last error: tls: unknown certificate authority"])
        self.assertIn("firewall or network policy", found["toDo"])

    def test_no_peers_warns(self):
        self.status_of(1)["peers"] = []
        self.assertIn("⚠ Peers Check: no remote gateways found", self.out("multicluster", "check"))

    def test_manifest_problem(self):
        self.status_of(1)["manifests"]["problems"] = [{"file": "a.yaml", "line": 3, "reason": "no kind"}]
        self.assertIn("⚠ Manifest Check: 1 problem in the manifests\n     a.yaml:3: no kind", self.out("multicluster", "check"))

    def test_foreign_root(self):
        with tempfile.TemporaryDirectory() as other:
            for args in (["root"], ["cacerts", "cluster2"]):
                subprocess.run([PEERCTL, "certs", *args, "--dir", other], check=True, capture_output=True)
            for key, name in (("rootPem", "root-cert.pem"), ("intermediatePem", "ca-cert.pem"), ("chainPem", "cert-chain.pem")):
                with open(os.path.join(other, "cluster2", name), encoding="ascii") as f:
                    self.status_of(2)["ca"][key] = f.read()
        found = self.finding(self.json("multicluster", "check", expect=1), "certificates")
        self.assertEqual(len(found["lines"]), 2)
        self.assertIn("cluster cluster1 does not trust the intermediate certificate of cluster cluster2", found["lines"][0])

    def test_networks_disagree(self):
        self.status_of(1)["peers"][0]["network"] = "elsewhere"
        self.fakes[1].answers["/connections"]["connections"][0]["network"] = "net9"
        found = self.finding(self.json("multicluster", "check", expect=1), "networks")
        self.assertEqual(len(found["lines"]), 2)
        self.assertIn('references network "elsewhere", but cluster cluster2 has network "net2"', found["lines"][0])
        self.assertIn('Proxy echo-v1.demo of cluster cluster2 has NETWORK "net9" instead of "net2"', found["lines"][1])

    def test_same_cluster_name(self):
        self.status_of(2)["cluster"] = "cluster1"
        found = self.finding(self.json("multicluster", "check", expect=1), "networks")
        self.assertIn('Contexts cluster1 and cluster2 are both cluster "cluster1"', found["lines"])

    def flat(self, address):
        for n in (1, 2):
            self.status_of(n)["network"] = "flat"
            self.status_of(n)["gateways"][0]["network"] = "flat"
            self.status_of(n)["peers"][0]["network"] = "flat"
            for c in self.fakes[n - 1].answers["/connections"]["connections"]:
                c["network"] = "flat"
        self.fakes[0].answers["/services"]["global"][0]["endpoints"].append(
            endpoint("cluster2", "flat", "autogenflat.cluster2.demo.echo-v1.0123456789ab", address))

    def test_flat(self):
        self.flat("10.100.0.11")
        found = self.finding(self.json("multicluster", "check"), "stale-workloads")
        self.assertEqual((found["status"], found["text"]), ("pass", "no stale workload entries found"))

    def test_flat_stale(self):
        self.flat("10.100.0.99")
        found = self.finding(self.json("multicluster", "check", expect=1), "stale-workloads")
        self.assertEqual(found["lines"], ["autogenflat.cluster2.demo.echo-v1.0123456789ab (10.100.0.99) in cluster cluster1 "
                                          "has no live pod in cluster cluster2"])


class ExposeAndLink(Base):
    def test_expose(self):
        status = self.status_of(1)
        gateway = status["gateways"][0]
        status["gateways"] = []
        file = os.path.join(self.manifests(1), "istio-eastwest.yaml")

        def now():  # the control plane takes the object as soon as the file is there
            return dict(status, gateways=[dict(gateway, addresses=["10.1.1.1", "gw.example.com"])] if os.path.exists(file) else [])

        self.fakes[0].answers["/status"] = now
        args = ["multicluster", "expose", "--context", "cluster1", "-n", "istio-eastwest", "--address", "10.1.1.1",
                "--address=gw.example.com"]
        yaml = self.out(*args, "--generate")
        self.assertFalse(os.path.exists(file))
        self.assertEqual(self.out(*args), 'Gateway istio-eastwest/istio-eastwest applied to cluster "cluster1" (network '
                                          '"net1", address 10.1.1.1, gw.example.com)\n')
        with open(file, encoding="utf-8") as f:
            self.assertEqual(f.read(), yaml)
        self.assertIn('    istio.io/expose-istiod: "15012"\n', yaml)
        self.assertIn("    topology.istio.io/network: net1\n", yaml)
        before = os.stat(file).st_ino
        self.assertIn('unchanged in cluster "cluster1"', self.out(*args))
        self.assertEqual(os.stat(file).st_ino, before)
        self.assertEqual(os.listdir(self.manifests(1)), ["istio-eastwest.yaml"])
        # Without --address the ones it has stay.
        self.assertIn("unchanged", self.out(*args[:6]))

    def test_expose_refused_by_the_control_plane(self):
        self.status_of(1).update(gateways=[])
        self.status_of(1)["manifests"]["problems"] = [{"file": "istio-eastwest.yaml", "line": 1, "reason": "no"}]
        said = self.err("multicluster", "expose", "--context=cluster1", "-nistio-eastwest", "--address=10.1.1.1", expect=1)
        self.assertIn("istio-eastwest.yaml:1: no", said)

    def test_expose_complaints(self):
        base = ["--context=cluster1", "multicluster", "expose", "-n", "istio-eastwest"]
        self.assertIn("neither an IP address nor a host name", self.err(*base, "--address", "a:1", expect=2))
        self.assertIn("small letters", self.err(*base, "--name", "../x", expect=2))
        self.status_of(1)["gateways"][0]["object"] = "mine.yaml:4"
        self.assertIn("stands in mine.yaml:4 already", self.err(*base, "--address", "10.1.1.1", expect=1))
        self.status_of(1)["network"] = ""
        self.assertIn("has no network", self.err(*base, expect=1))

    def link(self, *args, expect=0):
        return self.run_it("multicluster", "link", "--namespace", "istio-eastwest", *args, expect=expect)

    def test_link(self):
        both = self.link("--contexts=cluster1,cluster2").stdout
        self.assertEqual(both, 'Gateway istio-eastwest/istio-remote-peer-cluster2 applied to cluster "cluster1" pointing to '
                               'cluster "cluster2" (network "net2")\n'
                               'Gateway istio-eastwest/istio-remote-peer-cluster1 applied to cluster "cluster2" pointing to '
                               'cluster "cluster1" (network "net1")\n')
        self.assertEqual(os.listdir(self.manifests(1)), ["istio-remote-peer-cluster2.yaml"])
        with open(os.path.join(self.manifests(2), "istio-remote-peer-cluster1.yaml"), encoding="utf-8") as f:
            yaml = f.read()
        self.assertEqual(yaml, """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  annotations:
    gateway.istio.io/service-account: istio-eastwest
    gateway.istio.io/trust-domain: cluster.local
  labels:
    topology.istio.io/cluster: cluster1
    topology.istio.io/network: net1
    topology.kubernetes.io/region: r1
    topology.kubernetes.io/zone: z1
  name: istio-remote-peer-cluster1
  namespace: istio-eastwest
spec:
  addresses:
  - type: IPAddress
    value: 172.18.0.11
  gatewayClassName: istio-remote
  listeners:
  - name: cross-network
    port: 15008
    protocol: HBONE
    tls:
      mode: Passthrough
  - name: xds-tls
    port: 15012
    protocol: TLS
    tls:
      mode: Passthrough
""")
        self.assertEqual(self.link("--generate", "--context", "cluster1").stdout, yaml)
        self.assertEqual(self.out("multicluster", "link", "--generate", "--context", "cluster1"), yaml)
        again = self.link("--contexts=cluster1,cluster2").stdout
        self.assertEqual(again.count("unchanged in cluster"), 2)
        changed = self.json("multicluster", "link", "-n", "istio-eastwest", "--contexts=cluster1,cluster2")
        self.assertEqual([o["changed"] for o in changed["objects"]], [False, False])

    def test_link_one_way(self):
        self.link("--from", "cluster1", "--to", "cluster2")
        self.assertEqual(os.listdir(self.manifests(1)), ["istio-remote-peer-cluster2.yaml"])
        self.assertEqual(os.listdir(self.manifests(2)), [])

    def test_link_wants_an_exposed_gateway(self):
        for gateways in ([], [dict(self.status_of(2)["gateways"][0], addresses=[])]):
            self.status_of(2)["gateways"] = gateways
            said = self.link("--contexts=cluster1,cluster2", expect=1).stderr
            self.assertIn("peerctl multicluster expose --context cluster2 --namespace istio-eastwest --address IP|HOST", said)
            self.assertEqual(os.listdir(self.manifests(1)) + os.listdir(self.manifests(2)), [])

    def test_link_wrong_use(self):
        for args in ([], ["--from", "cluster1"], ["--contexts=cluster1", "--from=cluster1", "--to=cluster2"],
                     ["--contexts=cluster1"], ["--contexts=cluster1,cluster1"], ["--contexts=cluster1,,cluster2"]):
            self.link(*args, expect=2)
        self.status_of(2)["cluster"] = "../../etc"
        self.assertIn("cannot be part of an object name", self.link("--contexts=cluster1,cluster2", expect=1).stderr)
        os.rmdir(self.manifests(2))
        self.status_of(2)["cluster"] = "cluster2"
        self.assertIn("does not exist", self.link("--contexts=cluster1,cluster2", expect=1).stderr)


class Views(Base):
    def test_proxy_status(self):
        text = self.out("proxy-status", "--context", "cluster1")
        self.assertRegex(text, r"(?m)^NAME +CLUSTER +ISTIOD +VERSION +SUBSCRIBED TYPES$")
        self.assertRegex(text, r"(?m)^echo-v1.demo +cluster1 +cluster1 +0.1.0 +2 \(WADS,WDS\)$")
        self.assertRegex(text, r"(?m)^peering-cluster2.istio-system +cluster2 +cluster1 +0.1.0 +3 \(FSDS,SGDS,WDS\)$")
        doc = self.json("proxy-status")
        self.assertEqual(doc["contexts"][0]["connections"][0]["types"][0]["sent"], 2)

    def test_get(self):
        one = ["--context", "cluster1"]
        self.assertRegex(self.out("get", "services", "-A", *one),
                         r"(?m)^demo +global-service +global-service.demo.mesh.internal +240.240.0.1 +5000,80 +2/2$")
        self.assertRegex(self.out("get", "svc", "-n", "demo", "-o", "wide", *one),
                         r"(?m)^global-service .* global +cluster1,cluster2 +FAILOVER \[NETWORK\]$")
        self.assertEqual(self.out("get", "services", "-o", "name", *one), "service/global-service\n")
        self.assertRegex(self.out("get", "workloads", *one), r"(?m)^demo +echo-v1 +10.100.0.11 +cluster1 +net1 +HBONE +True$")
        self.assertRegex(self.out("get", "peers", *one),
                         r"(?m)^istio-eastwest +istio-remote-peer-cluster2 +cluster2 +net2 +172.18.0.12 +True +True +fresh$")
        lost = peer("cluster2", "net2", true=2)
        lost.update(data="stale", dataAgeMs=90000, retryMs=1500, lastError="no route")
        self.status_of(1)["peers"].append(lost)
        self.assertRegex(self.out("get", "peers", *one), r"(?m) False +False +stale +90s +in 2s +no route$")
        self.status_of(1)["peers"].pop()
        gateways = self.out("get", "gateways", *one)
        self.assertRegex(gateways, r"(?m)^NAMESPACE +NAME +CLASS +ADDRESS +PROGRAMMED +AGE$")
        self.assertRegex(gateways, r"(?m)^istio-eastwest +istio-remote-peer-cluster2 +istio-remote +172.18.0.12 +True +<unknown>$")
        self.assertRegex(self.out("get", "serviceentries", "-n", "istio-system", *one),
                         r'(?m)^autogen.demo.global-service +\["global-service.demo.mesh.internal"\] +STATIC +<unknown>$')
        self.assertRegex(self.out("get", "workloadentries", *one),
                         r"(?m)^istio-system +autogen.cluster2.demo.global-service +<unknown> +True +fresh$")
        self.assertNotIn("Pod/demo", self.out("get", "workloadentries", *one))
        doc = self.json("get", "workloads", *one)
        self.assertEqual((doc["schema"], doc["items"][0]["value"]["protocol"]), ("isthmus.get.workloads/v1", "HBONE"))
        self.fakes[0].answers["/services"]["global"][0]["warning"] = "ports differ"
        self.assertIn("warning: global-service.demo.mesh.internal: ports differ", self.run_it("get", "svc", *one).stderr)
        nothing = self.run_it("get", "services", "-n", "none", *one)
        self.assertEqual(nothing.stdout, "")
        self.assertIn("no services found in namespace none", nothing.stderr)

    def test_explain(self):
        args = ["explain", "demo/client", "global-service.demo.mesh.internal:5000", "--context", "cluster1"]
        text = self.out(*args)
        self.assertIn("  1. source x\n  2. name y\n", text)
        self.assertIn("  next hop:        172.18.0.12:15008\n", text)
        self.assertEqual(self.fakes[0].asked, ["/explain?src=demo%2Fclient&dst=global-service.demo.mesh.internal%3A5000"])
        self.assertEqual(self.json(*args)["decision"]["kind"], "double-hbone")
        decision = self.fakes[0].answers["/explain"]["decision"]
        decision.update(policy="deny: by demo/only-me")
        self.assertIn("deny: by demo/only-me", self.out(*args, expect=1))
        decision.update(kind="refused", error="no healthy endpoint", policy="")
        self.assertIn("Decision: the connection is refused\n  why:             no healthy endpoint", self.out(*args, expect=1))
        self.fakes[0].answers["/explain"] = {"schema": "isthmus.explain/v1", "error": "no such source"}
        self.assertIn("demo/client: no such source", self.err(*args, expect=1))
        self.assertIn("the destination is HOST:PORT", self.err("explain", "a/b", "c", "--context=cluster1", expect=2))

    def test_status(self):
        text = self.out("status")
        self.assertIn("Cluster cluster1 (context cluster1, unix:", text)
        self.assertIn("peer:             cluster2, connected and synced, data fresh, 3 services\n", text)
        self.assertEqual(len(self.json("status")["contexts"]), 2)
        self.status_of(2).update(ready=False, pending="local state")
        self.assertIn("not ready: local state", self.out("status", expect=1))

    def test_status_waits(self):
        status, asked = self.status_of(1), []

        def later():
            asked.append(1)
            return dict(status, ready=len(asked) > 2)

        self.fakes[0].answers["/status"] = later
        self.out("status", "--wait", "--timeout", "30s", "--context", "cluster1")
        self.assertEqual(len(asked), 3)
        status["peers"] = [peer("cluster2", "net2", true=2)]
        said = self.err("status", "--wait", "--timeout", "300ms", "--context", "cluster1", expect=1)
        self.assertIn("waited in vain for cluster1 to be synced with cluster2", said)


class Certs(Base):
    def test_show(self):
        text = self.out("certs", "show", os.path.join(self.pki, "cluster1", "cert-chain.pem"))
        self.assertIn("L=cluster1", text)
        self.assertEqual(text.count("SHA-256:"), 2)
        doc = self.json("certs", "show", os.path.join(self.pki, "root-cert.pem"))
        self.assertTrue(doc["certificates"][0]["ca"])
        self.assertIn("no certificate in PEM form", self.err("certs", "show", os.path.join(self.pki, "root-key.pem"), expect=1))

    def test_files(self):
        self.assertEqual(sorted(os.listdir(os.path.join(self.pki, "cluster1"))),
                         ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"])
        self.assertEqual(os.stat(os.path.join(self.pki, "root-key.pem")).st_mode & 0o777, 0o600)
        self.assertIn("--force", self.err("certs", "root", "--dir", self.pki, expect=1))
        self.assertIn("peerctl certs root", self.err("certs", "cacerts", "x", "--dir", self.dir.name, expect=1))

    def test_token(self):
        where = os.path.join(self.dir.name, "issuer")
        token = ["certs", "token", "--namespace", "demo", "--service-account", "client", "--dir", where]
        self.assertIn("peerctl certs issuer", self.err(*token, expect=1))
        self.out("certs", "issuer", "--dir", where)
        self.assertRegex(self.out(*token, "--pod", "p", "--ttl=1h"), r"^[\w-]+\.[\w-]+\.[\w-]+\n$")
        self.assertIn("--service-account", self.err(*token[:4], expect=2))


if __name__ == "__main__":
    PEERCTL = os.path.abspath(sys.argv.pop(1))
    unittest.main()
