#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our xDS ends against grpcio, over TLS on loopback: grpcio as client of our server and as server for our client.

Usage: xds_grpcio.py <xds_probe> <protoc-c>. Message classes are made at run time from xds/proto. Exit 77: grpcio is missing."""
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent import futures

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

PROBE, PROTOC = sys.argv[1:3]
PROTOS = pathlib.Path(__file__).resolve().parents[3] / "xds" / "proto"
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
CA = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
NAME = "istiod.istio-system.svc"
ADDRESS = "type.googleapis.com/istio.workload.Address"
POLICY = "type.googleapis.com/istio.security.Authorization"
WAIT = 20
failures = 0


def check(ok, what):
    global failures
    if not ok:
        failures += 1
        print("FAILED:", what, flush=True)


def classes(tmp):
    names = ["discovery.proto", "citadel.proto", "workload.proto"]
    pool = descriptor_pool.DescriptorPool()
    for i, name in enumerate(names):
        out = f"{tmp}/set{i}"
        subprocess.run([PROTOC, f"--proto_path={PROTOS}", f"--descriptor_set_out={out}", str(PROTOS / name)], check=True)
        for f in descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out).read_bytes()).file:
            pool.Add(f)
    factory = message_factory.MessageFactory(pool)
    return lambda name: factory.GetPrototype(pool.FindMessageTypeByName(name))


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_ca(directory, leaf_ext):
    os.makedirs(directory)
    p = lambda name: f"{directory}/{name}"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", p("root.key"),
            "-out", p("root.pem"), "-subj", "/O=Istio/CN=Root CA", "-days", "2", "-addext",
            "keyUsage=critical,keyCertSign,digitalSignature")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", p("server.key"),
            "-out", p("csr.pem"), "-subj", "/O=Istio")
    pathlib.Path(p("ext")).write_text(leaf_ext)
    openssl("x509", "-req", "-in", p("csr.pem"), "-CA", p("root.pem"), "-CAkey", p("root.key"), "-CAcreateserial",
            "-days", "1", "-extfile", p("ext"), "-out", p("server.pem"))
    return directory


SERVER_EXT = (f"subjectAltName=DNS:{NAME}\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:false\n"
              "keyUsage=critical,digitalSignature\n")


class Probe:
    """A running xds_probe: lines out of it by expect(), lines into it by say()."""

    def __init__(self, *args):
        self.p = subprocess.Popen([PROBE, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, bufsize=1)
        self.lines, self.log = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()
        self.errors = threading.Thread(target=lambda: self.log.extend(self.p.stderr), daemon=True)
        self.errors.start()

    def _read(self):
        for line in self.p.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def say(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()

    def expect(self, prefix):
        """The next line beginning so; others before it are dropped. None when it does not come."""
        try:
            while True:
                line = self.lines.get(timeout=WAIT)
                if line is None or line.startswith(prefix):
                    check(line is not None, f"xds_probe ended before '{prefix}'")
                    return line
        except queue.Empty:
            check(False, f"xds_probe never said '{prefix}'")
            return None

    def commit(self):
        self.say("commit")
        self.expect("committed ")

    def quit(self):
        try:
            self.say("quit")
        except (BrokenPipeError, ValueError):
            pass
        check(self.p.wait(timeout=WAIT) == 0, f"exit status {self.p.returncode}")
        self.errors.join(timeout=5)
        if self.p.returncode != 0:
            print("".join(self.log))


class Stream:
    """grpcio as client of our server: one delta stream."""

    def __init__(self, channel, Request, Response, metadata=(("authorization", "Bearer good"), ("clusterid", "c1"))):
        self.out, self.Request = queue.Queue(), Request
        call = channel.stream_stream(ADS, request_serializer=lambda m: m.SerializeToString(),
                                     response_deserializer=Response.FromString)
        self.call = call(iter(self.out.get, None), metadata=metadata)
        self.responses = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for r in self.call:
                self.responses.put(r)
            self.responses.put(None)
        except grpc.RpcError as e:
            self.responses.put(e)

    def send(self, **fields):
        versions = fields.pop("versions", {})
        node = fields.pop("node", None)
        m = self.Request(**fields)
        for k, v in versions.items():
            m.initial_resource_versions.add(key=k.encode(), value=v.encode())
        if node:
            m.node.id = node
            s = struct_pb2.Struct()
            s.update({"NAMESPACE": "a", "LABELS": {"x": {"y": "z"}}, "N": 5})
            m.node.metadata = s.SerializeToString()
        self.out.put(m)

    def next(self):
        try:
            return self.responses.get(timeout=WAIT)
        except queue.Empty:
            check(False, "no response in time")
            return None

    def quiet(self, seconds=0.3):
        try:
            r = self.responses.get(timeout=seconds)
            check(False, f"unexpected response {r}")
        except queue.Empty:
            pass

    def end(self):
        self.out.put(None)


def named(response):
    return {r.name.decode(): r.resource.value for r in response.resources}


def server_under_test(tmp, cls):
    Request = cls("envoy.service.discovery.v3.DeltaDiscoveryRequest")
    Response = cls("envoy.service.discovery.v3.DeltaDiscoveryResponse")
    probe = Probe("server", tmp + "/good")
    port = probe.expect("port ").split()[1]
    creds = grpc.ssl_channel_credentials(pathlib.Path(tmp + "/good/root.pem").read_bytes())
    options = [("grpc.ssl_target_name_override", NAME), ("grpc.max_receive_message_length", 64 << 20)]
    channel = grpc.secure_channel(f"127.0.0.1:{port}", creds, options)
    ids = dict(node=b"ztunnel~1.1.1.1~a.b~b.svc.cluster.local")

    # A real workload, made by the other implementation, goes through our view unchanged.
    Address = cls("istio.workload.Address")
    pod = Address()
    pod.workload.uid = b"c1//Pod/a/p"
    pod.workload.addresses.append(bytes([10, 0, 0, 1]))
    payload = pod.SerializeToString()
    probe.say(f"set {ADDRESS} c1//Pod/a/p {payload.hex()} net1/10.0.0.1")
    probe.say(f"set {POLICY} a/pol 0a03706f6c")
    probe.commit()

    s = Stream(channel, Request, Response)
    s.send(type_url=ADDRESS.encode(), **ids)
    s.send(type_url=POLICY.encode(), **ids)
    check(probe.expect("node ") == "node ztunnel~1.1.1.1~a.b~b.svc.cluster.local NAMESPACE=a", "node and flat metadata")
    r = s.next()
    check(r.type_url == ADDRESS.encode() and named(r) == {"c1//Pod/a/p": payload}, "wildcard, first response")
    check(r.resources[0].resource.type_url == ADDRESS.encode() and len(r.resources[0].version) == 16, "Any and version")
    version = r.resources[0].version.decode()
    r2 = s.next()
    check(r2.type_url == POLICY.encode() and list(named(r2)) == ["a/pol"], "policies after addresses")
    s.send(type_url=r.type_url, response_nonce=r.nonce)
    s.send(type_url=r2.type_url, response_nonce=r2.nonce,
           error_detail=cls("envoy.service.discovery.v3.Status")(code=3, message=b"a/pol: no"))
    check(probe.expect("nack ") == f"nack {POLICY} a/pol: no", "NACK reported")
    s.send(type_url=r.type_url, response_nonce=b"stale", resource_names_subscribe=[b"other"])
    s.quiet()
    probe.say(f"set {ADDRESS} a/svc aabb")
    probe.say(f"del {ADDRESS} c1//Pod/a/p")
    probe.say(f"set {POLICY} a/pol2 00")
    probe.commit()
    r = s.next()
    check(named(r) == {"a/svc": b"\xaa\xbb"} and list(r.removed_resources) == [b"c1//Pod/a/p"], "pushed change and removal")
    r2 = s.next()
    check(list(named(r2)) == ["a/pol2"], "a NACKed resource is not sent again")
    # Not acknowledged: what happens meanwhile comes as one step.
    for i in range(5):
        probe.say(f"set {ADDRESS} a/svc{i} 0{i}")
        probe.commit()
    s.quiet()
    s.send(type_url=r.type_url, response_nonce=r.nonce)
    r = s.next()
    check(sorted(named(r)) == [f"a/svc{i}" for i in range(5)], "coalesced while one response is in flight")
    s.end()
    check(probe.expect("stream closed") is not None and s.next() is None, "half-close ends the stream with OK")

    # Reconnect with versions.
    probe.say(f"set {ADDRESS} c1//Pod/a/p {payload.hex()} net1/10.0.0.1")
    probe.commit()
    s = Stream(channel, Request, Response)
    held = {"c1//Pod/a/p": version, "a/svc": "0" * 16, "gone": version, **{f"a/svc{i}": "" for i in range(5)}}
    s.send(type_url=ADDRESS.encode(), versions=held, **ids)
    r = s.next()
    check(sorted(named(r)) == ["a/svc"] + [f"a/svc{i}" for i in range(5)], "unchanged resource skipped")
    check(list(r.removed_resources) == [b"gone"], "removal of what went meanwhile")
    s.call.cancel()

    # On demand.
    s = Stream(channel, Request, Response)
    s.send(type_url=ADDRESS.encode(), resource_names_subscribe=[b"*"], resource_names_unsubscribe=[b"*"], **ids)
    r = s.next()
    check(not r.resources and not r.removed_resources, "watching nothing")
    s.send(type_url=ADDRESS.encode(), response_nonce=r.nonce)
    s.send(type_url=ADDRESS.encode(), resource_names_subscribe=[b"net1/10.0.0.1", b"net1/1.1.1.1"])
    r = s.next()
    check(sorted(named(r)) == ["c1//Pod/a/p", "net1/10.0.0.1"], "by address")
    check(list(r.resources[0].aliases) == [b"net1/10.0.0.1"] and list(r.removed_resources) == [b"net1/1.1.1.1"], "aliases")
    s.send(type_url=b"type.googleapis.com/un.Known", **ids)
    r = s.next()
    check(r.type_url == b"type.googleapis.com/un.Known" and not r.resources, "unknown type: empty reply")
    s.call.cancel()

    # Errors.
    for fields, metadata, code, text in (
            (dict(type_url=ADDRESS.encode()), None, grpc.StatusCode.INVALID_ARGUMENT, "missing node information"),
            (dict(type_url=ADDRESS.encode(), node=b"forbidden~x"), None, grpc.StatusCode.PERMISSION_DENIED,
             "authorization failed: spiffe://td/ns/a/sa/b"),
            (dict(type_url=ADDRESS.encode(), **ids), (("authorization", "Bearer evil"),),
             grpc.StatusCode.UNAUTHENTICATED, "authentication failure")):
        s = Stream(channel, Request, Response, **({"metadata": metadata} if metadata else {}))
        s.send(**fields)
        e = s.next()
        check(isinstance(e, grpc.RpcError) and e.code() == code and e.details() == text, f"{code}: {e}")

    # A response larger than every window.
    big = bytes(range(256)) * 4000
    for i in range(12):
        probe.say(f"set {ADDRESS} big/{i} {big.hex()}")
    probe.commit()
    s = Stream(channel, Request, Response)
    s.send(type_url=ADDRESS.encode(), **ids)
    r = s.next()
    check(sum(n.startswith("big/") and v == big for n, v in named(r).items()) == 12, "12 MB response")
    s.call.cancel()

    # Certificates.
    CsrRequest, CsrResponse = cls("istio.v1.auth.IstioCertificateRequest"), cls("istio.v1.auth.IstioCertificateResponse")
    sign = channel.unary_unary(CA, request_serializer=lambda m: m.SerializeToString(),
                               response_deserializer=CsrResponse.FromString)
    md = struct_pb2.Struct()
    md.update({"ImpersonatedIdentity": "spiffe://td/ns/x/sa/y", "Other": [1, 2]})
    q = CsrRequest(csr=b"PEM", validity_duration=86400, metadata=md.SerializeToString())
    good = (("authorization", "Bearer good"), ("clusterid", "c1"))
    r = sign(q, metadata=good, timeout=WAIT)
    check(list(r.cert_chain) == [b"leaf", b"intermediate", b"roots"], "certificate chain")
    check(probe.expect("csr ") == "csr PEM 86400 spiffe://td/ns/x/sa/y by spiffe://td/ns/a/sa/b", "request seen by the CA")
    for q, md, code, text in ((CsrRequest(csr=b"bad"), good, grpc.StatusCode.INVALID_ARGUMENT, "CSR signing error (bad)"),
                              (q, (), grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")):
        try:
            sign(q, metadata=md, timeout=WAIT)
            check(False, f"{code} expected")
        except grpc.RpcError as e:
            check(e.code() == code and e.details() == text, f"{code}: {e}")
    try:
        channel.unary_unary("/no.Such/Method")(b"", timeout=WAIT)
        check(False, "unknown method must fail")
    except grpc.RpcError as e:
        check(e.code() == grpc.StatusCode.UNIMPLEMENTED and e.details() == "unknown service no.Such", f"unimplemented: {e}")

    # Drain.
    s = Stream(channel, Request, Response)
    s.send(type_url=POLICY.encode(), **ids)
    s.next()
    probe.say("drain")
    e = s.next()
    check(isinstance(e, grpc.RpcError) and e.code() == grpc.StatusCode.UNAVAILABLE, f"drained: {e}")
    channel.close()
    probe.quit()


class Server:
    """grpcio as server for our client; each new stream is put into `streams`."""

    def __init__(self, directory, cls, mutual=False):
        Request = cls("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        Response = cls("envoy.service.discovery.v3.DeltaDiscoveryResponse")
        self.Response, self.Resource = Response, cls("envoy.service.discovery.v3.Resource")
        self.streams, self.csrs = queue.Queue(), queue.Queue()
        CsrRequest, self.CsrResponse = (cls("istio.v1.auth.IstioCertificateRequest"),
                                        cls("istio.v1.auth.IstioCertificateResponse"))

        def ads(requests, context):
            s = {"in": queue.Queue(), "out": queue.Queue(), "metadata": dict(context.invocation_metadata()),
                 "context": context}

            def read():
                try:
                    for r in requests:
                        s["in"].put(r)
                except Exception:  # the client went away
                    pass
                s["in"].put(None)
            threading.Thread(target=read, daemon=True).start()
            self.streams.put(s)
            while True:
                m = s["out"].get()
                if isinstance(m, tuple):
                    context.abort(*m)
                if m is None:
                    return
                yield m

        def csr(request, context):
            self.csrs.put((request, dict(context.invocation_metadata())))
            if request.csr == b"bad":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
            return self.CsrResponse(cert_chain=[b"leaf", b"root"])

        serialize = lambda m: m.SerializeToString()
        handlers = {
            ADS.split("/")[1]: {"DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                ads, Request.FromString, serialize)},
            CA.split("/")[1]: {"CreateCertificate": grpc.unary_unary_rpc_method_handler(csr, CsrRequest.FromString, serialize)},
        }
        self.pool = futures.ThreadPoolExecutor(max_workers=16)
        self.server = grpc.server(self.pool, options=[("grpc.max_send_message_length", 128 << 20)])
        self.server.add_generic_rpc_handlers(tuple(grpc.method_handlers_generic_handler(k, v) for k, v in handlers.items()))
        read = lambda n: pathlib.Path(f"{directory}/{n}").read_bytes()
        creds = grpc.ssl_server_credentials([(read("server.key"), read("server.pem"))], read("root.pem") if mutual else None,
                                            mutual)
        self.port = self.server.add_secure_port("127.0.0.1:0", creds)
        self.server.start()

    def stream(self):
        return self.streams.get(timeout=WAIT)

    def response(self, type_url, nonce, resources=(), removed=()):
        r = self.Response(type_url=type_url.encode(), nonce=nonce.encode(), removed_resources=[n.encode() for n in removed])
        for name, version, value in resources:
            m = r.resources.add(name=name.encode(), version=version.encode())
            m.resource.type_url = type_url.encode()
            if value is not None:
                m.resource.value = value
        return r


def client_under_test(tmp, cls):
    server = Server(tmp + "/good", cls)
    probe = Probe("client", f"127.0.0.1:{server.port}", tmp + "/good", ADDRESS, POLICY)
    s = server.stream()
    md = s["metadata"]
    check(md.get("authorization") == "Bearer good" and md.get("clusterid") == "c1", f"metadata {md}")
    for url in (ADDRESS, POLICY):
        q = s["in"].get(timeout=WAIT)
        check(q.type_url == url.encode() and not q.resource_names_subscribe and not q.initial_resource_versions, "wildcard")
        check(q.node.id == b"ztunnel~1.1.1.1~probe.istio-system~istio-system.svc.cluster.local", "node id")
        meta = struct_pb2.Struct.FromString(q.node.metadata)
        check(dict(meta) == {"NAMESPACE": "istio-system", "CLUSTER_ID": "c1"}, f"node metadata {meta}")
    s["out"].put(server.response(ADDRESS, "n1", [("a/b", "v1", b"one"), ("a/bad", "v1", b"!"), ("a/c", "v1", b"two")]))
    check(probe.expect("state connected") is not None, "connected")
    check(probe.expect("resource ") == f"resource {ADDRESS} a/b v1 {b'one'.hex()}", "first resource")
    check(probe.expect("batch ") == "batch 2 1 0", "batch")
    q = s["in"].get(timeout=WAIT)
    check(q.response_nonce == b"n1" and q.error_detail.message == b"a/bad: does not like it" and not q.node.id, "NACK")
    s["out"].put(server.response(POLICY, "n2"))
    check(probe.expect("state synced") is not None, "synced after one reply of every type")
    q = s["in"].get(timeout=WAIT)
    check(q.response_nonce == b"n2" and q.type_url == POLICY.encode() and not q.HasField("error_detail"), "ACK")
    big = b"x" * (900 * 1024)
    s["out"].put(server.response(ADDRESS, "n3", [(f"big/{i}", "", big) for i in range(20)], ["a/b", "never/heard"]))
    check(probe.expect("removed ") == f"removed {ADDRESS} a/b", "removal")
    check(probe.expect("batch ") == "batch 20 0 1", "18 MB response")
    check(s["in"].get(timeout=WAIT).response_nonce == b"n3", "ACK of the large one")

    # The stream breaks: state is kept, the reconnect says what is held.
    s["out"].put((grpc.StatusCode.UNAVAILABLE, "going down: 50% left"))
    line = probe.expect("state disconnected")
    check(line == "state disconnected rpc error: code = Unavailable desc = going down: 50% left", line)
    s = server.stream()
    q = s["in"].get(timeout=WAIT)
    held = {v.key.decode(): v.value.decode() for v in q.initial_resource_versions}
    check(held == {"a/c": "v1", **{f"big/{i}": "" for i in range(20)}}, f"versions held: {sorted(held)}")
    s["out"].put(server.response(ADDRESS, "n4", removed=[f"big/{i}" for i in range(20)]))
    check(probe.expect("batch ") == "batch 0 0 20", "removals after the reconnect")
    s["out"].put(server.response("type.googleapis.com/un.Known", "n5"))
    for want in (POLICY, ADDRESS, "type.googleapis.com/un.Known"):
        q = s["in"].get(timeout=WAIT)
        check(q.type_url == want.encode(), f"order of answers {q.type_url}")
    check(q.error_detail.message == b"type.googleapis.com/un.Known: unknown type", "NACK of an unknown type")
    s["out"].put(None)
    check(probe.expect("state disconnected") == "state disconnected EOF", "orderly end")
    s = server.stream()
    probe.say("reconnect")
    check(server.stream() is not None, "reconnect on demand")

    # The CA, as the other implementation plays it.
    def ca(*args):
        p = Probe("ca", f"127.0.0.1:{server.port}", tmp + "/good", *args)
        line = p.expect("ca ")
        p.quit()
        return line
    check(ca("tok", "PEM", "spiffe://td/ns/a/sa/b") == "ca PG_OK  [leaf] [root]", "certificate call")
    q, md = server.csrs.get(timeout=WAIT)
    check(q.csr == b"PEM" and q.validity_duration == 86400 and md.get("authorization") == "Bearer tok", "CSR request")
    check(dict(struct_pb2.Struct.FromString(q.metadata)) == {"ImpersonatedIdentity": "spiffe://td/ns/a/sa/b"}, "impersonation")
    line = ca("tok", "bad", "")
    check(line == "ca PG_E_DENIED rpc error: code = Unauthenticated desc = request authenticate failure", line)

    server.server.stop(0).wait()
    line = probe.expect("state disconnected")
    probe.say("reconnect")
    line = probe.expect("state disconnected")
    refused = f'connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:{server.port}: connect: connection refused"'
    while line is not None and "connection refused" not in line:
        line = probe.expect("state disconnected")
    check(line == f"state disconnected rpc error: code = Unavailable desc = {refused}", line)
    probe.quit()
    log = [l for l in probe.log if "deltaadsc" in l]
    check(any("\twarn\tdeltaadsc\tdisconnected, retrying in " in l and refused in l and l.rstrip().endswith("target=peering-c2")
              for l in log), f"log line: {log[-1:]}")
    server.pool.shutdown(wait=False)


def failures_under_test(tmp, cls):
    """What operators see when certificates or names are wrong."""
    server = Server(tmp + "/good", cls)
    for directory, address, want in (
            (tmp + "/other", f"127.0.0.1:{server.port}", "transport: authentication handshake failed: "),
            (tmp + "/good", f"no-such-host.invalid:{server.port}", "dial tcp: lookup no-such-host.invalid: ")):
        probe = Probe("client", address, directory, ADDRESS)
        line = probe.expect("state disconnected")
        check(line is not None and want in line, f"{want}: {line}")
        probe.quit()
    server.server.stop(0).wait()
    server.pool.shutdown(wait=False)

    # A client certificate the server's roots do not know: in TLS 1.3 the alert comes after the client's handshake. grpcio
    # hangs up without an alert; openssl sends it, as Go does.
    os.makedirs(tmp + "/mixed")
    for name, source in (("server.pem", "other"), ("server.key", "other"), ("root.pem", "good")):
        shutil.copy(f"{tmp}/{source}/{name}", f"{tmp}/mixed/{name}")
    good = tmp + "/good/"
    peer = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", good + "server.pem", "-key",
                             good + "server.key", "-CAfile", good + "root.pem", "-Verify", "3", "-verify_return_error",
                             "-alpn", "h2", "-tls1_3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)
    port = next(line.rsplit(":", 1)[1].strip() for line in peer.stdout if line.startswith("ACCEPT "))
    threading.Thread(target=peer.stdout.read, daemon=True).start()
    probe = Probe("mclient", f"127.0.0.1:{port}", tmp + "/mixed", ADDRESS)
    line = probe.expect("state disconnected")
    want = 'connection error: desc = "error reading server preface: remote error: tls: unknown certificate authority"'
    check(line == "state disconnected rpc error: code = Unavailable desc = " + want, line)
    probe.quit()
    peer.kill()
    peer.wait()

    server = Server(good, cls, mutual=True)
    probe = Probe("mclient", f"127.0.0.1:{server.port}", good, ADDRESS)
    check(server.stream() is not None, "a client certificate of the right root is taken")
    probe.quit()
    server.server.stop(0).wait()
    server.pool.shutdown(wait=False)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        cls = classes(tmp)
        make_ca(tmp + "/good", SERVER_EXT)
        make_ca(tmp + "/other", SERVER_EXT)
        for test in (server_under_test, client_under_test, failures_under_test):
            print(test.__name__, flush=True)
            test(tmp, cls)
    print("failed" if failures else "passed", flush=True)
    os._exit(1 if failures else 0)  # grpcio threads may linger


main()
