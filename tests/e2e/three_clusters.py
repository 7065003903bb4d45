#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Three control planes in network namespaces, linked to each other, and what networks and operators do to them.

usage: three_clusters.py BIN_DIR [-k WORD]

No proxies: what is compared is what each peeringd says of the global services. Random partitions, one-way losses, kills and
restarts follow THREE_CLUSTERS_SEED (printed); THREE_CLUSTERS_ROUNDS rounds of them. THREE_CLUSTERS_BIG=SERVICESxPODS sizes the big
table. Needs root; exits 77 (skipped, and says why) without it.
"""
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

CLUSTERS = (1, 2, 3)
SERVICES = ("s0", "s1", "s2", "s3")
ROUNDS = int(os.environ.get("THREE_CLUSTERS_ROUNDS", 3))
BIG = os.environ.get("THREE_CLUSTERS_BIG", "2000x10000")


class Unix(http.client.HTTPConnection):
    def __init__(self, path, timeout=5):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def find(root, name):
    for base, _, files in os.walk(root):
        path = os.path.join(base, name)
        if name in files and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise SystemExit("%s is not built under %s" % (name, root))


def check(cond, text):
    if not cond:
        raise AssertionError(text)


def pause():
    # Polling of an outside condition, bounded by wait(): not a synchronisation by time.
    import select
    select.select([], [], [], 0.05)


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
        pause()
    raise AssertionError("waited %d s for %s in vain; last: %s" % (seconds, what, last))


def sh(*args, ok=False):
    r = subprocess.run(args, capture_output=True, text=True)
    if r.returncode != 0 and not ok:
        raise AssertionError("%s: %s" % (" ".join(args), r.stderr.strip()))
    return r


def service(name, scope, pods, ready, n):
    labels = ", labels: {solo.io/service-scope: %s}" % scope if scope else ""
    out = ["{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: demo%s}, spec: {selector: {app: %s}, ports: [{name: tcp, "
           "port: 5000, targetPort: 5000}]}}" % (name, labels, name)]
    for p in range(pods):
        out.append("{apiVersion: v1, kind: Pod, metadata: {name: %s-%d, namespace: demo, labels: {app: %s}}, spec: {nodeName: n%d, "
                   "serviceAccountName: %s}, status: {phase: Running, podIP: 10.%d.%d.%d, conditions: [{type: Ready, status: \"%s\"}]}}"
                   % (name, p, name, n, name, n, sum(map(ord, name)) % 250, p + 1, p < ready))
    return "\n---\n".join(out) + "\n"


class World:
    def __init__(self, bin_dir):
        self.bin = bin_dir
        self.pre = "i3c%d" % (os.getpid() % 10000)
        self.dir = tempfile.mkdtemp(prefix="isthmus-three-")
        self.prog = {p: find(bin_dir, p) for p in ("peeringd", "peerctl", "herd")}
        self.procs = {}
        self.others = []
        self.model = {n: {} for n in CLUSTERS}
        self.states = set()

    # --- network and programs

    def ns(self, n):
        return "%s-%d" % (self.pre, n)

    def ip(self, n):
        return "172.29.0.%d" % n

    def up(self):
        wan = self.pre + "-wan"
        sh("ip", "netns", "add", wan)
        sh("ip", "-n", wan, "link", "add", "br0", "type", "bridge")
        sh("ip", "-n", wan, "link", "set", "br0", "up")
        for n in CLUSTERS:
            sh("ip", "netns", "add", self.ns(n))
            sh("ip", "-n", self.ns(n), "link", "set", "lo", "up")
            sh("ip", "link", "add", "p%d" % n, "netns", wan, "type", "veth", "peer", "name", "eth0", "netns", self.ns(n))
            sh("ip", "-n", wan, "link", "set", "p%d" % n, "master", "br0", "up")
            sh("ip", "-n", self.ns(n), "addr", "add", self.ip(n) + "/24", "dev", "eth0")
            sh("ip", "-n", self.ns(n), "link", "set", "eth0", "up")
            os.makedirs("%s/c%d/manifests" % (self.dir, n))
            self.manifest(n, "ns.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: "
                          "{topology.istio.io/network: net%d}}}\n" % n)
        self.ipt = next((t for t in ("iptables", "iptables-legacy") if shutil.which(t) and
                         sh("ip", "netns", "exec", self.ns(1), t, "-L", "-n", ok=True).returncode == 0), None)
        certs = self.dir + "/certs"
        for args in (["certs", "root", "--dir", certs], *(["certs", "cacerts", "c%d" % n, "--dir", certs] for n in CLUSTERS),
                     ["certs", "issuer", "--dir", self.dir + "/issuer"]):
            sh(self.prog["peerctl"], *args)
        with open(self.dir + "/contexts", "w") as f:
            for n in CLUSTERS:
                f.write("[c%d]\nmanifests = %s/c%d/manifests\nadmin = unix:%s/c%d/admin.sock\n" % (n, self.dir, n, self.dir, n))
        for n in CLUSTERS:
            self.start(n)
        for n in CLUSTERS:
            wait("c%d" % n, 20, lambda: self.get(n, "/status"))
            self.ctl("multicluster", "expose", "--context", "c%d" % n, "--namespace", "istio-eastwest", "--address", self.ip(n))
            wait("the gateway of c%d" % n, 10, lambda: self.get(n, "/status")["gateways"])
        self.ctl("multicluster", "link", "--namespace", "istio-eastwest", "--contexts=c1,c2,c3")

    def down(self):
        for p in list(self.procs.values()) + self.others:
            if p.poll() is None:
                p.send_signal(signal.SIGCONT)
                p.kill()
            p.wait()
        for name in [self.ns(n) for n in CLUSTERS] + [self.pre + "-wan"]:
            sh("ip", "netns", "del", name, ok=True)
        left = [x for x in sh("ip", "netns", "list").stdout.split() if x.startswith(self.pre)]
        check(not left, "namespaces left over: %s" % left)
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, n):
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")
        with open("%s/c%d/log" % (self.dir, n), "a") as log:
            self.procs[n] = subprocess.Popen(
                ["ip", "netns", "exec", self.ns(n), self.prog["peeringd"], "--cluster", "c%d" % n, "--manifests",
                 "%s/c%d/manifests" % (self.dir, n), "--cacerts", "%s/certs/c%d" % (self.dir, n), "--state", "%s/c%d/state" % (self.dir, n),
                 "--jwks", self.dir + "/issuer/jwks.json", "--admin-socket", "%s/c%d/admin.sock" % (self.dir, n)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)

    def stop(self, n, sig=signal.SIGKILL):
        p = self.procs[n]
        p.send_signal(sig)
        code = p.wait(timeout=20)
        check(code == (-sig if sig == signal.SIGKILL else 0), "c%d ended with %s: %s" % (n, code, self.log(n)[-2000:]))

    def log(self, n):
        with open("%s/c%d/log" % (self.dir, n), errors="replace") as f:
            return f.read()

    def rss(self, n):
        with open("/proc/%d/status" % self.procs[n].pid) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) // 1024

    def ctl(self, *args):
        return sh(self.prog["peerctl"], "--contexts-file", self.dir + "/contexts", *args)

    def get(self, n, path, timeout=5):
        c = Unix("%s/c%d/admin.sock" % (self.dir, n), timeout)
        c.request("GET", path)
        body = c.getresponse().read()
        c.close()
        return json.loads(body)

    def manifest(self, n, name, text):
        path = "%s/c%d/manifests/%s" % (self.dir, n, name)
        if text is None:
            if os.path.exists(path):
                os.unlink(path)
            return
        with open(path + ".tmp", "w") as f:
            f.write(text)
        os.rename(path + ".tmp", path)

    # --- the model

    def put(self, n, name, scope, pods, ready):
        self.model[n][name] = (scope, pods, ready)
        self.manifest(n, name + ".yaml", service(name, scope, pods, ready, n) if pods else None)

    def wanted(self):
        out = {}
        for n in CLUSTERS:
            for name, (scope, pods, ready) in self.model[n].items():
                if scope and pods:
                    out.setdefault(name, {})["c%d" % n] = ready
        return out

    def shown(self, n):
        out = {}
        for g in self.get(n, "/services")["global"]:
            healthy = {c: 0 for c in g["clusters"]}
            for e in g["endpoints"]:
                check(not e.get("stale"), "stale")
                healthy[e["cluster"]] += e["capacity"] if e["healthy"] else 0
            out[g["name"]] = healthy
        return out

    def difference(self):
        want = self.wanted()
        for n in CLUSTERS:
            try:
                have = self.shown(n)
            except AssertionError:
                return "c%d: stale" % n
            if have != want:
                return "c%d has %s, wanted %s" % (n, have, want)
        return None

    def settle(self, seconds):
        last = [None]

        def same():
            last[0] = self.difference()
            return last[0] is None
        begin = time.monotonic()
        try:
            wait("agreement with the model", seconds, same)
        except AssertionError:
            raise AssertionError("no agreement: %s" % last[0])
        return time.monotonic() - begin

    def watch(self):
        for n in CLUSTERS:
            try:
                for p in self.get(n, "/status")["peers"]:
                    self.states.add(p.get("data"))
            except (OSError, ValueError, http.client.HTTPException):
                pass

    # --- accidents

    def cut(self, n):
        sh("ip", "-n", self.ns(n), "link", "set", "eth0", "down")

    def mend(self, n):
        sh("ip", "-n", self.ns(n), "link", "set", "eth0", "up")

    def drop(self, n, other):
        if self.ipt:
            sh("ip", "netns", "exec", self.ns(n), self.ipt, "-A", "INPUT", "-s", self.ip(other), "-j", "DROP")

    def undrop(self, n):
        if self.ipt:
            sh("ip", "netns", "exec", self.ns(n), self.ipt, "-F", "INPUT")


def test_agreement(w):
    """All three come to the same table."""
    for n in CLUSTERS:
        for k, name in enumerate(SERVICES):
            w.put(n, name, "global" if (n + k) % 2 else None, 1 + k % 3, 1)
    print("   settled in %.1f s" % w.settle(30))


def test_random_accidents(w):
    """Partitions, one-way losses, kills, restarts and changes at random; then the tables are the model's again."""
    seed = int(os.environ.get("THREE_CLUSTERS_SEED", random.SystemRandom().randrange(1 << 32)))
    rng = random.Random(seed)
    print("   THREE_CLUSTERS_SEED=%d" % seed)
    history = []
    down = set()
    try:
        for _ in range(ROUNDS):
            for _ in range(8):
                n, other = rng.sample(CLUSTERS, 2)
                what = rng.choice(("put", "put", "put", "cut", "mend", "drop", "kill", "term", "start"))
                history.append((what, n, other))
                if what == "put":
                    pods = rng.randrange(4)
                    w.put(n, rng.choice(SERVICES), rng.choice((None, "global", "global")), pods, rng.randrange(pods + 1))
                elif what in ("cut", "mend"):
                    getattr(w, what)(n)
                elif what == "drop":
                    w.drop(n, other)
                elif what in ("kill", "term") and n not in down:
                    w.stop(n, signal.SIGKILL if what == "kill" else signal.SIGTERM)
                    down.add(n)
                elif what == "start" and n in down:
                    w.start(n)
                    down.discard(n)
                for _ in range(rng.randrange(20)):
                    w.watch()
                    pause()
            for n in CLUSTERS:
                w.mend(n)
                w.undrop(n)
            for n in sorted(down):
                w.start(n)
            down.clear()
            history.append("settle")
            print("   settled in %.1f s" % w.settle(90))
    except AssertionError as e:
        raise AssertionError("THREE_CLUSTERS_SEED=%d: %s\n   history: %s" % (seed, e, history))


