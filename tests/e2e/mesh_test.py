#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two whole clusters in network namespaces: what users do to them, and what happens then.

usage: mesh_test.py BIN_DIR [--flat] [-k WORD]

Starts examples/demo/demo.sh --keep with its own prefix and directory, then runs each check against the running programs. Needs
root; exits 77 (skipped, and says why) without it. MESH_TEST_BYTES sets the size of the big transfers (default 64 MiB).
"""
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.join(HERE, "..", "..", "examples", "demo", "demo.sh")
BYTES = int(os.environ.get("MESH_TEST_BYTES", 64 << 20))
CLIENT = "client"


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=5)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5)
        self.sock.connect(self.path)


class Mesh:
    def __init__(self, bin_dir, flat):
        self.bin = bin_dir
        self.flat = flat
        self.pre = "imt%d" % (os.getpid() % 10000)
        self.dir = tempfile.mkdtemp(prefix="isthmus-mesh-") + "/run"
        self.env = dict(os.environ, ISTHMUS_BIN=bin_dir, ISTHMUS_DEMO_DIR=self.dir, ISTHMUS_DEMO_PREFIX=self.pre, NO_COLOR="1",
                        ASAN_OPTIONS="detect_leaks=0")

    def up(self):
        args = ["bash", DEMO, "--keep"] + (["--flat"] if self.flat else [])
        self.story = subprocess.run(args, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280)
        if self.story.returncode != 0:
            print(self.story.stdout)
            raise SystemExit("the demo itself failed with status %d" % self.story.returncode)

    def down(self):
        if os.environ.get("MESH_TEST_LOGS") and os.path.isdir(self.dir + "/log"):
            shutil.copytree(self.dir + "/log", os.environ["MESH_TEST_LOGS"], dirs_exist_ok=True)
        subprocess.run(["bash", DEMO, "--clean"], env=self.env, check=True)
        shutil.rmtree(os.path.dirname(self.dir), ignore_errors=True)

    def ns(self, n, part):
        return "%s-%d-%s" % (self.pre, n, part)

    def run(self, n, part, *command, timeout=30, data=None):
        return subprocess.run(["ip", "netns", "exec", self.ns(n, part), *command], input=data, capture_output=True, timeout=timeout)

    def sh(self, n, part, text, timeout=120):
        return self.run(n, part, "bash", "-c", text, timeout=timeout)

    def curl(self, n, url, *more, part=CLIENT, seconds=10):
        r = self.run(n, part, "curl", "-sS", "-m", str(seconds), *more, url, timeout=seconds + 10)
        return r.returncode, r.stdout.decode(errors="replace"), r.stderr.decode(errors="replace")

    def get(self, n, path):
        c = Unix("%s/cluster%d/admin.sock" % (self.dir, n))
        c.request("GET", path)
        body = c.getresponse().read()
        c.close()
        return json.loads(body)

    def ctl(self, *args, timeout=60):
        prog = find(self.bin, "peerctl")
        return subprocess.run([prog, "--contexts-file", self.dir + "/contexts", *args], capture_output=True, text=True, timeout=timeout,
                              env=self.env)

    def manifest(self, n, name, text):
        path = "%s/cluster%d/manifests/%s" % (self.dir, n, name)
        if text is None:
            if os.path.exists(path):
                os.unlink(path)
            return
        with open(path + ".tmp", "w") as f:
            f.write(text)
        os.rename(path + ".tmp", path)

    def log(self, name):
        with open("%s/log/%s.log" % (self.dir, name), errors="replace") as f:
            return f.read()

    def pid(self, name):
        with open("%s/pid/%s" % (self.dir, name)) as f:
            return int(f.read())

    def kill(self, name, sig=signal.SIGKILL):
        pid = self.pid(name)
        os.kill(pid, sig)
        self.wait("%s to end" % name, 15, lambda: gone(pid))

    def start(self, name):
        subprocess.run(["bash", "%s/cmd/%s" % (self.dir, name)], check=True)

    def peer(self, n):
        return self.get(n, "/status")["peers"][0]

    def globals(self, n):
        return {g["name"]: g for g in self.get(n, "/services")["global"]}

    @staticmethod
    def wait(what, seconds, cond):
        end = time.monotonic() + seconds
        last = None
        while time.monotonic() < end:
            try:
                last = cond()
                if last:
                    return last
            except (OSError, KeyError, IndexError, ValueError, http.client.HTTPException) as e:
                last = e
            select_pause()
        raise AssertionError("waited %d s for %s in vain; last: %s" % (seconds, what, last))


def select_pause():
    # Polling of an outside condition, bounded by wait(): not a synchronisation by time.
    import select
    select.select([], [], [], 0.05)


def gone(pid):
    """Ended with all its threads; the leader alone may be a zombie while another thread still holds the sockets."""
    try:
        return not os.path.exists("/proc/%d" % pid) or (open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0] == "Z" and
                                                        len(os.listdir("/proc/%d/task" % pid)) == 1)
    except FileNotFoundError:
        return True


def find(root, name):
    for base, _, files in os.walk(root):
        path = os.path.join(base, name)
        if name in files and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise SystemExit("%s is not built under %s" % (name, root))


def service(name, scope=None, selector="app: echo", port=5000, extra=""):
    labels = "" if scope is None else "\n  labels: {solo.io/service-scope: %s}" % scope
    return ("apiVersion: v1\nkind: Service\nmetadata:\n  name: %s\n  namespace: demo%s%s\nspec:\n  selector: {%s}\n"
            "  ports: [{name: tcp, port: %d, targetPort: %d}]\n" % (name, labels, extra, selector, port, port))


def url(name, path="/hello", port=5000):
    return "http://%s.demo.mesh.internal:%d%s" % (name, port, path)


def check(cond, text):
    if not cond:
        raise AssertionError(text)


def who(m, name, n=1, count=8):
    seen = set()
    for _ in range(count):
        code, out, err = m.curl(n, url(name))
        check(code == 0, "curl %s: %s" % (name, err))
        seen.add(re.search(r"instance: (cluster\d)", out).group(1))
    return seen


# --- checks -----------------------------------------------------------------------------------------------------

def test_story(m):
    """The demo told the truth: what it printed shows both clusters answering and every check passed."""
    out = m.story.stdout
    check("cluster2" in out and "Hello version" in out, out)
    check("❌" not in out, out)
    check("PeerDataPlaneProgrammed" in json.dumps(m.peer(1)), "conditions missing")
    for n in (1, 2):
        for c in m.peer(n)["conditions"]:
            check(c["status"] == "True", "cluster%d: %s" % (n, c))


def test_truth_table(m):
    """All six rows of solo.io/service-scope, added while it runs, by endpoints and by real calls."""
    rows = [  # name, local label, remote label, clusters with endpoints (None: no such host)
        ("row1", "", "", None),
        ("row2", None, "global", {"cluster2"}),
        ("row3", "", "global", {"cluster2"}),
        ("row4", "global", "global", {"cluster1", "cluster2"}),
        ("row5", "global", None, {"cluster1"}),
        ("row6", "global", "", {"cluster1"}),
    ]
    for name, local, remote, _ in rows:
        for n, label in ((1, local), (2, remote)):
            m.manifest(n, name + ".yaml", None if label is None else service(name, label or None))
    want = {name: clusters for name, _, _, clusters in rows if clusters}

    def settled():
        have = m.globals(1)
        return all(name in have and {e["cluster"] for e in have[name]["endpoints"] if e["healthy"]} == clusters
                   for name, clusters in want.items()) and "row1" not in have
    m.wait("the truth table", 20, settled)
    for name, clusters in want.items():
        expected = clusters if m.flat or len(clusters) == 1 else {"cluster1"}
        # what peeringd knows reaches the proxy a moment later, and each of its workers forgets failures for itself, after 10 s
        m.wait("answers of %s" % name, 15, lambda: who(m, name, count=16) == expected)
        check(who(m, name, count=16 if m.flat else 6) == expected, "%s answered by %s" % (name, who(m, name)))
    code, _, err = m.curl(1, url("row1"))
    check(code == 6, "row1 must not resolve: %d %s" % (code, err))
    for name, *_ in rows:
        for n in (1, 2):
            m.manifest(n, name + ".yaml", None)
    m.wait("rows to go", 20, lambda: not any(r in m.globals(1) for r in want))


def test_labels_change(m):
    """A label added and taken away while it runs."""
    m.manifest(2, "late.yaml", service("late"))
    m.wait("cluster2 to read it", 10, lambda: any(s["name"] == "late" for s in m.get(2, "/services")["services"]))
    check("late" not in m.globals(1), "exported without a label")
    m.manifest(2, "late.yaml", service("late", "global"))
    m.wait("late", 10, lambda: m.curl(1, url("late"))[0] == 0)
    m.manifest(2, "late.yaml", service("late"))
    m.wait("late to go", 10, lambda: "late" not in m.globals(1))
    m.manifest(2, "late.yaml", None)


def test_no_endpoints(m):
    """A service without endpoints fails at once, with a line that says why."""
    m.manifest(1, "empty.yaml", service("empty", "global", selector="app: nobody"))
    m.wait("empty", 10, lambda: "empty" in m.globals(1))
    m.wait("its name", 10, lambda: m.curl(1, url("empty"))[0] != 6)
    begin = time.monotonic()
    code, _, err = m.curl(1, url("empty"))
    check(code in (7, 52, 56), "curl said %d %s" % (code, err))  # 7: the reset may beat the end of connect()
    check(time.monotonic() - begin < 3, "took too long")
    m.wait("the log line", 5, lambda: "no healthy upstream" in m.log("cluster1-client-hbone"))
    m.manifest(1, "empty.yaml", None)


def test_malformed_manifest(m):
    """A bad file is reported with file, line and reason; its last good version stays in force."""
    good = service("steady", "global")
    m.manifest(1, "steady.yaml", good)
    m.wait("steady", 10, lambda: "steady" in m.globals(1))
    for bad, word in ((good + "\n---\nkind: [unclosed\n", ""), (good.replace("global", "gloabl"), "gloabl"),
                      (good.replace("5000", "500000"), "port")):
        m.manifest(1, "steady.yaml", bad)
        p = m.wait("the report", 10, lambda: [p for p in m.get(1, "/status")["manifests"]["problems"] if p["file"] == "steady.yaml"])
        check(p[0]["line"] > 0 and word in p[0]["reason"], p)
        check("steady" in m.globals(1), "the good version was dropped")
        m.manifest(1, "steady.yaml", good)
        m.wait("the report to go", 10, lambda: not m.get(1, "/status")["manifests"]["problems"])
    check("steady.yaml" in m.log("cluster1-peeringd"), "nothing in the log")
    check(m.log("cluster1-peeringd").count("all files accepted again") == 3, "mending is not told")
    m.manifest(1, "steady.yaml", None)


def remote_only(m):
    m.manifest(2, "far.yaml", service("far", "global"))
    m.wait("far", 20, lambda: m.curl(1, url("far"))[0] == 0)


def test_peer_restart(m):
    """A control plane dies: its services stay while its gateway answers. The gateway dies too: unhealthy at once. Both return."""
    remote_only(m)
    m.kill("cluster2-peeringd")
    m.wait("stale", 15, lambda: m.peer(1)["data"] == "stale")
    check(who(m, "far", count=4) == {"cluster2"}, "stale data must go on serving")
    m.kill("cluster2-gw-hbone")
    m.wait("unhealthy", 15, lambda: m.peer(1)["data"] == "unhealthy")
    if not m.flat:
        m.wait("a fast refusal", 10, lambda: m.curl(1, url("far"), seconds=3)[0] in (7, 52, 56))
    check("disconnected, retrying in" in m.log("cluster1-peeringd"), "no retry line")
    m.start("cluster2-peeringd")
    m.start("cluster2-gw-hbone")
    m.wait("fresh", 60, lambda: m.peer(1)["data"] == "fresh")
    m.wait("answers", 20, lambda: m.curl(1, url("far"))[0] == 0)


def test_gateway_address(m):
    """The peer's gateway moves to another address: the link follows, calls go on."""
    if m.flat:
        return
    remote_only(m)
    ns = m.ns(2, "gw")
    subprocess.run(["ip", "-n", ns, "addr", "add", "172.18.0.52/24", "dev", "wan"], check=True)
    r = m.ctl("multicluster", "expose", "--context", "cluster2", "--namespace", "istio-eastwest", "--address", "172.18.0.52")
    check(r.returncode == 0, r.stderr)
    m.wait("cluster2 to know its address", 10, lambda: m.get(2, "/status")["gateways"][0]["addresses"] == ["172.18.0.52"])
    r = m.ctl("multicluster", "link", "--namespace", "istio-eastwest", "--contexts=cluster1,cluster2")
    check(r.returncode == 0, r.stderr)
    m.wait("the new address", 20, lambda: m.peer(1)["address"].startswith("172.18.0.52") and m.peer(1)["data"] == "fresh")
    subprocess.run(["ip", "-n", ns, "addr", "del", "172.18.0.12/24", "dev", "wan"], check=True)
    subprocess.run(["ip", "-n", ns, "addr", "add", "172.18.0.52/24", "dev", "wan"], check=False)
    m.wait("calls through the new address", 20, lambda: m.curl(1, url("far"))[0] == 0)
    again = m.ctl("multicluster", "link", "--namespace", "istio-eastwest", "--contexts=cluster1,cluster2")
    check("unchanged" in again.stdout, again.stdout)


