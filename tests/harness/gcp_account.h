// SPDX-License-Identifier: Apache-2.0
// A service account of a test: its JSON key, and Google's side of the exchange of a signed
// assertion, which checks all of it.
#pragma once

typedef struct GcpAccount GcpAccount;

GcpAccount *gcp_account_new(const char *token_uri); // one RSA key for all of them
void gcp_account_free(GcpAccount *account);         // NULL is fine
const char *gcp_account_key_json(const GcpAccount *account);
// Why Google would refuse the body of a request for a token; NULL when it would not.
const char *gcp_account_refusal(const GcpAccount *account, const char *form, const char *scope);
char *gcp_account_public_pem(const GcpAccount *account); // malloc'd
// A field of a form, decoded; NULL when it is absent. malloc'd.
char *form_field(const char *form, const char *name);
