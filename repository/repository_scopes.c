// SPDX-License-Identifier: Apache-2.0
#include "repository/repository_scopes.h"

#include "common/memory.h"

#include <string.h>

struct ScopeLink {
    ShardScope scope;
    ScopeLink *next;
};

Status scopes_get(Scopes *scopes, const Repository *repository, const DataKey *key,
                  const Manifest *manifest, const ShardScope **ret_scope, Error *error)
{
    for (ScopeLink *link = scopes->first; link != NULL; link = link->next) {
        if (strcmp(link->scope.key_id, key->id) == 0 &&
            strcmp(link->scope.database_id, manifest->database_id) == 0) {
            *ret_scope = &link->scope;
            return STATUS_OK;
        }
    }
    ScopeLink *link = mem_alloc(sizeof(*link));
    link->next = scopes->first;
    scopes->first = link;
    *ret_scope = &link->scope;
    return scope_init(&link->scope, repository, key, manifest->database_id, manifest->shard_id,
                      error);
}

bool scopes_have(const Scopes *scopes, const char *key_id, const ShardScope **ret_scope)
{
    const ScopeLink *link = scopes->first;
    while (link != NULL && strcmp(link->scope.key_id, key_id) != 0) {
        link = link->next;
    }
    *ret_scope = link != NULL ? &link->scope : NULL;
    return link != NULL;
}

void scopes_done(Scopes *scopes)
{
    while (scopes->first != NULL) {
        ScopeLink *link = scopes->first;
        scopes->first = link->next;
        scope_done(&link->scope);
        mem_free(link);
    }
}
