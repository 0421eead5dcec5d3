// SPDX-License-Identifier: Apache-2.0
#include "common/message_json.h"
