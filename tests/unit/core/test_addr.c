/* SPDX-License-Identifier: Apache-2.0 */
/* Strictness tables of the address parsers: what is refused matters as much as what is taken. */
#include "core/addr.h"
#include "testlib.h"

#include <arpa/inet.h>

/* Counts a failed row and names it, which a bare CU_ASSERT in a loop would not. */
static void row(bool ok, const char *what, const char *text)
{
    if (!ok) {
        (void)fprintf(stderr, "%s: \"%s\"\n", what, text);
    }
    CU_ASSERT(ok);
}

static void ips(void)
{
    static const struct {
        const char *text;
        const char *want; /* NULL: refused */
    } t[] = {
        {"1.2.3.4", "1.2.3.4"},
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"::", "::"},
        {"::1", "::1"},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
        {"::ffff:10.0.0.1", "10.0.0.1"},
        {"::ffff:a00:1", "10.0.0.1"},
        {"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"},
        {"64:ff9b::1.2.3.4", "64:ff9b::102:304"},
        {"", NULL},
        {"1.2.3", NULL},
        {"1.2.3.4.5", NULL},
        {"01.2.3.4", NULL},
        {"1.2.3.04", NULL},
        {"256.1.1.1", NULL},
        {"1.2.3.4 ", NULL},
        {" 1.2.3.4", NULL},
        {"0x7f.0.0.1", NULL},
        {"2130706433", NULL},
        {"1.2.3.+4", NULL},
        {"[::1]", NULL},
        {"fe80::1%eth0", NULL},
        {"fe80::1%25eth0", NULL},
        {":::", NULL},
        {"1::2::3", NULL},
        {"12345::", NULL},
        {"1:2:3:4:5:6:7", NULL},
        {"1:2:3:4:5:6:7:8:9", NULL},
        {"::g", NULL},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", NULL},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        char out[PG_IP_TEXT];
        struct pg_ip ip = {.len = 99};
        int r = pg_ip_parse(pg_str_c(t[i].text), &ip);
        if (t[i].want == NULL) {
            row(r == PG_E_PARSE && ip.len == 99, "ip taken", t[i].text);
        } else {
            row(r == 0 && pg_str_eq_c(pg_str_c(pg_ip_fmt(&ip, out)), t[i].want), "ip", t[i].text);
        }
    }
    struct pg_ip ip;
    CU_ASSERT_EQUAL(pg_ip_parse(PG_STR("1.2.3.4\0"), &ip), PG_E_PARSE);
    CU_ASSERT_EQUAL(pg_ip_parse(pg_str_n("1.2.3.45", 7), &ip), 0); /* only the slice is read */
    CU_ASSERT_EQUAL(ip.b[3], 4);
}