def restart_with(m, name, edit):
    path = "%s/cmd/%s" % (m.dir, name)
    with open(path) as f:
        text = f.read()
    m.kill(name)
    with open(path + "-other", "w") as f:
        f.write(edit(text))
    subprocess.run(["bash", path + "-other"], check=True)


def test_foreign_root(m):
    """A peer under a foreign root is refused, and both sides say why."""
    peerctl = find(m.bin, "peerctl")
    foreign = m.dir + "/foreign"
    for args in (["certs", "root", "--dir", foreign], ["certs", "cacerts", "cluster2", "--dir", foreign]):
        subprocess.run([peerctl, *args], check=True, stdout=subprocess.DEVNULL)
    restart_with(m, "cluster2-peeringd", lambda t: t.replace("%s/certs/cluster2" % m.dir, foreign + "/cluster2"))
    m.wait("the reason", 30, lambda: "certificate" in m.peer(1)["lastError"])
    check(not m.peer(1).get("synced"), "synced with a foreign root")
    check("x509" in m.peer(1)["lastError"] or "unknown certificate authority" in m.peer(1)["lastError"], m.peer(1)["lastError"])
    r = m.ctl("multicluster", "check", "--contexts=cluster1,cluster2")
    check(r.returncode == 1 and "ertificate" in r.stdout, "check must fail: %s" % r.stdout)
    m.kill("cluster2-peeringd")
    m.start("cluster2-peeringd")
    m.wait("fresh again", 60, lambda: m.peer(1)["data"] == "fresh" and m.peer(2)["data"] == "fresh")


