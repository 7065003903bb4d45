/* SPDX-License-Identifier: Apache-2.0 */
/* Error names, classes, errno translation, the fixed-size text, and that PG_BUG_ON ends the process. */
#include "testlib.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void names_and_classes(void)
{
    CU_ASSERT_STRING_EQUAL(pg_err_name(0), "PG_OK");
    CU_ASSERT_STRING_EQUAL(pg_err_name(17), "PG_OK");
    CU_ASSERT_STRING_EQUAL(pg_err_name(PG_E_CLOSED), "PG_E_CLOSED");
    CU_ASSERT_STRING_EQUAL(pg_err_str(PG_E_CLOSED), "closed");
    CU_ASSERT_EQUAL(pg_err_class(0), PG_CLASS_OK);
    CU_ASSERT_EQUAL(pg_err_class(PG_E_AGAIN), PG_CLASS_AGAIN);
    CU_ASSERT_EQUAL(pg_err_class(PG_E_UNTRUSTED), PG_CLASS_POLICY);
    CU_ASSERT_STRING_EQUAL(pg_err_name(-21), "PG_E_?");
    CU_ASSERT_STRING_EQUAL(pg_err_name(-1000000), "PG_E_?");
    CU_ASSERT_EQUAL(pg_err_class(-21), PG_CLASS_BUG);
}

static void every_code_is_complete(void)
{
#define CHECK(n, value, class, text)                                                                         \
    CU_ASSERT_STRING_EQUAL(pg_err_name(value), "PG_E_" #n);                                                  \
    CU_ASSERT_STRING_EQUAL(pg_err_str(value), text);                                                         \
    CU_ASSERT_EQUAL(pg_err_class(value), class);
    PG_ERR_MAP(CHECK)
#undef CHECK
}

static void from_errno(void)
{
    CU_ASSERT_EQUAL(pg_err_from_errno(EAGAIN), PG_E_AGAIN);
    CU_ASSERT_EQUAL(pg_err_from_errno(EINPROGRESS), PG_E_AGAIN);
    CU_ASSERT_EQUAL(pg_err_from_errno(EPIPE), PG_E_CLOSED);
    CU_ASSERT_EQUAL(pg_err_from_errno(ECONNRESET), PG_E_RESET);
    CU_ASSERT_EQUAL(pg_err_from_errno(ETIMEDOUT), PG_E_TIMEDOUT);
    CU_ASSERT_EQUAL(pg_err_from_errno(ECONNREFUSED), PG_E_REFUSED);
    CU_ASSERT_EQUAL(pg_err_from_errno(ENETUNREACH), PG_E_UNREACHABLE);
    CU_ASSERT_EQUAL(pg_err_from_errno(ENOMEM), PG_E_NOMEM);
    CU_ASSERT_EQUAL(pg_err_from_errno(EMFILE), PG_E_LIMIT);
    CU_ASSERT_EQUAL(pg_err_from_errno(EADDRINUSE), PG_E_EXISTS);
    CU_ASSERT_EQUAL(pg_err_from_errno(EXDEV), PG_E_IO);
    CU_ASSERT_EQUAL(pg_err_from_errno(0), PG_E_IO);
}

static void text(void)
{
    struct pg_errtext e;
    pg_err_set(NULL, "%d", 1);
    pg_err_wrap(NULL, "%d", 1);
    pg_err_set(&e, "port %d", 99999);
    CU_ASSERT_STRING_EQUAL(e.text, "port 99999");
    pg_err_wrap(&e, "listener %s", "a");
    CU_ASSERT_STRING_EQUAL(e.text, "listener a: port 99999");
    pg_err_set(&e, "again (%s)", e.text);
    CU_ASSERT_STRING_EQUAL(e.text, "again (listener a: port 99999)");
}

static void text_is_cut(void)
{
    struct pg_errtext e;
    char big[400];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    pg_err_set(&e, "%s", big);
    CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
    pg_err_wrap(&e, "front");
    CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
    CU_ASSERT_EQUAL(strncmp(e.text, "front: xxx", 10), 0);
    pg_err_wrap(&e, "%s", big);
    CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
    CU_ASSERT_EQUAL(e.text[0], 'x');
}

static void bug_aborts(void)
{
    int fds[2];
    char said[512] = "";
    CU_ASSERT_FATAL(pipe(fds) == 0);
    pid_t child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(fds[1], STDERR_FILENO);
        PG_BUG_ON(fds[0] >= 0);
        _exit(0);
    }
    close(fds[1]);
    ssize_t n = read(fds[0], said, sizeof(said) - 1);
    close(fds[0]);
    CU_ASSERT(n > 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "BUG: fds[0] >= 0 at "));
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "test_err.c:"));
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

TEST_MAIN("err", {"names and classes", names_and_classes}, {"every code", every_code_is_complete},
          {"errno", from_errno}, {"text", text}, {"text is cut", text_is_cut}, {"bug aborts", bug_aborts})
