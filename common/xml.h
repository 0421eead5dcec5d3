// SPDX-License-Identifier: Apache-2.0
// Reading small XML answers of cloud services over expat, which only xml.c includes. Document types
// and entities of their own, depth over 16 and elements with more than 64 KiB of text are refused.
#pragma once

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

// Called at the end of every element, with its path ("ListBucketResult/Contents/Key") and its own
// text ("" for one that holds elements). False ends the reading, which is OK then.
typedef bool (*XmlVisitor)(void *context, const char *path, const char *text);

// REASON_INVALID for what is not XML or beyond the limits; what was visited before stays visited.
Status xml_read(const void *data, size_t size, XmlVisitor visit, void *context, Error *error);
// The text of the first element whose path, without the document's element, is `path` ("Code");
// false and "" when there is none, it does not fit, or this is no XML.
bool xml_find(const void *data, size_t size, const char *path, char *ret_text, size_t ret_size);
// Adds text to XML, escaped.
typedef struct Buffer Buffer;
void xml_write_text(const char *text, Buffer *buffer);
