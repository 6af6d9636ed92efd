/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GUEST_FS_TREE_H
#define TESTS_GUEST_FS_TREE_H

#include "tests/guest/fs/fstest.h"

/* Times after this one are the clock's, which no two trees share. */
#define TREE_PAST 1000000000

#define HASH_BEGIN UINT64_C(0xcbf29ce484222325)
uint64_t hash_add(uint64_t hash, const void *data, size_t len);

void tree_print(FILE *out, const char *dir);

#endif