def test_loss_is_seen(w):
    """A peer cut off without a word is noticed by keepalive, shown stale, then unhealthy, and comes back."""
    w.settle(60)
    w.cut(3)
    begin = time.monotonic()

    def state_of(n, peer):
        w.watch()
        return next(p["data"] for p in w.get(n, "/status")["peers"] if p["cluster"] == "c%d" % peer)
    wait("the loss", 45, lambda: state_of(1, 3) != "fresh")
    print("   noticed after %.1f s" % (time.monotonic() - begin))
    wait("unhealthy", 15, lambda: state_of(1, 3) == "unhealthy")
    check("unhealthy" in w.states, w.states)
    w.mend(3)
    print("   settled in %.1f s" % w.settle(90))
    check("stale" in w.states, "stale was never seen: %s" % w.states)


def test_half_open(w):
    """A peer that is stopped (SIGSTOP: its kernel still answers) is noticed within 40 s, by HTTP/2 keepalive."""
    w.settle(60)
    w.procs[2].send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    try:
        for n in (1, 3):
            wait("c%d to notice" % n, 45,
                 lambda: next(p["data"] for p in w.get(n, "/status")["peers"] if p["cluster"] == "c2") != "fresh")
        took = time.monotonic() - begin
        print("   noticed after %.1f s" % took)
        check(took <= 42, "took %.1f s" % took)
    finally:
        w.procs[2].send_signal(signal.SIGCONT)
    print("   settled in %.1f s" % w.settle(90))


