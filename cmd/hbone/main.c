/* SPDX-License-Identifier: Apache-2.0 */
/* hbone: arguments, configuration, logging, then the process of hbone/proxy.h. */
#include "core/log.h"
#include "core/mem.h"
#include "net/sock.h"
#include "hbone/proxy.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_TRANSPARENT
#define IP_TRANSPARENT 19
#endif
#define TEXT_MAX (1024u * 1024)
#define KEEP_MEMORY (4u * 1024 * 1024) /* a thread's buffers in flight, with some to spare */

extern char **environ;

static void put(int fd, struct pg_str s)
{
    while (s.len > 0) {
        ssize_t n = write(fd, s.p, s.len);
        if (n <= 0) {
            return;
        }
        s = pg_str_sub(s, (size_t)n);
    }
}

static void warn(void *arg, const char *line)
{
    (void)arg;
    PG_LOG(PG_LOG_WARN, "config", "doubtful setting", PG_F_C("reason", line));
}

static int fail(const struct pg_errtext *err)
{
    put(2, PG_STR("hbone: "));
    put(2, pg_str_c(err->text));
    put(2, PG_STR("\n"));
    return 1;
}

static int help(void)
{
    struct pg_sb out;
    pg_sb_init(&out, TEXT_MAX);
    pg_sb_c(&out, "hbone " ISTHMUS_VERSION ": HBONE data plane of an ambient mesh\n\n"
                  "usage: hbone [proxy | version | help | --print-config]\n\n"
                  "Settings are environment variables (name, default, meaning):\n");
    hb_config_help(&out);
    put(1, pg_sb_view(&out));
    pg_sb_fini(&out);
    return 0;
}

static void read_resolv_conf(struct hb_config *cfg)
{
    char buf[8192];
    int fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf)) : 0;
    if (n > 0) {
        hb_config_resolv(cfg, pg_str_n(buf, (size_t)n));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* ENABLE_ORIG_SRC=true means: fail now rather than hide client addresses later. */
static int check_transparent(const struct hb_config *cfg, struct pg_errtext *err)
{
    if (cfg->orig_src != HB_TRUE) {
        return 0;
    }
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = fd >= 0 ? setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof(one)) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (r != 0) {
        pg_err_set(err,
                   "ENABLE_ORIG_SRC: is true, but IP_TRANSPARENT cannot be set (CAP_NET_ADMIN is missing)");
        return PG_E_CONFIG;
    }
    return 0;
}

/* A congestion control this kernel lacks would otherwise be ignored on each socket in silence. */
static int check_congestion(const struct hb_config *cfg, struct pg_errtext *err)
{
    const char *name = cfg->tcp_congestion;
    if (name[0] == '\0') {
        return 0;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = fd >= 0 ? setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (r != 0) {
        pg_err_set(err,
                   "TCP_CONGESTION: this kernel does not offer \"%.32s\"; see sysctl "
                   "net.ipv4.tcp_available_congestion_control",
                   name);
        return PG_E_CONFIG;
    }
    return 0;
}

static int run(const struct hb_config *cfg)
{
    struct pg_errtext err = {.text = ""};
    struct hb_proxy *p;
    pg_mem_keep(KEEP_MEMORY);
    (void)prctl(PR_SET_DUMPABLE, 0); /* private keys stay out of core files */
    pg_sock_set_default_mark(cfg->packet_mark);
    int r = check_transparent(cfg, &err);
    r = r < 0 ? r : check_congestion(cfg, &err);
    r = r < 0 ? r : hb_proxy_new(cfg, &p, &err);
    if (r < 0) {
        return fail(&err);
    }
    PG_LOG(PG_LOG_INFO, "hbone", "running", PG_F_C("version", ISTHMUS_VERSION),
           PG_F_C("mode", cfg->proxy_mode), PG_F_C("workload", cfg->workload_info),
           PG_F_C("network", cfg->network), PG_F_U64("workers", p->n_workers));
    hb_proxy_run(p);
    hb_proxy_free(p);
    return 0;
}

int main(int argc, char **argv)
{
    struct pg_errtext err = {.text = ""};
    struct hb_config cfg;
    const char *cmd = argc > 1 ? argv[1] : "proxy";
    if (strcmp(cmd, "version") == 0 || strcmp(cmd, "--version") == 0) {
        put(1, PG_STR("hbone " ISTHMUS_VERSION "\n"));
        return 0;
    }
    if (strcmp(cmd, "help") == 0 || strcmp(cmd, "--help") == 0 || strcmp(cmd, "-h") == 0) {
        return help();
    }
    bool print = strcmp(cmd, "--print-config") == 0;
    if (!print && strcmp(cmd, "proxy") != 0) {
        pg_err_set(&err, "unknown command %.100s; see hbone --help", cmd);
        (void)fail(&err);
        return 2;
    }
    if (print) {
        pg_log_set_output(2, false);
    }
    if (hb_config_load(&cfg, environ, warn, NULL, &err) < 0) {
        return fail(&err);
    }
    int r = 0;
    if (print) {
        struct pg_sb out;
        pg_sb_init(&out, TEXT_MAX);
        hb_config_print(&cfg, &out);
        put(1, pg_sb_view(&out));
        pg_sb_fini(&out);
    } else {
        read_resolv_conf(&cfg);
        pg_log_set_output(1, strcmp(cfg.log_format, "json") == 0);
        r = pg_log_set_filter(cfg.log_filter, &err) < 0 ? fail(&err) : run(&cfg);
    }
    hb_config_fini(&cfg);
    return r;
}