def test_wrong_trust_domain(m):
    """A peer whose trust domain nobody named is refused although the root is shared."""
    restart_with(m, "cluster2-peeringd", lambda t: t.replace("--cluster cluster2", "--cluster cluster2 --trust-domain elsewhere.example"))
    m.wait("the refusal in cluster1's log", 30, lambda: "trustdomain" in m.log("cluster1-peeringd"))
    m.kill("cluster2-peeringd")
    m.start("cluster2-peeringd")
    m.wait("fresh again", 60, lambda: m.peer(1)["data"] == "fresh" and m.peer(2)["data"] == "fresh")


def test_expired_ca(m):
    """A control plane with an expired intermediate does not start, and says which file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    import datetime
    src, dst = m.dir + "/certs/cluster2", m.dir + "/expired"
    shutil.copytree(src, dst)
    load = lambda p: x509.load_pem_x509_certificate(open(p, "rb").read())
    old, root = load(src + "/ca-cert.pem"), load(m.dir + "/certs/root-cert.pem")
    key = serialization.load_pem_private_key(open(m.dir + "/certs/root-key.pem", "rb").read(), None)
    day = datetime.timedelta(days=1)
    now = datetime.datetime.utcnow()
    b = x509.CertificateBuilder().subject_name(old.subject).issuer_name(root.subject).public_key(old.public_key())
    b = b.serial_number(4711).not_valid_before(now - 3 * day).not_valid_after(now - day)
    for e in old.extensions:
        b = b.add_extension(e.value, e.critical)
    pem = b.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    open(dst + "/ca-cert.pem", "wb").write(pem)
    open(dst + "/cert-chain.pem", "wb").write(pem + open(m.dir + "/certs/root-cert.pem", "rb").read())
    r = subprocess.run([find(m.bin, "peeringd"), "--manifests", m.dir + "/cluster2/manifests", "--cacerts", dst, "--listen", "127.0.0.1:0",
                        "--admin", ""], capture_output=True, text=True, timeout=20, env=m.env)
    check(r.returncode == 1 and "expired" in r.stderr, "%d %s" % (r.returncode, r.stderr))


def test_big_transfer(m):
    """Big transfers in both directions across clusters, compared by checksum with the same transfer inside the pod."""
    remote_only(m)
    path = "/bytes/%d" % BYTES
    base = m.sh(2, "v1", "curl -sS 127.0.0.1:5000%s | sha256sum" % path, timeout=300).stdout
    got = m.sh(1, CLIENT, "curl -sS %s | sha256sum" % url("far", path), timeout=300).stdout
    check(got == base and len(got) > 60, "download differs: %s %s" % (got, base))
    blob = m.dir + "/blob"
    with open(blob, "wb") as f:
        block = hashlib.sha512(b"isthmus").digest() * 16384
        left = BYTES
        while left > 0:
            f.write(block[:min(left, len(block))])
            left -= len(block)
    send = "curl -sS -H 'Expect:' -X POST -T %s %s"
    base = m.sh(2, "v1", send % (blob, "http://127.0.0.1:5000/sha"), timeout=300).stdout
    got = m.sh(1, CLIENT, send % (blob, url("far", "/sha")), timeout=300).stdout
    check(got == base and got.startswith(b"%d " % BYTES), "upload differs: %s %s" % (got, base))
    os.unlink(blob)


HALF_SERVER = r"""
import hashlib, socket, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("0.0.0.0", 5001)); s.listen(64)
def one(c):
    mode = c.recv(1)
    if mode == b"w":                       # our side ends first, the client goes on sending
        c.sendall(b"early\n"); c.shutdown(socket.SHUT_WR)
    if mode == b"l":                       # says that the whole way is there: connect() ends at the near proxy
        c.sendall(b"hello\n")
    h, n = hashlib.sha256(), 0
    while True:
        b = c.recv(65536)
        if not b: break
        h.update(b); n += len(b)
    if mode == b"w":
        open("@DIR@/half", "w").write("%d %s" % (n, h.hexdigest()))
    else:
        c.sendall(("%d %s" % (n, h.hexdigest())).encode())
    c.close()
