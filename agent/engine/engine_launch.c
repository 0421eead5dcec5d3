// SPDX-License-Identifier: Apache-2.0
#include "agent/engine/engine_launch.h"

#include "agent/engine/child.h"
#include "common/text.h"
#include "recorder/recorder.h"

#include <assert.h>
#include <unistd.h>

static size_t count_of(const char *const *list)
{
    size_t count = 0;
    while (list != NULL && list[count] != NULL) {
        count++;
    }
    return count;
}

// A list with room for `room` more in front and the NULL behind.
static const char **list_copy(Arena *arena, const char *const *list, size_t room)
{
    size_t count = count_of(list);
    const char **copy = arena_alloc_array(arena, count + room + 1, sizeof(*copy));
    for (size_t i = 0; i < count; i++) {
        copy[room + i] = list[i];
    }
    return copy;
}

Status engine_launch(const EngineOptions *options, const ProcessOptions *process, pid_t *ret_pid,
                     Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool has_launcher = !text_is_empty(options->agent_program); // tests may do without
    const char *library = recorder_library_path(options->recorder);
    size_t room = library == NULL ? 1 : 3;
    const char **environment = list_copy(arena, process->environment, room);
    environment[0] = arena_format(arena, CHILD_PARENT_VARIABLE "=%d", (int)getpid());
    if (library != NULL) {
        const char *variable = has_launcher ? CHILD_PRELOAD_VARIABLE : "LD_PRELOAD";
        environment[1] = arena_format(arena, "%s=%s", variable, library);
        environment[2] = arena_format(arena, RECORDER_TABLE_VARIABLE "=%s",
                                      recorder_table_path(options->recorder));
    }
    const char **arguments = list_copy(arena, process->arguments, has_launcher ? 2 : 0);
    if (has_launcher) {
        arguments[0] = options->agent_program;
        arguments[1] = "--child";
    }
    ProcessOptions whole = *process;
    whole.arguments = arguments;
    whole.environment = environment;
    RETURN_IF_ERROR(process_spawn(&whole, ret_pid, error));
    recorder_note_launch(options->recorder, *ret_pid);
    return STATUS_OK;
}
