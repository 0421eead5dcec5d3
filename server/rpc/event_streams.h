// SPDX-License-Identifier: Apache-2.0
// The StreamEvents calls that are open, fed by one thread: a fetch blocks for a query and a client
// may read slowly, neither of which the event hub nor gRPC's threads may wait for.
#pragma once

#include "common/rpc/rpc_server.h"
#include "server/service/event_stream.h"

typedef struct EventStreams EventStreams;
typedef struct EventStream EventStream;

EventStreams *event_streams_new(Service *service);
// Finishes every stream and ends the thread; the streams are closed by their calls' ends.
void event_streams_stop(EventStreams *streams);
void event_streams_free(EventStreams *streams); // every stream must be closed

Status event_stream_open(EventStreams *streams, RpcCall *call, ServiceCall *service_call,
                         const Holdfast__V1__StreamEventsRequest *request, EventStream **ret_stream,
                         Error *error);
void event_stream_close(EventStream *stream);
