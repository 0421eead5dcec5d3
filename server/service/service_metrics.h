// SPDX-License-Identifier: Apache-2.0
// What /metrics has of the fleet, kept between scrapes. Only server/service includes it.
#pragma once

#include "server/service/service_internal.h"

MetricsCache *metrics_cache_new(void);
void metrics_cache_free(MetricsCache *cache); // nobody may be scraping
