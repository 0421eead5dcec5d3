# SPDX-License-Identifier: Apache-2.0
# cmake -DINPUT=file -DOUTPUT=file.c -DSYMBOL=name -P embed_bytes.cmake: a file as a C array.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n"
       bytes "${bytes}")
file(WRITE ${OUTPUT} "// Generated from ${SYMBOL}; do not edit.
#include <stddef.h>
#include <stdint.h>

const uint8_t ${SYMBOL}[] = {
${bytes}
};
const size_t ${SYMBOL}_size = sizeof(${SYMBOL});
")
