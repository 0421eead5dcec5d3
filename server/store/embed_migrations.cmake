# SPDX-License-Identifier: Apache-2.0
# Writes OUTPUT, a C file with the texts of migrations/NNNN_name.sql found in DIRECTORY.
file(GLOB files "${DIRECTORY}/*.sql")
list(SORT files)
set(texts "")
set(rows "")
set(expected 1)
foreach(file ${files})
    get_filename_component(name ${file} NAME_WE)
    if(NOT name MATCHES "^([0-9][0-9][0-9][0-9])_([a-z0-9_]+)$")
        message(FATAL_ERROR "migrations/${name}.sql: the name must be NNNN_verb_object.sql")
    endif()
    set(number ${CMAKE_MATCH_1})
    set(title ${CMAKE_MATCH_2})
    math(EXPR version "1${number} - 10000")
    if(NOT version EQUAL expected)
        message(FATAL_ERROR "migrations/${name}.sql: version ${expected} was expected")
    endif()
    math(EXPR expected "${expected} + 1")
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND texts "static const char TEXT_${version}[] = {${bytes}0};\n")
    string(APPEND rows "    {${version}, \"${title}\", TEXT_${version}, sizeof(TEXT_${version}) - 1},\n")
endforeach()
math(EXPR count "${expected} - 1")
file(WRITE ${OUTPUT} "// Generated from migrations/.
#include \"server/store/store_migrations.h\"

${texts}
const StoreMigration STORE_MIGRATIONS[] = {
${rows}};
const size_t STORE_MIGRATION_COUNT = ${count};
")
