// SPDX-License-Identifier: Apache-2.0
// No nonce is used twice under one key, whatever is repeated, killed, replaced or rotated: with
// AES-GCM that would give away both texts and the means to forge. Every seal that the repository
// makes is recorded here, by the linker's wrapping of the sealing functions. Why it holds: a pack
// has a key of its own, derived from its random id, and its blobs are numbered; what is sealed once
// has a random nonce under a key derived for its name; a replacement copies what is sealed.
// If this goes red, the repository's encryption is broken.
#include "common/crypto.h"
#include "common/memory.h"
#include "tests/unit/repository/repository_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define SEAL_COUNT_MAX 65536
#define KEY_COUNT_MAX 64
#define BACKUP_ID "0197a000-0000-7000-8000-0000000000b1"
#define CALL_COUNT_MAX 400

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint8_t seals[SEAL_COUNT_MAX][SHA256_SIZE]; // of key and nonce
static size_t seal_count, repeated_count;
static struct {
    const GcmKey *object;
    uint8_t bytes[AES256_KEY_SIZE];
} keys[KEY_COUNT_MAX];

static void record(const uint8_t *key, const uint8_t *nonce)
{
    uint8_t text[AES256_KEY_SIZE + GCM_NONCE_SIZE];
    uint8_t digest[SHA256_SIZE];
    memcpy(text, key, AES256_KEY_SIZE);
    memcpy(text + AES256_KEY_SIZE, nonce, GCM_NONCE_SIZE);
    crypto_sha256(text, sizeof(text), digest);
    pthread_mutex_lock(&mutex);
    size_t slot = (size_t)digest[0] << 8 | digest[1];
    while (seals[slot][0] != 0 || seals[slot][1] != 0 || seals[slot][2] != 0) {
        if (memcmp(seals[slot], digest, SHA256_SIZE) == 0) {
            repeated_count++;
            break;
        }
        slot = (slot + 1) % SEAL_COUNT_MAX;
    }
    memcpy(seals[slot], digest, SHA256_SIZE);
    seal_count++;
    pthread_mutex_unlock(&mutex);
}

void __real_crypto_seal(const uint8_t *key, const uint8_t *nonce, const void *associated,
                        size_t associated_size, const void *plain, size_t size,
                        uint8_t *ret_sealed);
void __real_gcm_seal(GcmKey *key, const uint8_t *nonce, const void *associated,
                     size_t associated_size, const void *plain, size_t size, uint8_t *ret_sealed);
void __real_gcm_key_set(GcmKey *key, const uint8_t *bytes);
void __wrap_crypto_seal(const uint8_t *key, const uint8_t *nonce, const void *associated,
                        size_t associated_size, const void *plain, size_t size,
                        uint8_t *ret_sealed);
void __wrap_gcm_seal(GcmKey *key, const uint8_t *nonce, const void *associated,
                     size_t associated_size, const void *plain, size_t size, uint8_t *ret_sealed);
void __wrap_gcm_key_set(GcmKey *key, const uint8_t *bytes);

void __wrap_crypto_seal(const uint8_t *key, const uint8_t *nonce, const void *associated,
                        size_t associated_size, const void *plain, size_t size, uint8_t *ret_sealed)
{
    record(key, nonce);
    __real_crypto_seal(key, nonce, associated, associated_size, plain, size, ret_sealed);
}

void __wrap_gcm_key_set(GcmKey *key, const uint8_t *bytes)
{
    size_t free_slot = KEY_COUNT_MAX;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < KEY_COUNT_MAX; i++) {
        if (keys[i].object == key || (keys[i].object == NULL && free_slot == KEY_COUNT_MAX)) {
            free_slot = i;
            if (keys[i].object == key) {
                break;
            }
        }
    }
    // More objects than slots at once: the oldest is not in use any more.
    size_t slot = free_slot == KEY_COUNT_MAX ? seal_count % KEY_COUNT_MAX : free_slot;
    keys[slot].object = key;
    memcpy(keys[slot].bytes, bytes, AES256_KEY_SIZE);
    pthread_mutex_unlock(&mutex);
    __real_gcm_key_set(key, bytes);
}

