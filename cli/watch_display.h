// SPDX-License-Identifier: Apache-2.0
// Drawing what watch.c fetched.
#pragma once

#include "cli/watch.h"

typedef struct WatchDisplay WatchDisplay;

WatchDisplay *watch_display_new(const Cli *cli, const WatchKind *kind);
void watch_display_free(WatchDisplay *display);
// `shards` is a list; both are borrowed for the call.
void watch_display_update(WatchDisplay *display, const Json *object, const Json *shards);
// One line about something else, between the bars.
void watch_display_note(WatchDisplay *display, const char *text);
// The last line: how it ended.
void watch_display_finish(WatchDisplay *display, const Json *object);