while True:
    c, _ = s.accept(); threading.Thread(target=one, args=(c,), daemon=True).start()
"""
HALF_CLIENT = r"""
import hashlib, socket, sys
c = socket.create_connection(("half.demo.mesh.internal", 5001), 10); c.settimeout(30)
data = b"0123456789abcdef" * (8 << 16); mode = sys.argv[1].encode()
c.sendall(mode)
if mode == b"w":
    got = b""
    while True:
        b = c.recv(4096)
        if not b: break
        got += b
    assert got == b"early\n", got
c.sendall(data); c.shutdown(socket.SHUT_WR)
want = "%d %s" % (len(data), hashlib.sha256(data).hexdigest())
if mode != b"w":
    got = b""
    while True:
        b = c.recv(4096)
        if not b: break
        got += b
    assert got.decode() == want, (got, want)
print(want)
"""


def test_half_close(m):
    """Half-close in both orders through a cross-cluster tunnel."""
    server = subprocess.Popen(["ip", "netns", "exec", m.ns(2, "v1"), "/usr/bin/python3", "-c", HALF_SERVER.replace("@DIR@", m.dir)])
    try:
        m.manifest(2, "half.yaml", service("half", "global", selector="version: v1", port=5001))
        m.wait("half", 10, lambda: "half" in m.globals(1))
        m.wait("a half-closed answer", 20, lambda: m.run(1, CLIENT, "/usr/bin/python3", "-c", HALF_CLIENT, "r").returncode == 0)
        r = m.run(1, CLIENT, "/usr/bin/python3", "-c", HALF_CLIENT, "w")
        check(r.returncode == 0, r.stderr.decode())
        m.wait("what the server counted", 10, lambda: open(m.dir + "/half").read() == r.stdout.decode().strip())
    finally:
        server.kill()
        server.wait()
        m.manifest(2, "half.yaml", None)


def test_parallel(m):
    """500 connections at once across clusters."""
    remote_only(m)
    r = m.run(1, CLIENT, "curl", "-sS", "-m", "60", "-Z", "--parallel-immediate", "--parallel-max", "300", url("far", "/hello?[1-250]"),
              timeout=90)
    s = m.run(1, CLIENT, "curl", "-sS", "-m", "60", "-Z", "--parallel-immediate", "--parallel-max", "300", url("far", "/hello?[1-250]"),
              timeout=90)
    both = [subprocess.Popen(["ip", "netns", "exec", m.ns(1, CLIENT), "curl", "-sS", "-m", "90", "-Z", "--parallel-immediate",
                              "--parallel-max", "250", url("far", "/hello?[1-250]")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)]
    outs = [p.communicate(timeout=120) for p in both]
    n = sum(o.count(b"Hello version") for o, _ in outs)
    check(r.stdout.count(b"Hello version") == 250 and s.stdout.count(b"Hello version") == 250, (r.stderr + s.stderr)[-500:])
    check(n == 500, "%d of 500 answered; %s" % (n, outs[0][1][-500:]))


def test_policy(m):
    """A DENY policy stops the client with a line that names it, and its removal lets it in again."""
    remote_only(m)
    m.manifest(2, "deny.yaml", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no-client, namespace: demo}\n"
               "spec:\n  selector: {matchLabels: {app: echo}}\n  action: DENY\n  rules:\n  - from: [{source: {principals: "
               "[cluster.local/ns/demo/sa/client]}}]\n")
    m.wait("the denial", 20, lambda: m.curl(1, url("far"))[0] in (7, 52, 56))
    m.wait("its name in the log", 10, lambda: any("explicitly denied by: demo/no-client" in m.log("cluster2-%s-hbone" % v)
                                                 for v in ("v1", "v2")))
    m.manifest(2, "deny.yaml", None)
    m.wait("the way to be free", 20, lambda: m.curl(1, url("far"))[0] == 0)


def test_plaintext(m):
    """Plaintext from outside the mesh reaches a pod through 15006; PeerAuthentication STRICT stops it, by name, and only it."""
    remote_only(m)
    direct = lambda: m.curl(2, "http://10.20.0.11:5000/hello", part="node", seconds=3)
    check(direct()[0] == 0, "plaintext is allowed by default: %s" % (direct(),))
    check('dst.addr=10.20.0.11:5000' in m.log("cluster2-v1-hbone"), "not seen by the proxy")
    m.manifest(2, "strict.yaml", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: demo}\n"
               "spec: {mtls: {mode: STRICT}}\n")
    m.wait("the refusal", 10, lambda: direct()[0] in (7, 52, 56))
    m.wait("the log line", 5, lambda: "istio_converted_static_strict" in m.log("cluster2-v1-hbone"))
    check(m.curl(1, url("far"))[0] == 0, "mutual TLS must go on")
    m.manifest(2, "strict.yaml", None)
    m.wait("plaintext again", 10, lambda: direct()[0] == 0)


def remote_object(m):
    return "%s/cluster1/manifests/istio-remote-peer-cluster2.yaml" % m.dir


def test_duplicate_and_own_peer(m):
    """A second object for a linked cluster is not accepted and says why; an object for the own cluster is no peer; unlinking withdraws."""
    text = open(remote_object(m)).read()
    m.manifest(1, "second.yaml", text.replace("name: istio-remote-peer-cluster2", "name: istio-remote-second"))
    m.manifest(1, "self.yaml", text.replace("cluster2", "cluster1").replace("172.18.0.12", "172.18.0.11"))
    peers = m.wait("both objects", 10, lambda: (lambda p: p if len(p) == 2 else None)(m.get(1, "/status")["peers"]))
    refused = [p for p in peers if p["conditions"][0]["status"] == "False"]
    check(len(refused) == 1 and "DuplicateCluster" in refused[0]["conditions"][0]["message"], peers)
    m.manifest(1, "second.yaml", None)
    m.manifest(1, "self.yaml", None)
    m.wait("one peer", 10, lambda: len(m.get(1, "/status")["peers"]) == 1)
    remote_only(m)
    os.rename(remote_object(m), m.dir + "/kept")
    m.wait("the withdrawal", 10, lambda: "far" not in m.globals(1))
    os.rename(m.dir + "/kept", remote_object(m))
    m.wait("far again", 20, lambda: m.curl(1, url("far"))[0] == 0)


def test_stale_deadline(m):
    """A peer away past its deadline is withdrawn once and comes back whole."""
    remote_only(m)
    text = open(remote_object(m)).read()
    m.manifest(1, "istio-remote-peer-cluster2.yaml", text.replace("  annotations:\n", "  annotations:\n    isthmus.dev/stale-deadline: 3s\n"))
    m.wait("the new deadline", 10, lambda: "stale-deadline" in open(remote_object(m)).read() and m.peer(1)["data"] == "fresh")
    m.kill("cluster2-peeringd")
    m.wait("stale", 10, lambda: m.peer(1)["data"] == "stale")
    check("far" in m.globals(1), "withdrawn before the deadline")
    m.wait("the withdrawal", 10, lambda: m.peer(1)["data"] == "none" and "far" not in m.globals(1))
    m.start("cluster2-peeringd")
    m.wait("far again", 60, lambda: m.peer(1)["data"] == "fresh" and m.curl(1, url("far"))[0] == 0)
    m.manifest(1, "istio-remote-peer-cluster2.yaml", text)


LONG = r"""
import socket, sys
c = socket.create_connection(("half.demo.mesh.internal", 5001), 10); c.settimeout(10)
c.sendall(b"l")
assert c.recv(6) == b"hello\n"; print("open", flush=True)
for line in sys.stdin:
    c.sendall(b"x" * 1000)