class Herd:
    def __init__(self, w, token, n):
        self.p = subprocess.Popen(["ip", "netns", "exec", w.ns(1), w.prog["herd"], "127.0.0.1:15012", w.dir + "/certs/root-cert.pem", token,
                                   str(n)], stdout=subprocess.PIPE)
        w.others.append(self.p)
        self.rest = b""
        self.state = {"synced": 0}

    def until(self, what, cond):
        import select
        while not cond(self.state):
            while b"\n" not in self.rest:
                check(select.select([self.p.stdout], [], [], 60)[0], "%s: nothing changes at %s" % (what, self.state))
                more = os.read(self.p.stdout.fileno(), 65536)
                check(more, "the herd ended")
                self.rest += more
            line, self.rest = self.rest.split(b"\n", 1)
            f = line.decode().split()
            self.state = {f[i]: int(f[i + 1]) for i in range(0, len(f), 2)}


def test_herd(w):
    """200 proxies reconnect to a restarted control plane: all synced, nothing taken from them, memory bounded."""
    w.settle(60)
    token = w.dir + "/token"
    with open(token, "w") as f:
        f.write(sh(w.prog["peerctl"], "certs", "token", "--dir", w.dir + "/issuer", "--namespace", "demo", "--service-account", "herd").stdout)
    before = w.rss(1)
    herd = Herd(w, token, 200)
    herd.until("the first sync", lambda s: s["synced"] == 200)
    print("   200 synced; peeringd %d MiB, was %d MiB" % (w.rss(1), before))
    w.stop(1)
    herd.until("the loss", lambda s: s["synced"] == 0)
    begin = time.monotonic()
    w.start(1)
    herd.until("the return", lambda s: s["synced"] == 200)
    removals = herd.state["removals"]
    print("   200 back after %.1f s; peeringd %d MiB; removals %d" % (time.monotonic() - begin, w.rss(1), removals))
    check(removals == 0, "a restart took %d resources from proxies" % removals)
    connections = len(w.get(1, "/connections").get("connections", []))
    check(connections >= 200, "only %d connections shown" % connections)
    herd.p.kill()
    herd.p.wait()
    wait("the herd to be forgotten", 20, lambda: len(w.get(1, "/connections")["connections"]) < 20)


