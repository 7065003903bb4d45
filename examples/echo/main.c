/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo's application: a tiny HTTP/1.1 server. GET /hello answers "Hello version: <VERSION>, instance:
 * <NAME>". GET /bytes/N sends N bytes, POST /sha counts and sums what it is sent (FNV-1a 64), for transfer
 * tests. A process per connection: this is a test application, not a server to learn from.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *version;
static const char *name;

static int send_all(int fd, const void *p, size_t len)
{
    const char *at = p;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int reply(int fd, const char *status, const char *body)
{
    char head[256];
    int n =
        snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                 status, strlen(body));
    return n < 0 || send_all(fd, head, (size_t)n) != 0 ? -1 : send_all(fd, body, strlen(body));
}

static uint64_t number(const char *p)
{
    uint64_t n = 0;
    while (*p == ' ') {
        p++;
    }
    for (; *p >= '0' && *p <= '9' && n < UINT64_MAX / 10 - 1; p++) {
        n = n * 10 + (uint64_t)(*p - '0');
    }
    return n;
}

static uint64_t fnv(uint64_t h, const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        h = (h ^ p[i]) * 1099511628211u;
    }
    return h;
}

/* Bytes that depend on their position, so that loss and reordering show in the sum. */
static int send_bytes(int fd, uint64_t count)
{
    char head[128];
    static unsigned char block[65536];
    int n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n",
                     (unsigned long long)count);
    if (n < 0 || send_all(fd, head, (size_t)n) != 0) {
        return -1;
    }
    for (uint64_t at = 0; at < count;) {
        size_t len = count - at < sizeof(block) ? (size_t)(count - at) : sizeof(block);
        for (size_t i = 0; i < len; i++) {
            block[i] = (unsigned char)(((at + i) * 2654435761u) >> 16);
        }
        if (send_all(fd, block, len) != 0) {
            return -1;
        }
        at += len;
    }
    return 0;
}

static int sum_body(int fd, const char *rest, size_t have, uint64_t length)
{
    static unsigned char block[65536];
    char body[128];
    uint64_t h = fnv(14695981039346656037u, (const unsigned char *)rest, have);
    uint64_t got = have;
    while (got < length) {
        ssize_t n = read(fd, block, sizeof(block));
        if (n <= 0) {
            return -1;
        }
        h = fnv(h, block, (size_t)n);
        got += (uint64_t)n;
    }
    (void)snprintf(body, sizeof(body), "%llu %016llx\n", (unsigned long long)got, (unsigned long long)h);
    return reply(fd, "200 OK", body);
}

static int answer(int fd, const char *request, const char *rest, size_t have)
{
    char body[512];
    if (strncmp(request, "GET /hello", 10) == 0) {
        (void)snprintf(body, sizeof(body), "Hello version: %s, instance: %s\n", version, name);
        return reply(fd, "200 OK", body);
    }
    if (strncmp(request, "GET /bytes/", 11) == 0) {
        return send_bytes(fd, number(request + 11));
    }
    if (strncmp(request, "POST /sha", 9) == 0) {
        const char *cl = strcasestr(request, "\r\ncontent-length:");
        if (strcasestr(request, "\r\nexpect: 100-continue") != NULL) {
            (void)send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        }
        return sum_body(fd, rest, have, cl == NULL ? 0 : number(cl + 17));
    }
    return reply(fd, "404 Not Found", "try /hello\n");
}

static void serve(int fd)
{
    static char buf[16385];
    size_t len = 0;
    for (;;) {
        ssize_t n = read(fd, buf + len, sizeof(buf) - 1 - len);
        if (n <= 0) {
            return;
        }
        len += (size_t)n;
        buf[len] = '\0';
        char *end = strstr(buf, "\r\n\r\n");
        if (end == NULL && len < sizeof(buf) - 1) {
            continue;
        }
        if (end == NULL) {
            return;
        }
        size_t head = (size_t)(end - buf) + 4;
        end[2] = '\0';
        if (answer(fd, buf, buf + head, len - head) != 0 || strncmp(buf, "GET", 3) != 0) {
            return;
        }
        memmove(buf, buf + head, len - head);
        len -= head;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    int on = 1;
    if (argc != 4) {
        fprintf(stderr, "usage: echo-server PORT VERSION NAME\n");
        return 2;
    }
    version = argv[2];
    name = argv[3];
    at.sin_port = htons((uint16_t)number(argv[1]));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(listener, 1024) != 0) {
        fprintf(stderr, "echo-server: port %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    (void)signal(SIGCHLD, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            continue;
        }
        if (fork() == 0) {
            (void)close(listener);
            serve(fd);
            _exit(0);
        }
        (void)close(fd);
    }
}