c.shutdown(socket.SHUT_WR); print(c.recv(100).decode().split()[0], flush=True)
"""


def certificate(m, part):
    r = m.run(1, part, "curl", "-s", "127.0.0.1:15000/config_dump")
    return [c["certChain"][0]["serialNumber"] for c in json.loads(r.stdout)["certificates"] if c["certChain"]][0]


def test_rotation(m):
    """Certificates of a few seconds are renewed again and again while one connection lives on and new ones work."""
    server = subprocess.Popen(["ip", "netns", "exec", m.ns(2, "v1"), "/usr/bin/python3", "-c", HALF_SERVER.replace("@DIR@", m.dir)])
    try:
        m.manifest(2, "half.yaml", service("half", "global", selector="version: v1", port=5001))
        remote_only(m)
        restart_with(m, "cluster1-client-hbone", lambda t: t.replace(" env ", " env SECRET_TTL=8s "))
        m.wait("the client's proxy", 30, lambda: m.run(1, CLIENT, "curl", "-fs", "127.0.0.1:15021/healthz/ready").returncode == 0)
        m.wait("half", 10, lambda: m.run(1, CLIENT, "/usr/bin/python3", "-c", HALF_CLIENT, "r").returncode == 0)
        long = subprocess.Popen(["ip", "netns", "exec", m.ns(1, CLIENT), "/usr/bin/python3", "-c", LONG], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        check(long.stdout.readline() == "open\n", "not open")
        for _ in range(3):
            before = certificate(m, CLIENT)
            m.wait("a new certificate", 20, lambda: certificate(m, CLIENT) != before)
            long.stdin.write("go\n")
            long.stdin.flush()
            check(m.curl(1, url("far"))[0] == 0, "a new connection failed")
        out, _ = long.communicate(timeout=20)
        check(out.strip() == "3000", "the old connection did not survive: %r" % out)
    finally:
        server.kill()
        server.wait()
        m.manifest(2, "half.yaml", None)
    m.kill("cluster1-client-hbone")
    m.start("cluster1-client-hbone")
    m.wait("the client's proxy", 30, lambda: m.run(1, CLIENT, "curl", "-fs", "127.0.0.1:15021/healthz/ready").returncode == 0)


def test_drain(m):
    """SIGTERM: the proxy refuses new connections, lets the open one finish, and ends."""
    server = subprocess.Popen(["ip", "netns", "exec", m.ns(2, "v1"), "/usr/bin/python3", "-c", HALF_SERVER.replace("@DIR@", m.dir)])
    try:
        m.manifest(2, "half.yaml", service("half", "global", selector="version: v1", port=5001))
        m.wait("half", 20, lambda: m.run(1, CLIENT, "/usr/bin/python3", "-c", HALF_CLIENT, "r").returncode == 0)
        long = subprocess.Popen(["ip", "netns", "exec", m.ns(1, CLIENT), "/usr/bin/python3", "-c", LONG], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        check(long.stdout.readline() == "open\n", "not open")
        pid = m.pid("cluster2-v1-hbone")
        os.kill(pid, signal.SIGTERM)
        m.wait("the listener to close", 5, lambda: m.run(2, "node", "bash", "-c", "echo >/dev/tcp/10.20.0.11/15008").returncode != 0)
        long.stdin.write("go\n")
        out, _ = long.communicate(timeout=10)
        check(out.strip() == "1000", "cut in the drain: %r" % out)
        m.wait("the end", 10, lambda: gone(pid))
    finally:
        server.kill()
        server.wait()
        m.manifest(2, "half.yaml", None)
    m.start("cluster2-v1-hbone")
    m.wait("the proxy", 30, lambda: m.run(2, "v1", "curl", "-fs", "127.0.0.1:15021/healthz/ready").returncode == 0)


NO_CERT = r"""
import socket, ssl
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE; c.set_alpn_protocols(["h2"])
s = c.wrap_socket(socket.create_connection(("10.20.0.11", 15008), 5))
try:
    s.recv(1)
    print("no alert")