def test_big_table(w):
    """A big cluster: how long and how much, printed. Only that it works is asserted."""
    services, pods = map(int, BIG.split("x"))
    w.settle(60)
    per = max(1, pods // services)
    w.stop(3, signal.SIGTERM)
    chunk = 500
    for base in range(0, services, chunk):
        w.manifest(3, "big-%d.yaml" % base, "---\n".join(
            service("b%d" % k, "global", 0, 0, 3) + "".join(
                "---\n{apiVersion: v1, kind: Pod, metadata: {name: b%d-%d, namespace: demo, labels: {app: b%d}}, spec: {nodeName: n%d, "
                "serviceAccountName: b}, status: {phase: Running, podIP: %s, conditions: [{type: Ready, status: \"True\"}]}}\n"
                % (k, p, k, k % 100, "11.%d.%d.%d" % ((k * per + p) >> 16, ((k * per + p) >> 8) & 255, (k * per + p) & 255))
                for p in range(per)) for k in range(base, min(base + chunk, services))))
    begin = time.monotonic()
    w.start(3)
    wait("the big cluster's status", 300, lambda: w.get(3, "/status", timeout=120))
    print("   %d services, %d pods: answers after %.1f s, %d MiB" % (services, services * per, time.monotonic() - begin, w.rss(3)))

    def has(n, count):
        p = next(p for p in w.get(n, "/status", timeout=60)["peers"] if p["cluster"] == "c3")
        return p["services"] >= count
    wait("c1 to have it", 300, lambda: has(1, services))
    print("   c1 has it after %.1f s, %d MiB; c3 %d MiB" % (time.monotonic() - begin, w.rss(1), w.rss(3)))

    def known(name):
        return any(g["name"] == name for g in w.get(1, "/services", timeout=120)["global"])
    w.manifest(3, "late.yaml", service("late", None, 1, 1, 3))
    wait("c3 to read it", 120, lambda: any(s["name"] == "late" for s in w.get(3, "/services", timeout=120)["services"]))
    count = next(p for p in w.get(1, "/status", timeout=60)["peers"] if p["cluster"] == "c3")["services"]
    begin = time.monotonic()
    w.manifest(3, "late.yaml", service("late", "global", 1, 1, 3))
    wait("the label at c1", 120, lambda: has(1, count + 1))
    print("   a label reaches the peer after %.1f s" % (time.monotonic() - begin))
    check(known("late"), "c1 does not show it")
    for base in range(0, services, chunk):
        w.manifest(3, "big-%d.yaml" % base, None)
    w.manifest(3, "late.yaml", None)
    print("   gone again in %.1f s" % w.settle(180))


def main():
    if os.geteuid() != 0:
        print("skipped: needs root for network namespaces")
        return 77
    if sh("ip", "netns", "add", "i3probe%d" % os.getpid(), ok=True).returncode != 0:
        print("skipped: cannot make a network namespace")
        return 77
    sh("ip", "netns", "del", "i3probe%d" % os.getpid(), ok=True)
    word = sys.argv[sys.argv.index("-k") + 1] if "-k" in sys.argv else ""
    w = World(sys.argv[1])
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that down() runs
    try:
        w.up()
        for test in (test_agreement, test_loss_is_seen, test_half_open, test_herd, test_random_accidents, test_big_table):
            if word not in test.__name__:
                continue
            print("-- %s: %s" % (test.__name__, test.__doc__.strip().split("\n")[0]), flush=True)
            begin = time.monotonic()
            try:
                test(w)
                print("   ok (%.1f s)" % (time.monotonic() - begin), flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as e:
                failed += 1
                print("   FAILED: %s" % e)
                for n in CLUSTERS:
                    print("   c%d: %s" % (n, "\n      ".join(w.log(n).splitlines()[-8:])), flush=True)
                break
    finally:
        w.down()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
