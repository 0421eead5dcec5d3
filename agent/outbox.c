// SPDX-License-Identifier: Apache-2.0
// Messages are kept packed, so that what is said again is what was said before.
#include "agent/outbox.h"

#include "common/memory.h"

#include <assert.h>

void outbox_done(Outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        mem_free(outbox->items[i].packed);
    }
    *outbox = (Outbox){0};
}

void outbox_add(Outbox *outbox, OutboxKind kind, const Holdfast__V1__AgentMessage *message)
{
    assert(outbox->count < OUTBOX_ITEM_COUNT_MAX);
    size_t size = holdfast__v1__agent_message__get_packed_size(message);
    uint8_t *packed = mem_alloc(size + 1);
    (void)holdfast__v1__agent_message__pack(message, packed);
    outbox->items[outbox->count] = (OutboxItem){.kind = kind, .packed = packed, .size = size};
    outbox->count++;
}

int outbox_next(const Outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        if (!outbox->items[i].is_sent && !outbox->items[i].is_answered) {
            return (int)i;
        }
    }
    return -1;
}

void outbox_sent(Outbox *outbox, int index)
{
    assert(index >= 0);
    assert((size_t)index < outbox->count);
    outbox->items[index].is_sent = true;
}

void outbox_answered(Outbox *outbox, OutboxKind kind)
{
    for (size_t i = 0; i < outbox->count; i++) {
        if (outbox->items[i].kind == kind) {
            outbox->items[i].is_answered = true;
        }
    }
}

// The newest item of a kind that was sent already, or -1.
static int outbox_newest_sent(const Outbox *outbox, OutboxKind kind)
{
    for (size_t i = outbox->count; i > 0; i--) {
        if (outbox->items[i - 1].kind == kind && outbox->items[i - 1].is_sent) {
            return (int)(i - 1);
        }
    }
    return -1;
}

void outbox_repeat(Outbox *outbox, OutboxKind kind)
{
    int index = outbox_newest_sent(outbox, kind);
    if (index >= 0) {
        outbox->items[index].is_sent = false;
    }
}

void outbox_rewind(Outbox *outbox)
{
    int newest_phase = outbox_newest_sent(outbox, OUTBOX_PHASE);
    for (size_t i = 0; i < outbox->count; i++) {
        OutboxItem *item = &outbox->items[i];
        if (item->kind != OUTBOX_PHASE || (int)i == newest_phase) {
            item->is_sent = false;
        }
    }
}