except ssl.SSLError as e:
    print(e)
"""


def test_anonymous_refused(m):
    """Who has no certificate of the mesh gets an alert on 15008, and a line in the log."""
    r = m.run(2, "node", "/usr/bin/python3", "-c", NO_CERT)
    check(b"CERTIFICATE_REQUIRED" in r.stdout, r.stdout + r.stderr)
    m.wait("the log line", 5, lambda: "10.20.0.1:" in m.log("cluster2-v1-hbone"))


TESTS = [test_story, test_truth_table, test_labels_change, test_no_endpoints, test_malformed_manifest, test_policy, test_plaintext, test_half_close,
         test_parallel, test_big_transfer, test_rotation, test_drain, test_peer_restart, test_stale_deadline,
         test_duplicate_and_own_peer, test_gateway_address, test_foreign_root, test_wrong_trust_domain,
         test_expired_ca, test_anonymous_refused]


def main():
    args = [a for a in sys.argv[1:] if not a.startswith("-")]
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return 77
    word = sys.argv[sys.argv.index("-k") + 1] if "-k" in sys.argv else ""
    m = Mesh(os.path.abspath(args[0]), "--flat" in sys.argv)
    failed = []
    try:
        m.up()
        for test in TESTS:
            if word and word not in test.__name__:
                continue
            begin = time.monotonic()
            try:
                test(m)
                print("ok    %-28s %5.1f s" % (test.__name__, time.monotonic() - begin), flush=True)
            except Exception as e:  # the rest still tells something
                failed.append(test.__name__)
                print("FAIL  %-28s %s: %s" % (test.__name__, type(e).__name__, e), flush=True)
        for name in sorted(os.listdir(m.dir + "/log")):
            text = m.log(name[:-4])
            for mark in ("AddressSanitizer", "ThreadSanitizer", "runtime error:", "UndefinedBehavior", "pg_bug", "bug:"):
                if mark in text:
                    failed.append(name)
                    at = text.index(mark)
                    print("FAIL  %s: %s" % (name, text[max(0, at - 200):at + 3000]))
                    break
        if failed and os.environ.get("MESH_TEST_LOGS"):
            shutil.copytree(m.dir + "/log", os.environ["MESH_TEST_LOGS"], dirs_exist_ok=True)
    finally:
        m.down()
    print("%d of %d failed" % (len(failed), len(TESTS)) if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
