#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An independent HTTP/2 peer (python3-h2) for test_h2_peer: h2_peer.py client|server FD.

Exits 0 when everything it saw was right, 77 when python3-h2 is not there.
"""
import hashlib
import random
import socket
import sys

try:
    import h2.config
    import h2.connection
    import h2.events
    import h2.settings
except ImportError:
    sys.exit(77)


class Peer:
    def __init__(self, fd, client):
        self.sock = socket.socket(fileno=fd)
        self.sock.settimeout(30)
        config = h2.config.H2Configuration(client_side=client, header_encoding="utf-8",
                                           validate_inbound_headers=False, validate_outbound_headers=False)
        self.conn = h2.connection.H2Connection(config=config)
        self.streams = {}
        self.goaway = None
        self.settings = {}
        self.pongs = 0
        self.conn.initiate_connection()
        self.flush()

    def stream(self, sid):
        return self.streams.setdefault(
            sid, {"headers": None, "info": [], "data": bytearray(), "trailers": None, "end": False, "reset": None,
                  "hold": False, "held": 0})

    def flush(self):
        data = self.conn.data_to_send()
        if data:
            self.sock.sendall(data)

    def pump(self):
        """Waits for bytes and handles them; False at the end of the connection."""
        data = self.sock.recv(65536)
        if not data:
            return False
        for ev in self.conn.receive_data(data):
            self.handle(ev)
        self.flush()
        return True

    def handle(self, ev):
        if isinstance(ev, (h2.events.ResponseReceived, h2.events.RequestReceived)):
            self.stream(ev.stream_id)["headers"] = dict(ev.headers)
        elif isinstance(ev, h2.events.InformationalResponseReceived):
            self.stream(ev.stream_id)["info"].append(dict(ev.headers))
        elif isinstance(ev, h2.events.TrailersReceived):
            self.stream(ev.stream_id)["trailers"] = dict(ev.headers)
        elif isinstance(ev, h2.events.DataReceived):
            st = self.stream(ev.stream_id)
            st["data"] += ev.data
            if st["hold"]:
                st["held"] += ev.flow_controlled_length
            else:
                self.conn.acknowledge_received_data(ev.flow_controlled_length, ev.stream_id)
        elif isinstance(ev, h2.events.StreamEnded):
            self.stream(ev.stream_id)["end"] = True
        elif isinstance(ev, h2.events.StreamReset):
            self.stream(ev.stream_id)["reset"] = ev.error_code
        elif isinstance(ev, h2.events.ConnectionTerminated):
            self.goaway = ev
        elif isinstance(ev, h2.events.RemoteSettingsChanged):
            for k, v in ev.changed_settings.items():
                self.settings[int(k)] = v.new_value
        elif isinstance(ev, h2.events.PingAckReceived):
            self.pongs += 1

    def until(self, cond):
        while not cond():
            assert self.pump(), "connection ended early"

    def send_all(self, sid, data, end):
        at = 0
        while at < len(data):
            room = min(self.conn.local_flow_control_window(sid), self.conn.max_outbound_frame_size, len(data) - at)
            if room == 0:
                assert self.pump(), "connection ended early"
                continue
            room = min(room, random.randint(1, 40000))
            self.conn.send_data(sid, data[at:at + room])
            at += room
            self.flush()
        if end:
            self.conn.end_stream(sid)
            self.flush()


def sha(data):
    return hashlib.sha256(bytes(data)).hexdigest()


GET = [(":method", "GET"), (":authority", "peer"), (":scheme", "http"), (":path", "/hello"), ("x-a", "b" * 3000)]
POST = [(":method", "POST"), (":authority", "peer"), (":scheme", "http"), (":path", "/echo")]
CONNECT = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")]


def client(fd):
    p = Peer(fd, True)
    c = p.conn
    p.until(lambda: 4 in p.settings)
    assert p.settings[3] == 200, p.settings  # MAX_CONCURRENT_STREAMS
    assert p.settings[4] == 4 << 20, p.settings
    assert p.settings[5] == 1 << 20, p.settings
    assert p.settings[9] == 1, p.settings  # NO_RFC7540_PRIORITIES

    sid = c.get_next_available_stream_id()
    c.send_headers(sid, GET, end_stream=True)
    p.flush()
    st = p.stream(sid)
    p.until(lambda: st["end"])
    assert st["headers"][":status"] == "200" and bytes(st["data"]) == b"hello\n", st

    # echo with trailers, larger than every window
    body = random.randbytes(6 << 20)
    sid = c.get_next_available_stream_id()
    c.send_headers(sid, POST)
    p.send_all(sid, body, True)
    st = p.stream(sid)
    p.until(lambda: st["end"])
    assert sha(st["data"]) == sha(body) and st["trailers"]["grpc-status"] == "0", st["trailers"]

    # tunnels side by side, frames padded and big
    sids = []
    bodies = {}
    for i in range(10):
        sid = c.get_next_available_stream_id()
        c.send_headers(sid, CONNECT)
        p.flush()
        sids.append(sid)
        bodies[sid] = b""
    for _ in range(30):
        for sid in sids:
            piece = random.randbytes(random.randint(0, 9000))
            c.send_data(sid, piece, pad_length=random.choice([None, 0, 200]))
            bodies[sid] += piece
            p.flush()
        if p.conn.local_flow_control_window(sids[0]) < 100000:
            p.pump()
    for sid in sids:
        p.until(lambda: len(p.stream(sid)["data"]) == len(bodies[sid]))
        assert not p.stream(sid)["end"]
        c.end_stream(sid)
        p.flush()
        p.until(lambda: p.stream(sid)["end"])
        assert sha(p.stream(sid)["data"]) == sha(bodies[sid])

    # a reader that stops: its window fills, the rest of the connection goes on
    c.increment_flow_control_window(1 << 20)
    slow = c.get_next_available_stream_id()
    c.send_headers(slow, CONNECT)
    p.flush()
    p.stream(slow)["hold"] = True
    p.send_all(slow, random.randbytes(300000), False)
    c.ping(b"12345678")
    p.flush()
    p.until(lambda: p.pongs == 1)
    sid = c.get_next_available_stream_id()
    c.send_headers(sid, GET, end_stream=True)
    p.flush()
    p.until(lambda: p.stream(sid)["end"])
    p.until(lambda: p.stream(slow)["held"] == 65535)  # python3-h2's window
    c.ping(b"12345678")
    p.flush()
    p.until(lambda: p.pongs == 2)
    assert p.stream(slow)["held"] == 65535, p.stream(slow)["held"]
    c.acknowledge_received_data(p.stream(slow)["held"], slow)
    p.stream(slow)["hold"] = False
    p.flush()
    c.end_stream(slow)
    p.flush()
    p.until(lambda: p.stream(slow)["end"])
    assert len(p.stream(slow)["data"]) == 300000

    # aborts, also of streams not answered yet
    for i in range(300):
        sid = c.get_next_available_stream_id()
        c.send_headers(sid, CONNECT)
        c.reset_stream(sid, 8)
        p.flush()

    # an invalid request hurts only itself
    sid = c.get_next_available_stream_id()
    c.send_headers(sid, CONNECT + [(":path", "/")])
    p.flush()
    p.until(lambda: p.stream(sid)["reset"] is not None)

    # The server drains on request. python3-h2 takes nothing after a GOAWAY, so the frames are read by hand.
    sid = c.get_next_available_stream_id()
    c.send_headers(sid, GET[:3] + [(":path", "/drain")], end_stream=True)
    p.flush()
    goaways = []
    answer = b""
    ended = False
    for kind, flags, stream, payload in raw_frames(p.sock):
        if kind == 6 and not flags & 1:
            p.sock.sendall(b"\0\0\x08\x06\x01\0\0\0\0" + payload)
        elif kind == 7:
            goaways.append((int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")))
        elif kind == 0 and stream == sid:
            answer += payload
            ended = bool(flags & 1)
    assert answer == b"hello\n" and ended, "the last answer was lost"
    assert goaways == [(2**31 - 1, 0), (sid, 0)], goaways


def raw_frames(sock):
    data = b""
    while True:
        more = sock.recv(65536)
        if not more:
            assert data == b"", "half a frame at the end"
            return
        data += more
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
            size = int.from_bytes(data[:3], "big")
            yield data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:9 + size]
            data = data[9 + size:]


def server(fd):
    p = Peer(fd, False)
    c = p.conn
    done = set()
    while True:
        try:
            if not p.pump():
                break
        except ConnectionResetError:
            break
        for sid, st in list(p.streams.items()):
            if sid in done or st["headers"] is None:
                continue
            path = st["headers"].get(":path", "")
            method = st["headers"][":method"]
            if method == "CONNECT":
                assert set(st["headers"]) == {":method", ":authority"}, st["headers"]
                if "answered" not in st:
                    c.send_headers(sid, [(":status", "200")])
                    st["answered"] = True
                    st["at"] = 0
                while st["at"] < len(st["data"]) and not st["reset"]:
                    room = min(c.local_flow_control_window(sid), c.max_outbound_frame_size, len(st["data"]) - st["at"])
                    if room == 0:
                        break
                    c.send_data(sid, bytes(st["data"][st["at"]:st["at"] + room]))
                    st["at"] += room
                if st["end"] and st["at"] == len(st["data"]):
                    c.end_stream(sid)
                    done.add(sid)
            elif path == "/trailers-only":
                c.send_headers(sid, [(":status", "200"), ("grpc-status", "5")], end_stream=True)
                done.add(sid)
            elif path == "/early":
                c.send_headers(sid, [(":status", "103"), ("link", "x")])
                c.send_headers(sid, [(":status", "200")])
                c.send_data(sid, b"hello\n")
                c.send_headers(sid, [("grpc-status", "0")], end_stream=True)
                done.add(sid)
            elif path == "/reset":
                c.send_headers(sid, [(":status", "200")])
                c.send_data(sid, b"half")
                c.reset_stream(sid, 2)
                done.add(sid)
            elif path == "/leave":  # answer, then no wish for the rest of the request
                c.send_headers(sid, [(":status", "200")])
                c.send_data(sid, b"hello\n", end_stream=True)
                c.reset_stream(sid, 0)
                done.add(sid)
            elif path == "/bye":
                c.send_headers(sid, [(":status", "200")], end_stream=True)
                c.close_connection(0)
                done.add(sid)
        p.flush()
    assert len(done) >= 5, done


if __name__ == "__main__":
    random.seed(7)
    {"client": client, "server": server}[sys.argv[1]](int(sys.argv[2]))
