// SPDX-License-Identifier: Apache-2.0
// Inside common/ only: the certificates that HTTPS servers are verified with, parsed once for the
// process. libcurl parses them for every connection: 16 ms of processor time for a system's bundle.
#pragma once

#include <openssl/x509_vfy.h>

// The certificates of a PEM text, or of a PEM file; a file that changed is read again. NULL: they
// cannot be read, and libcurl is to try and say why. The caller's to free with X509_STORE_free.
// The same certificates are the same store. Thread-safe.
X509_STORE *http_trust_get(const char *ca_path, const char *ca_pem);
