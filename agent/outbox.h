// SPDX-License-Identifier: Apache-2.0
// What the agent has to say to the server and must say again after a reconnect, in order. Not
// thread-safe.
#pragma once

#include "holdfast/v1/agent.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum OutboxKind {
    OUTBOX_PHASE,
    OUTBOX_CHECKPOINT,
    OUTBOX_COMMIT,
    OUTBOX_RESTORE_DONE,
    OUTBOX_FAILED,
} OutboxKind;

typedef struct OutboxItem {
    OutboxKind kind;
    uint8_t *packed; // an AgentMessage
    size_t size;
    bool is_sent;
    bool is_answered; // never to be repeated
} OutboxItem;

// A job has one item of each kind, and a phase item for each phase.
#define OUTBOX_ITEM_COUNT_MAX 32

typedef struct Outbox {
    OutboxItem items[OUTBOX_ITEM_COUNT_MAX];
    size_t count;
} Outbox;

void outbox_done(Outbox *outbox); // leaves it empty
void outbox_add(Outbox *outbox, OutboxKind kind, const Holdfast__V1__AgentMessage *message);
// The first item that waits to be sent, or -1.
int outbox_next(const Outbox *outbox);
void outbox_sent(Outbox *outbox, int index);
// The server answered: items of this kind are not repeated any more.
void outbox_answered(Outbox *outbox, OutboxKind kind);
// The server asks again: the newest item of this kind is sent once more.
void outbox_repeat(Outbox *outbox, OutboxKind kind);
// A new stream: what the old one may have lost is sent again. That is the newest phase of those
// sent, and everything else that has no answer; older phases are known to have arrived when a newer
// one was sent after them or do not matter any more.
void outbox_rewind(Outbox *outbox);