void __wrap_gcm_seal(GcmKey *key, const uint8_t *nonce, const void *associated,
                     size_t associated_size, const void *plain, size_t size, uint8_t *ret_sealed)
{
    const uint8_t *bytes = NULL;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < KEY_COUNT_MAX && bytes == NULL; i++) {
        bytes = keys[i].object == key ? keys[i].bytes : NULL;
    }
    pthread_mutex_unlock(&mutex);
    assert_non_null(bytes);
    record(bytes, nonce);
    __real_gcm_seal(key, nonce, associated, associated_size, plain, size, ret_sealed);
}

static Status sweep(Fixture *fixture, const Manifest *kept, SweepResult *ret_result)
{
    const char *keep[] = {kept->id};
    SweepOptions options = {
        .shard_id = SHARD_ID, .keep = keep, .keep_count = 1, .protect_epoch_min = UINT32_MAX};
    return repository_sweep_shard(fixture->repository, &fixture->key, &options, ret_result,
                                  &fixture->error);
}

// Publishes again and again until no storage call fails any more, as attempts that are killed do.
static Manifest *publish_with_faults(Fixture *fixture, const Manifest *parent)
{
    Manifest *manifest = NULL;
    for (int call = 1; manifest == NULL; call += 1 + call / 2) {
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(fixture->storage, call, call % 2 == 0);
        (void)fixture_publish(fixture, parent, &manifest);
        storage_memory_fail_at(fixture->storage, 0, false);
    }
    return manifest;
}

static void test_no_nonce_is_used_twice(void **state)
{
    Fixture *fixture = *state;
    SweepResult swept = {0};
    RotateResult rotated = {0};
    DataKey second = {0};
    source_write(fixture, "a", 60 * EXTENT, 1);
    Manifest *seed = publish_with_faults(fixture, NULL);
    source_patch(fixture, "a", 0, 50 * EXTENT, 2);
    Manifest *child = publish_with_faults(fixture, seed);
    write_set(fixture, BACKUP_ID, child);
    write_set(fixture, BACKUP_ID, child);
    for (int call = 1;;
         call += 1 + call / 4) { // the sweep makes replacements, also ones that it tries twice
        assert_true(call < CALL_COUNT_MAX);
        storage_memory_fail_at(fixture->storage, call, call % 2 == 0);
        Status status = sweep(fixture, child, &swept);
        storage_memory_fail_at(fixture->storage, 0, false);
        if (status == STATUS_OK) {
            break;
        }
    }
    assert_true(object_count(fixture, "shards/" SHARD_ID "/packs/") >= 2);
    assert_ok(fixture, repository_data_key_renew(fixture->repository, DATABASE_ID, &second,
                                                 &fixture->error));
    data_key_done(&second);
    KeyWrapper *from = key_wrapper_from_key(&fixture->wrapping_key);
    fixture->wrapping_key.data[0] ^= 1;
    KeyWrapper *to = key_wrapper_from_key(&fixture->wrapping_key);
    assert_ok(fixture,
              repository_add_wrapping_key(fixture->storage, from, to, &rotated, &fixture->error));
    assert_ok(fixture, repository_remove_wrapping_key(fixture->storage, from, to, &rotated,
                                                      &fixture->error));
    assert_ok(fixture,
              repository_add_wrapping_key(fixture->storage, to, from, &rotated, &fixture->error));
    key_wrapper_free(from);
    key_wrapper_free(to);
    assert_true(seal_count > 200);
    assert_true(seal_count < SEAL_COUNT_MAX / 2);
    assert_int_equal(repeated_count, 0);
    // And the record does tell.
    uint8_t key[AES256_KEY_SIZE] = {1};
    uint8_t nonce[GCM_NONCE_SIZE] = {2};
    uint8_t sealed[GCM_TAG_SIZE];
    crypto_seal(key, nonce, NULL, 0, NULL, 0, sealed);
    crypto_seal(key, nonce, NULL, 0, NULL, 0, sealed);
    assert_int_equal(repeated_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_nonce_is_used_twice, fixture_set_up_memory,
                                        fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
