/* SPDX-License-Identifier: Apache-2.0 */
/* YAML text to tree: the tree is what its limits say and every string is terminated. One thread. */
#include "fuzz.h"

#include "yaml_doc.h"

static size_t walk(const struct yaml_node *n, unsigned depth)
{
    size_t count = 0;
    PG_BUG_ON(depth > YAML_DEPTH_MAX + 1);
    for (; n != NULL; n = n->next) {
        size_t children = 0;
        count++;
        PG_BUG_ON(n->line == 0 || (n->kind != YAML_SCALAR && n->value.len != 0));
        PG_BUG_ON(n->kind == YAML_SCALAR && (n->first != NULL || n->value.p[n->value.len] != '\0'));
        for (const struct yaml_node *c = n->first; c != NULL; c = c->next) {
            children++;
            PG_BUG_ON(c->next == NULL && c != n->last);
            PG_BUG_ON(n->kind == YAML_MAP && c->key.p == NULL);
        }
        PG_BUG_ON(children != n->n || (n->kind == YAML_MAP && n->n > YAML_KEYS_MAX));
        PG_BUG_ON(yaml_is_null(n) + yaml_is_bool(n, NULL) + yaml_is_number(n) + yaml_is_string(n) > 1);
        count += walk(n->first, depth + 1);
    }
    return count;
}

static void one(struct pg_str in)
{
    struct pg_arena a;
    const struct yaml_node *doc = NULL;
    struct pg_errtext err = {{0}};
    unsigned line = 0;
    pg_arena_init(&a, 1u << 26);
    int r = yaml_parse(in, &a, &doc, &line, &err);
    if (r == 0) {
        PG_BUG_ON(walk(doc, 1) > in.len + 1);
        (void)yaml_get(doc, "metadata");
    } else {
        PG_BUG_ON(err.text[0] == '\0' && r != PG_E_NOMEM);
    }
    pg_arena_fini(&a);
}
FUZZ_TARGET(one, fuzz_no_init)