static void ip_bytes(void)
{
    struct pg_ip ip;
    char out[PG_IP_TEXT];
    CU_ASSERT_EQUAL(pg_ip_from_bytes("\x0a\0\0\1", 4, &ip), 0);
    CU_ASSERT_STRING_EQUAL(pg_ip_fmt(&ip, out), "10.0.0.1");
    CU_ASSERT_EQUAL(pg_ip_from_bytes("\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\2", 16, &ip), 0);
    CU_ASSERT_EQUAL(ip.len, 4);
    CU_ASSERT(pg_ip_is_loopback(&ip));
    CU_ASSERT_EQUAL(pg_ip_from_bytes("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, &ip), 0);
    CU_ASSERT(pg_ip_is_loopback(&ip));
    CU_ASSERT_EQUAL(pg_ip_from_bytes("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16, &ip), 0);
    CU_ASSERT_FALSE(pg_ip_is_loopback(&ip));
    CU_ASSERT_EQUAL(pg_ip_from_bytes("abcde", 5, &ip), PG_E_PARSE);
    CU_ASSERT_EQUAL(pg_ip_from_bytes("", 0, &ip), PG_E_PARSE);
    struct pg_ip none = {0};
    CU_ASSERT_STRING_EQUAL(pg_ip_fmt(&none, out), "");
    CU_ASSERT_FALSE(pg_ip_is_loopback(&none));
    CU_ASSERT_FALSE(pg_ip_eq(&none, &ip));
}

static void addrs(void)
{
    static const struct {
        const char *text;
        const char *want;
    } t[] = {
        {"1.2.3.4:80", "1.2.3.4:80"},
        {"1.2.3.4:0", "1.2.3.4:0"},
        {"1.2.3.4:65535", "1.2.3.4:65535"},
        {"[::1]:15008", "[::1]:15008"},
        {"[::ffff:1.2.3.4]:80", "1.2.3.4:80"},
        {"1.2.3.4", NULL},
        {"1.2.3.4:", NULL},
        {"1.2.3.4:65536", NULL},
        {"1.2.3.4:080", NULL},
        {"1.2.3.4:-1", NULL},
        {"1.2.3.4:+80", NULL},
        {"1.2.3.4:80 ", NULL},
        {"::1:80", NULL},
        {"::1", NULL},
        {"[::1]", NULL},
        {"[::1]80", NULL},
        {"[::1", NULL},
        {"::1]:80", NULL},
        {"[1.2.3.4]:80", NULL},
        {"[]:80", NULL},
        {"[::1]]:80", NULL},
        {"[::1%lo]:80", NULL},
        {":80", NULL},
        {"", NULL},
        {":", NULL},
        {"localhost:80", NULL},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        char out[PG_ADDR_TEXT];
        struct pg_addr a = {.port = 4711};
        int r = pg_addr_parse(pg_str_c(t[i].text), &a);
        if (t[i].want == NULL) {
            row(r == PG_E_PARSE && a.port == 4711, "addr taken", t[i].text);
        } else {
            row(r == 0 && pg_str_eq_c(pg_str_c(pg_addr_fmt(&a, out)), t[i].want), "addr", t[i].text);
        }
    }
    struct pg_addr longest = {.ip = {.len = 16}, .port = 65535};
    char out[PG_ADDR_TEXT];
    memset(longest.ip.b, 0xab, 16);
    CU_ASSERT_STRING_EQUAL(pg_addr_fmt(&longest, out), "[abab:abab:abab:abab:abab:abab:abab:abab]:65535");
}

static void prefixes(void)
{
    static const struct {
        const char *text;
        const char *net; /* NULL: refused */
        int bits;
        const char *in;
        const char *out;
    } t[] = {
        {"10.0.0.0/8", "10.0.0.0", 8, "10.255.0.1", "11.0.0.0"},
        {"10.1.2.3/8", "10.0.0.0", 8, "10.9.9.9", "9.255.255.255"},
        {"10.1.2.3", "10.1.2.3", 32, "10.1.2.3", "10.1.2.2"},
        {"10.1.2.3/31", "10.1.2.2", 31, "10.1.2.3", "10.1.2.4"},
        {"192.168.129.0/17", "192.168.128.0", 17, "192.168.255.255", "192.168.127.255"},
        {"0.0.0.0/0", "0.0.0.0", 0, "255.255.255.255", "::1"},
        {"::/0", "::", 0, "fe80::1", "1.2.3.4"},
        {"2001:2::/48", "2001:2::", 48, "2001:2:0:ffff::1", "2001:2:1::"},
        {"2001:db8::1", "2001:db8::1", 128, "2001:db8::1", "2001:db8::"},
        {"fe80::/10", "fe80::", 10, "febf::1", "fec0::"},
        {"::ffff:10.0.0.0/104", "10.0.0.0", 8, "10.1.1.1", "11.1.1.1"},
        {"::ffff:10.0.0.0/95", NULL, 0, NULL, NULL},
        {"10.0.0.0/33", NULL, 0, NULL, NULL},
        {"::/129", NULL, 0, NULL, NULL},
        {"10.0.0.0/", NULL, 0, NULL, NULL},
        {"10.0.0.0/08", NULL, 0, NULL, NULL},
        {"10.0.0.0/-1", NULL, 0, NULL, NULL},
        {"10.0.0.0/8/8", NULL, 0, NULL, NULL},
        {"10/8", NULL, 0, NULL, NULL},
        {"/8", NULL, 0, NULL, NULL},
        {"", NULL, 0, NULL, NULL},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        struct pg_prefix p = {.bits = 77};
        struct pg_ip in;
        struct pg_ip out;
        char text[PG_IP_TEXT];
        int r = pg_prefix_parse(pg_str_c(t[i].text), &p);
        if (t[i].net == NULL) {
            row(r == PG_E_PARSE && p.bits == 77, "prefix taken", t[i].text);
            continue;
        }
        row(r == 0 && p.bits == t[i].bits, "prefix", t[i].text);
        row(pg_str_eq_c(pg_str_c(pg_ip_fmt(&p.ip, text)), t[i].net), "network", t[i].text);
        CU_ASSERT_EQUAL(pg_ip_parse(pg_str_c(t[i].in), &in), 0);
        CU_ASSERT_EQUAL(pg_ip_parse(pg_str_c(t[i].out), &out), 0);
        row(pg_prefix_has(&p, &in), "inside", t[i].text);
        row(!pg_prefix_has(&p, &out), "outside", t[i].text);
    }
    struct pg_prefix none = {0};
    struct pg_ip no_ip = {0};
    CU_ASSERT_FALSE(pg_prefix_has(&none, &no_ip));
    CU_ASSERT_EQUAL(pg_prefix_make(&no_ip, 0, &none), PG_E_PARSE);
}

static void sockaddrs(void)
{
    static const char *const t[] = {"1.2.3.4:80", "[2001:db8::1]:443"};
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        struct pg_addr a;
        struct pg_addr back;
        struct sockaddr_storage ss;
        CU_ASSERT_EQUAL(pg_addr_parse(pg_str_c(t[i]), &a), 0);
        socklen_t len = pg_addr_to_sockaddr(&a, &ss);
        CU_ASSERT_EQUAL(len, i == 0 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        CU_ASSERT_EQUAL(pg_addr_from_sockaddr((struct sockaddr *)&ss, &back), 0);
        CU_ASSERT(pg_addr_eq(&a, &back));
    }
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(7)};
    struct pg_addr a;
    CU_ASSERT_EQUAL(inet_pton(AF_INET6, "::ffff:9.8.7.6", &mapped.sin6_addr), 1);
    CU_ASSERT_EQUAL(pg_addr_from_sockaddr((struct sockaddr *)&mapped, &a), 0);
    CU_ASSERT_EQUAL(a.ip.len, 4);
    CU_ASSERT_EQUAL(a.port, 7);
    struct sockaddr other = {.sa_family = AF_UNIX};
    CU_ASSERT_EQUAL(pg_addr_from_sockaddr(&other, &a), PG_E_UNSUPPORTED);
    CU_ASSERT_EQUAL(a.port, 7);
}

static void hostports(void)
{
    static const struct {
        const char *text;
        const char *host; /* NULL: refused */
        int port;
        int ip_len;
    } t[] = {
        {"1.2.3.4:80", "1.2.3.4", 80, 4},
        {"[::1]:80", "::1", 80, 16},
        {"[::ffff:1.2.3.4]:80", "::ffff:1.2.3.4", 80, 4},
        {"web.default.svc.cluster.local:8080", "web.default.svc.cluster.local", 8080, 0},
        {"a:1", "a", 1, 0},
        {"Under_score-1.x:65535", "Under_score-1.x", 65535, 0},
        {"*.example.com:443", "*.example.com", 443, 0},
        {"10.0.0.1.nip.io:80", "10.0.0.1.nip.io", 80, 0},
        {"a:0", NULL, 0, 0},
        {"a:65536", NULL, 0, 0},
        {"a:080", NULL, 0, 0},
        {"a:", NULL, 0, 0},
        {"a", NULL, 0, 0},
        {"", NULL, 0, 0},
        {":80", NULL, 0, 0},
        {"a:80x", NULL, 0, 0},
        {"user@a:80", NULL, 0, 0},
        {"user:pw@a:80", NULL, 0, 0},
        {"a%2eb:80", NULL, 0, 0},
        {"[fe80::1%25eth0]:80", NULL, 0, 0},
        {"[a]:80", NULL, 0, 0},
        {"[a:b]:80", NULL, 0, 0},
        {"[1.2.3.4]:80", NULL, 0, 0},
        {"::1:80", NULL, 0, 0},
        {"a..b:80", NULL, 0, 0},
        {".a:80", NULL, 0, 0},
        {"a.:80", NULL, 0, 0},
        {".:80", NULL, 0, 0},
        {"*:80", NULL, 0, 0},
        {"*a.b:80", NULL, 0, 0},
        {"a.*.b:80", NULL, 0, 0},
        {"*.:80", NULL, 0, 0},
        {"a b:80", NULL, 0, 0},
        {"a/b:80", NULL, 0, 0},
        {"http://a:80", NULL, 0, 0},
        {"a\r\nb:80", NULL, 0, 0},
        {"caf\xc3\xa9:80", NULL, 0, 0},
        {"256.1.1.1:80", NULL, 0, 0},
        {"1.2.3:80", NULL, 0, 0},
        {"2130706433:80", NULL, 0, 0},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b:80", NULL, 0, 0},
    };
    for (size_t i = 0; i < PG_ARRAY_LEN(t); i++) {
        struct pg_hostport hp = {.port = 4711};
        int r = pg_hostport_parse(pg_str_c(t[i].text), &hp);
        if (t[i].host == NULL) {
            row(r == PG_E_PARSE && hp.port == 4711, "hostport taken", t[i].text);
        } else {
            row(r == 0 && pg_str_eq_c(hp.host, t[i].host) && hp.port == t[i].port && hp.ip.len == t[i].ip_len,
                "hostport", t[i].text);
        }
    }
    struct pg_hostport hp;
    CU_ASSERT_EQUAL(pg_hostport_parse(PG_STR("a\0b:80"), &hp), PG_E_PARSE);
}

static void long_names(void)
{
    char name[300];
    struct pg_hostport hp;
    for (size_t i = 0; i < sizeof(name); i++) {
        name[i] = i % 50 == 49 ? '.' : 'a';
    }
    memcpy(name + 253, ":80", 3);
    CU_ASSERT_EQUAL(pg_hostport_parse(pg_str_n(name, 256), &hp), 0);
    memcpy(name + 253, "a:80", 4);
    CU_ASSERT_EQUAL(pg_hostport_parse(pg_str_n(name, 257), &hp), PG_E_PARSE);
}

TEST_MAIN("addr", {"ip text", ips}, {"ip bytes", ip_bytes}, {"addresses", addrs}, {"prefixes", prefixes},
          {"sockaddr", sockaddrs}, {"hostport", hostports}, {"long names", long_names})
