# SPDX-License-Identifier: Apache-2.0
# Writes OUTPUT, a C file with the files below DIRECTORY. None there: an empty table, and the server says so.
set(TYPE_html "text/html; charset=utf-8")
set(TYPE_js "text/javascript; charset=utf-8")
set(TYPE_css "text/css; charset=utf-8")
set(TYPE_svg "image/svg+xml")
set(TYPE_png "image/png")
set(TYPE_woff2 "font/woff2")
set(TYPE_json "application/json")

file(GLOB_RECURSE paths RELATIVE ${DIRECTORY} "${DIRECTORY}/*")
list(SORT paths)
set(texts "")
set(rows "")
set(number 0)
foreach(path ${paths})
    string(REGEX REPLACE "^.*\\." "" suffix "${path}")
    if(NOT DEFINED TYPE_${suffix})
        message(FATAL_ERROR "web/dist/${path}: no content type is known for .${suffix}; add it to web/embed_assets.cmake")
    endif()
    file(SHA256 "${DIRECTORY}/${path}" digest)
    string(SUBSTRING ${digest} 0 32 etag)
    file(READ "${DIRECTORY}/${path}" bytes HEX)
    string(LENGTH "${bytes}" size)
    math(EXPR size "${size} / 2")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND texts "static const unsigned char BYTES_${number}[] = {${bytes}0};\n")
    string(APPEND rows "    {\"/${path}\", \"${TYPE_${suffix}}\", \"\\\"${etag}\\\"\", BYTES_${number}, ${size}},\n")
    math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT} "// Generated from web/dist/.
#include \"web/web_assets.h\"

#include <string.h>

${texts}
static const WebAsset ASSETS[] = {
${rows}    {NULL, NULL, NULL, NULL, 0},
};

const WebAsset *web_asset_find(const char *path)
{
    for (const WebAsset *asset = ASSETS; asset->path != NULL; asset++) {
        if (strcmp(asset->path, path) == 0) {
            return asset;
        }
    }
    return NULL;
}
")
