// SPDX-License-Identifier: Apache-2.0
#include "common/xml.h"

#include "common/buffer.h"
#include "common/memory.h"
#include "common/text.h"

#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 16
#define PATH_BYTES_MAX 512
#define TEXT_BYTES_MAX (64 * 1024)

typedef struct Reading {
    XML_Parser parser;
    XmlVisitor visit;
    void *context;
    char path[PATH_BYTES_MAX];
    size_t path_size;
    int depth;
    Buffer text;
    const char *problem; // or NULL
    bool is_ended;       // by the visitor
    bool is_container;   // an element has just ended: what ends next holds it
} Reading;

static void stop(Reading *reading, const char *problem)
{
    reading->problem = problem;
    (void)XML_StopParser(reading->parser, XML_FALSE); // fails only when it is stopped already
}

static void XMLCALL on_start(void *context, const XML_Char *name, const XML_Char **attributes)
{
    (void)attributes;
    Reading *reading = context;
    size_t name_size = strlen(name);
    if (reading->depth == DEPTH_MAX || reading->path_size + name_size + 2 > PATH_BYTES_MAX) {
        stop(reading, "elements are nested too deep");
        return;
    }
    if (reading->depth > 0) {
        reading->path[reading->path_size++] = '/';
    }
    memcpy(reading->path + reading->path_size, name, name_size + 1);
    reading->path_size += name_size;
    reading->depth++;
    reading->is_container = false;
    buffer_clear(&reading->text);
}

static void XMLCALL on_end(void *context, const XML_Char *name)
{
    (void)name;
    Reading *reading = context;
    if (reading->problem != NULL || reading->is_ended) {
        return; // expat closes empty elements even when it is stopped
    }
    const char *text = reading->is_container ? "" : buffer_text(&reading->text);
    reading->is_container = true;
    if (!reading->visit(reading->context, reading->path, text)) {
        reading->is_ended = true;
        stop(reading, NULL);
    }
    buffer_clear(&reading->text);
    char *slash = strrchr(reading->path, '/');
    reading->path_size = slash == NULL ? 0 : (size_t)(slash - reading->path);
    reading->path[reading->path_size] = '\0';
    reading->depth--;
}

static void XMLCALL on_text(void *context, const XML_Char *text, int size)
{
    Reading *reading = context;
    if (!buffer_append(&reading->text, text, (size_t)size)) {
        stop(reading, "an element has too much text");
    }
}

static void XMLCALL on_document_type(void *context, const XML_Char *name, const XML_Char *system,
                                     const XML_Char *public, int has_internal)
{
    (void)name;
    (void)system;
    (void)public;
    (void)has_internal;
    stop(context, "it has a document type");
}

Status xml_read(const void *data, size_t size, XmlVisitor visit, void *context, Error *error)
{
    if (size > INT_MAX) {
        return error_set(error, REASON_INVALID, "the XML is too large");
    }
    Reading reading = {.visit = visit, .context = context};
    reading.parser = XML_ParserCreate("UTF-8");
    if (reading.parser == NULL) {
        mem_exhausted();
    }
    buffer_init(&reading.text, TEXT_BYTES_MAX);
    XML_SetUserData(reading.parser, &reading);
    XML_SetElementHandler(reading.parser, on_start, on_end);
    XML_SetCharacterDataHandler(reading.parser, on_text);
    XML_SetStartDoctypeDeclHandler(reading.parser, on_document_type);
    Status status = STATUS_OK;
    if (XML_Parse(reading.parser, data, (int)size, XML_TRUE) == XML_STATUS_ERROR &&
        !reading.is_ended) {
        const char *problem = reading.problem != NULL
                                  ? reading.problem
                                  : XML_ErrorString(XML_GetErrorCode(reading.parser));
        status = error_set(error, REASON_INVALID, "the XML cannot be read: %s", problem);
    }
    buffer_done(&reading.text);
    XML_ParserFree(reading.parser);
    return status;
}

typedef struct Search {
    const char *path;
    char *ret_text;
    size_t ret_size;
    bool is_found;
} Search;

static bool compare_path(void *context, const char *path, const char *text)
{
    Search *search = context;
    const char *inner = strchr(path, '/');
    if (inner == NULL || !text_equal(inner + 1, search->path)) {
        return true;
    }
    search->is_found = strlen(text) < search->ret_size;
    (void)snprintf(search->ret_text, search->ret_size, "%s", search->is_found ? text : "");
    return false;
}

bool xml_find(const void *data, size_t size, const char *path, char *ret_text, size_t ret_size)
{
    Search search = {.path = path, .ret_text = ret_text, .ret_size = ret_size};
    Error error = {0};
    ret_text[0] = '\0';
    (void)xml_read(data, size, compare_path, &search, &error); // what is no XML has no element
    return search.is_found;
}

void xml_write_text(const char *text, Buffer *buffer)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            (void)buffer_append_text(buffer, "&amp;");
            break;
        case '<':
            (void)buffer_append_text(buffer, "&lt;");
            break;
        case '>':
            (void)buffer_append_text(buffer, "&gt;");
            break;
        case '"':
            (void)buffer_append_text(buffer, "&quot;");
            break;
        default:
            (void)buffer_append(buffer, text, 1);
        }
    }
}
