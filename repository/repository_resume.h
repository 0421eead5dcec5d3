// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: extents that earlier attempts have stored and no manifest names, so that
// a new attempt need not store them again.
#pragma once

#include "repository/repository_blob.h"

typedef struct ResumeTable ResumeTable;
// Reads the indexes of the shard's packs with an epoch in [epoch_min, epoch_max]. Packs that are
// damaged, of another key, or more than the table holds are passed over. NULL: there is none.
Status resume_table_load(const ShardScope *scope, uint32_t epoch_min, uint32_t epoch_max,
                         ResumeTable **ret_table, Error *error);
void resume_table_free(ResumeTable *table); // NULL is fine
// Completes a ref of which hash, kind and plain_size are known; false: no such extent. Thread-safe.
// NULL: an empty table.
bool resume_find(const ResumeTable *table, Ref *ref);
// REASON_CONFLICT unless every pack that resume_find has named is still there.
Status resume_table_check(const ResumeTable *table, Error *error);
// The most memory that a table takes.
#define RESUME_TABLE_SIZE_MAX ((size_t)48 * 1024 * 1024)
